"""All tokens on their way through the layers: only the rows between two layers are held."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from miaotui.compress.calibrate.section_program import Arithmetic, SectionProgram
from miaotui.compress.calibrate.sections import Section
from miaotui.compress.calibrate.steps import Steps
from miaotui.formats import ModelFile
from miaotui.graph.nodes import Value

Floats = NDArray[np.float32]
Look = Callable[[Mapping[Value, Floats], Value | None, Value | None], None]
"""Is told, for each step, its rows of every value, and which of them come into the section and go out."""


class Walk:
    """Stands before one of the sections; the rows that go into it are there, for all tokens."""

    def __init__(self, file: ModelFile, parts: tuple[Section, ...], steps: Steps, arithmetic: Arithmetic) -> None:
        self._file, self._parts, self._steps, self._arithmetic = file, parts, steps, arithmetic
        self._rows: Floats | None = None
        self.index = 0

    @property
    def num_tokens(self) -> int:
        """Of all sequences."""
        return self._steps.num_tokens

    @property
    def held_bytes(self) -> int:
        """Of the rows."""
        return 0 if self._rows is None else self._rows.nbytes

    @property
    def most_bytes(self) -> int:
        """What `held_bytes` can be."""
        return 4 * self._steps.num_tokens * max(part.exit.width for part in self._parts if part.exit is not None)

    def restart(self) -> None:
        """Go back before the first section."""
        self._rows, self.index = None, 0

    def advance(self, look: Look | None = None) -> None:
        """Run the next section over all tokens, replacing the rows by those that it hands on."""
        part = self._parts[self.index]
        program = SectionProgram(part, self._file, self._steps, self._arithmetic)
        rows = self._rows
        for step in self._steps.steps:
            before = None if rows is None or part.entry is None else rows[step.first : step.last]
            values = program.run(step, before)
            if look is not None:
                look(values, part.entry, part.exit)
            if part.exit is not None:
                if rows is None or rows.shape[1] != part.exit.width:
                    rows = np.empty((self._steps.num_tokens, part.exit.width), np.float32)
                rows[step.first : step.last] = values[part.exit]
        self._rows = rows
        self.index += 1
