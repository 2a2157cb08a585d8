"""When a model's choices of speed are made: as it is opened, or in the pauses of a server that is ready before."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from miaotui.engine import tuning
from miaotui.formats.spec import ModelSpec
from miaotui.graph.compile import CompiledProgram

AT_START_S = 2.5
"""Most seconds that the first start of a model on a machine spends measuring, where it does so."""
IN_PAUSES_S = 10.0
"""Likewise a pause of a server, which ends it when there is work."""


class Tuner:
    """Measures what is fastest for a program on this machine, unless that is known from an earlier start.

    What is known is in force from the beginning. max_tokens: of a step. home: `Config.home`.
    """

    def __init__(
        self, compiled: CompiledProgram, spec: ModelSpec, kv_dtype: str, *, max_tokens: int, home: Path
    ) -> None:
        self._compiled, self._spec, self._kv_dtype, self._max_tokens = compiled, spec, kv_dtype, max_tokens
        self._file = tuning.tuning_file(home, compiled, spec, max_tokens)
        found = tuning.load(self._file)
        self._found = found if found is not None and tuning.apply(compiled, found) else None

    @property
    def is_done(self) -> bool:
        """Whether every choice has been made."""
        return self._found is not None and self._found.is_complete

    def go_on(self, budget_s: float, may_go_on: Callable[[], bool] = lambda: True) -> None:
        """Make and keep the choices that there is time for; others are for the next time.

        may_go_on: asked before each step that is measured. No other step of the program may run meanwhile.
        """
        if self.is_done:
            return
        before = self._found
        self._found = tuning.measure(
            self._compiled,
            self._spec,
            self._kv_dtype,
            max_tokens=self._max_tokens,
            budget_s=budget_s,
            before=before,
            may_go_on=may_go_on,
        )
        if self._found.measured != (before.measured if before else []):
            tuning.save(self._file, self._found)
