"""Sources and calibrations for tests of transforms, and whole models written from them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from miaotui import LLM
from miaotui.compress.calibration import Calibration, InputStatistics
from miaotui.compress.source import Change, Changed, Source
from miaotui.formats.gguf_write import GgufWriter, PlannedTensor
from miaotui.formats.weights import TensorType

PROMPT = "the cat and the dog and the cat"


def statistics(columns: int, seed: int, *, hessian: bool = True) -> InputStatistics:
    """Of inputs that differ in size and go together, as a model's do."""
    rng = np.random.default_rng(seed)
    mixed = rng.normal(size=(4 * columns, columns)) @ rng.normal(size=(columns, columns)) / columns**0.5
    inputs = (mixed * np.exp(rng.normal(size=columns))).astype(np.float32)
    square = inputs.T @ inputs / len(inputs)
    means = np.abs(inputs).mean(axis=0)
    return InputStatistics(len(inputs), square.diagonal().copy(), means, (lambda: square) if hessian else None)


def calibration(source: Source, *, hessian: bool = True) -> Calibration:
    """Some statistics for every matrix; those that read the same rows have the same ones."""
    inputs = {}
    for name, tensor in source.tensors.items():
        if len(tensor.shape) == 2:
            seed = sum(map(ord, name.partition("attn_q")[0])) if "attn_q" in name else sum(map(ord, name))
            inputs[name] = statistics(tensor.shape[1], seed, hessian=hessian)
    return Calibration("0" * 64, 100, inputs, digest="d")


def with_biases(source: Source) -> Source:
    """Biases on query, key and value, as Qwen 2 has them."""
    rng = np.random.default_rng(9)
    changes = {}
    for name, tensor in source.tensors.items():
        if name.endswith(("attn_q.weight", "attn_k.weight", "attn_v.weight")):
            bias = rng.normal(size=tensor.shape[0]).astype(np.float32)
            changes[name.replace("weight", "bias")] = Change(bias.shape, lambda first, last, bias=bias: bias)
    return Changed(source, changes)


def write_whole(source: Source, path: Path) -> Path:
    """The source in float32."""
    planned = [PlannedTensor(t.name, TensorType.F32, t.shape) for t in source.tensors.values()]
    with GgufWriter(path, source.fields, planned) as writer:
        for name in source.tensors:
            writer.write(name, np.ascontiguousarray(source.floats(name)).reshape(-1).view(np.uint8))
    return path


def logits_of(source: Source, path: Path) -> np.ndarray:
    """What the model says to a prompt, in float32 throughout; written to `path` for that."""
    with LLM(write_whole(source, path), activations="float32", kv_dtype="f32") as llm:
        return llm.logits(PROMPT)
