"""A tiny teacher on the engine, a student that lost a layer of it, and the pieces between them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from miaotui import LLM
from miaotui.compress.compress import compress, open_source
from miaotui.compress.distil.distil import Job
from miaotui.compress.distil.settings import DistilSettings
from miaotui.compress.distil.supply import Material
from miaotui.compress.source import Change, Changed
from miaotui.formats.weights import TensorType

TOKENS = 24
SETTINGS = {
    "steps": 6,
    "learning_rate": 3e-3,
    "sequence_tokens": TOKENS,
    "batch_sequences": 4,
    "micro_sequences": 2,
    "top_k": 16,
    "checkpoint_s": 0.0,
}


class TinyTeacher:
    """The engine, one text after another; counts what it was asked."""

    def __init__(self, llm: LLM) -> None:
        self._llm = llm
        self.num_written = self.num_judged = 0

    def write(self, prompts: Sequence[Sequence[int]], num_tokens: int, seed: int) -> list[list[int]]:
        self.num_written += len(prompts)
        options = {"temperature": 1.0, "seed": seed, "max_tokens": num_tokens, "ignore_eos": True}
        answers = self._llm.generate([list(p) for p in prompts], progress=False, **options)
        return [[*p, *a.token_ids][:num_tokens] for p, a in zip(prompts, answers, strict=True)]

    def logits(self, ids: Sequence[int]) -> np.ndarray:
        self.num_judged += 1
        return self._llm.logits([int(token) for token in ids])


@contextmanager
def open_teacher(path: Path) -> Iterator[TinyTeacher]:
    with LLM(path, max_logit_rows=TOKENS, context_length=4 * TOKENS, activations="float32") as llm:
        yield TinyTeacher(llm)


def material(num_text_tokens: int = 0) -> Material:
    text = np.random.default_rng(1).integers(3, 260, num_text_tokens).astype(np.int32)
    return Material(text, [[5 + k, 40 + k] for k in range(40)])


def write_noisy(tiny_model: Path, path: Path, kind: TensorType = TensorType.F16, noise: float = 0.3) -> Path:
    """The model with noise on the matrices of its layers: something that can be healed."""
    source = open_source(tiny_model)
    rng = np.random.default_rng(2)
    changes: dict[str, Change | None] = {}
    for name, tensor in source.tensors.items():
        if name.startswith("blk.") and len(tensor.shape) == 2:
            floats = source.floats(name)
            noisy = floats + noise * floats.std() * rng.standard_normal(floats.shape).astype(np.float32)
            changes[name] = Change(tensor.shape, lambda first, last, noisy=noisy: noisy[first:last])
    return compress(Changed(source, changes), path, kind).path


def job(teacher: Path, student: Path, output: Path, **changes: object) -> Job:
    return Job(teacher, student, output, DistilSettings(**(SETTINGS | changes)))
