"""Factors beside a model's matrices as files: an adapter as llama.cpp takes it, or a model that holds its own.

The adapter is a standard LoRA in GGUF: `general.type` is "adapter", `NAME.weight.lora_a` [rank, columns] and
`NAME.weight.lora_b` [rows, rank], scaled by alpha / rank, which is 1 here. A model file with these tensors in it runs
in miaotui only; other engines refuse tensors that they do not know.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from miaotui.compress.quantize.correction import Correction, kind_of_a
from miaotui.compress.source import Source
from miaotui.errors import ModelFileError
from miaotui.formats.gguf import read_gguf
from miaotui.formats.gguf_write import Field, GgufWriter, PlannedTensor, encode_f32, encode_field
from miaotui.formats.quantized import quantize_q8_0
from miaotui.formats.weights import TensorType

Told = Callable[[Correction, int, int], None]


def write_adapter(
    path: Path, model: Source, names: list[str], rank: int, found: Iterable[Correction], *, told: Told | None = None
) -> Path:
    """Write corrections of the matrices `names` of the quantized model, in that order, as they are found.

    The file appears when it is whole, and says what the model's file says of its making, so that an interrupted one is
    only gone on with for the same model. `told` hears each, how many are done, of how many. Raises OutputError where
    the file cannot be written.
    """
    fields: dict[str, Field] = {
        "general.type": encode_field("adapter"),
        "general.architecture": model.fields["general.architecture"],
        "adapter.type": encode_field("lora"),
        "adapter.lora.alpha": encode_f32(float(rank)),
        **{key: value for key, value in model.fields.items() if key.startswith("miaotui.")},
    }
    planned = []
    for name in names:
        rows, columns = model.tensors[name].shape
        planned.append(PlannedTensor(f"{name}.lora_a", kind_of_a(columns), (rank, columns)))
        planned.append(PlannedTensor(f"{name}.lora_b", TensorType.F16, (rows, rank)))
    with GgufWriter(path, fields, planned) as writer:
        for done, one in enumerate(found):
            if told is not None:
                told(one, done, len(names))
            for factor, kind, weights in (("a", kind_of_a(one.a.shape[1]), one.a), ("b", TensorType.F16, one.b)):
                if not writer.is_written(f"{one.name}.lora_{factor}"):
                    writer.write(f"{one.name}.lora_{factor}", _as_bytes(kind, weights, one.name))
    return path


def write_merged(model: Path, adapter: Path, output: Path, fields: dict[str, Field] | None = None) -> Path:
    """Write the model's tensors and the adapter's into one file, byte for byte; metadata are the model's and `fields`.

    Raises ModelFileError where the adapter's tensors are not of this model.
    """
    files = read_gguf(model), read_gguf(adapter)
    for name in files[1].weights:
        if name.rpartition(".lora_")[0] not in files[0].weights or name in files[0].weights:
            raise ModelFileError(f"{adapter}: tensor '{name}' corrects none of {model}; give the model's own adapter.")
    tensors = [tensor for file in files for tensor in file.weights.values()]
    planned = [PlannedTensor(tensor.name, tensor.type, tensor.shape) for tensor in tensors]
    with GgufWriter(output, {**files[0].fields, **(fields or {})}, planned) as writer:
        for file in files:
            for name, tensor in file.weights.items():
                if not writer.is_written(name):
                    writer.write(name, tensor.data)
                file.weights.release(name)
    return output


def _as_bytes(kind: TensorType, factor: NDArray[np.float32], name: str) -> NDArray[np.uint8]:
    if kind is TensorType.Q8_0:
        return quantize_q8_0(factor, name)
    return factor.astype(np.float16).reshape(-1).view(np.uint8)
