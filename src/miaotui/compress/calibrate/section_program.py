"""A section's stages as native programs, which run one after the other on the rows of a step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from miaotui import _native
from miaotui.compress.calibrate.sections import Section
from miaotui.compress.calibrate.steps import Step, Steps
from miaotui.core import Activations
from miaotui.formats import ModelFile
from miaotui.formats.weights import Tensor, TensorType
from miaotui.formats.with_tensors import WithTensors
from miaotui.graph.compile import CompileOptions, compile_graph
from miaotui.graph.nodes import Value

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """What linears multiply with, and how keys and values are kept within a step."""

    activations: Activations = "int16"
    kv_dtype: str = "int16"


class SectionProgram:
    """Runs one layer. `weights` of the file must stay open meanwhile."""

    def __init__(self, section: Section, file: ModelFile, steps: Steps, arithmetic: Arithmetic) -> None:
        self._section = section
        values = [value for value in (section.entry, *(s.result for s in section.stages)) if value is not None]
        self._rows = {value: np.zeros((steps.max_tokens, value.width), np.float32) for value in values}
        options = CompileOptions(
            activations=arithmetic.activations,
            max_tokens=steps.max_tokens,
            max_sequences=steps.max_sequences,
            max_logit_rows=steps.max_tokens,
        )
        self._programs = [
            compile_graph(
                stage.graph,
                WithTensors(
                    file.weights, {name: _tensor(name, self._rows[value]) for name, value in stage.given.items()}
                ),
                options=options,
            ).program
            for stage in section.stages
        ]
        spec = file.spec
        self._kv = _native.KvPool(1, spec.num_kv_heads, spec.head_dim, steps.max_blocks, arithmetic.kv_dtype)
        self._all = np.arange(steps.max_tokens, dtype=np.int32)

    def run(self, step: Step, entry: Floats | None) -> Mapping[Value, Floats]:
        """The step's rows of the entry and of every stage's result; valid until the next run."""
        count = step.num_tokens
        if entry is not None and self._section.entry is not None:
            self._rows[self._section.entry][:count] = entry
        for stage, program in zip(self._section.stages, self._programs, strict=True):
            ids = step.token_ids if self._section.entry is None else self._all[:count]
            program.run(self._kv, ids, step.positions, step.offsets, step.block_tables, self._all[:count])
            self._rows[stage.result][:count] = program.logits
        return {value: rows[:count] for value, rows in self._rows.items()}


def _tensor(name: str, rows: Floats) -> Tensor:
    return Tensor(name, TensorType.F32, rows.shape, rows.reshape(-1).view(np.uint8))
