"""One pass over text: moments, ranges and block influence at once, Hessians when they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from miaotui.compress.calibrate.digest import contents_digest, source_digest
from miaotui.compress.calibrate.hessians import Hessians, HessianSums
from miaotui.compress.calibrate.moments import InfluenceSum, MomentSums
from miaotui.compress.calibrate.section_program import Arithmetic
from miaotui.compress.calibrate.sections import sections
from miaotui.compress.calibrate.steps import make_steps
from miaotui.compress.calibrate.walk import Look, Walk
from miaotui.compress.calibration import Calibration, InputStatistics
from miaotui.formats import ModelFile
from miaotui.graph.nodes import Value
from miaotui.models import build_graph, gguf_name

STEP_TOKENS = 1024
HESSIAN_BYTES = 1536 << 20

Progress = Callable[[int, int], None]
"""Is told how many layers (and what is before and behind them) are done, of how many."""


@dataclass(frozen=True, slots=True)
class CollectOptions:
    """How to collect.

    hessians: whether they can be asked for; the model file must stay there until then. hessian_bytes: most memory for
    them and for the rows between two layers. step_tokens: most tokens of one step, and so of one sequence.
    """

    hessians: bool = True
    hessian_bytes: int = HESSIAN_BYTES
    step_tokens: int = STEP_TOKENS
    arithmetic: Arithmetic = field(default_factory=Arithmetic)


def collect(
    file: ModelFile,
    sequences: Sequence[Any],
    *,
    options: CollectOptions | None = None,
    progress: Progress | None = None,
) -> Calibration:
    """Run the model over sequences of token ids, each read from its own beginning, and sum up what its linears are fed.

    An embedding that doubles as the head has the head's inputs. Raises InvalidRequestError for no text, or a sequence
    longer than a step; CapacityError where the Hessians of one layer are more than the budget; ModelFileError and
    UnsupportedModelError as compiling the model does.
    """
    options = options or CollectOptions()
    steps = make_steps(sequences, options.step_tokens)
    parts = sections(build_graph(file.spec, file.weights), steps.max_tokens)
    walk = Walk(file, parts, steps, options.arithmetic)
    hessians = Hessians(walk, parts, options.hessian_bytes) if options.hessians else None
    inputs: dict[str, InputStatistics] = {}
    influence: list[float] = []
    for index, part in enumerate(parts):
        if progress is not None:
            progress(index, len(parts))
        found = _Sums(part.readers)
        last = HessianSums(part) if hessians is not None and part.exit is None else None
        walk.advance(found.add if last is None else _both(found.add, last.add))
        if hessians is not None and last is not None:
            hessians.keep(index, last.results())
        for value, sums in found.moments.items():
            hessian = None if hessians is None else partial(hessians.get, index, value)
            names = [gguf_name(file.spec.architecture, weight) for weight in part.readers[value]]
            inputs |= dict.fromkeys(names, replace(sums.statistics(), hessian=hessian))
        if part.layer is not None:
            influence.append(found.influence.influence())
    walk.restart()
    if progress is not None:
        progress(len(parts), len(parts))
    source, values = source_digest([one.path for one in file.weights.files]), np.array(influence, np.float32)
    digest = contents_digest(source, steps.num_tokens, inputs, values)
    return Calibration(source, steps.num_tokens, inputs, values, digest)


def _both(first: Look, second: Look) -> Look:
    def look(rows: Mapping[Value, NDArray[np.float32]], entry: Value | None, exit: Value | None) -> None:
        first(rows, entry, exit)
        second(rows, entry, exit)

    return look


class _Sums:
    """What is summed up of one section; a look for `Walk.advance`."""

    def __init__(self, values: Mapping[Value, object]) -> None:
        self.moments = {value: MomentSums(value.width) for value in values}
        self.influence = InfluenceSum()

    def add(self, rows: Mapping[Value, NDArray[np.float32]], entry: Value | None, exit: Value | None) -> None:
        for value, sums in self.moments.items():
            sums.add(rows[value])
        if entry is not None and exit is not None:
            self.influence.add(rows[entry], rows[exit])
