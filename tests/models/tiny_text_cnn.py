"""A small text classifier of random weights: as a file, and as PyTorch computes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from miaotui.formats import ModelFile, open_model
from miaotui.formats.convolutions import Convolutions
from miaotui.formats.gguf_write import GgufWriter, PlannedTensor
from miaotui.formats.spec_text_cnn import fields_of_text_cnn
from miaotui.formats.weights import TensorType

VOCAB, HIDDEN, FILTERS, CONTEXT = 90, 64, 48, 40
WHOLE = Convolutions((3, 4, 7), (0, 0, 0), ("no", "yes"))
SEPARABLE = replace(WHOLE, ranks=(1, 2, 0))


def random_arrays(convolutions: Convolutions, seed: int = 0) -> dict[str, np.ndarray]:
    """Tensors by their GGUF names."""
    rng = np.random.default_rng(seed)
    shapes: dict[str, tuple[int, ...]] = {"token_embd.weight": (VOCAB, HIDDEN)}
    for layer, (taps, rank) in enumerate(zip(convolutions.taps, convolutions.ranks, strict=True)):
        if rank:
            shapes[f"blk.{layer}.conv_depthwise.weight"] = (rank * taps * HIDDEN,)
            shapes[f"blk.{layer}.conv_pointwise.weight"] = (FILTERS, rank * HIDDEN)
            shapes[f"blk.{layer}.conv_pointwise.bias"] = (FILTERS,)
        else:
            shapes[f"blk.{layer}.conv.weight"] = (FILTERS, taps * HIDDEN)
            shapes[f"blk.{layer}.conv.bias"] = (FILTERS,)
    shapes["cls.output.weight"] = (len(convolutions.labels), len(convolutions.taps) * FILTERS)
    shapes["cls.output.bias"] = (len(convolutions.labels),)
    return {name: (rng.standard_normal(s) / s[-1] ** 0.25).astype(np.float32) for name, s in shapes.items()}


def write_text_cnn(path: Path, convolutions: Convolutions, arrays: Mapping[str, np.ndarray]) -> Path:
    fields = fields_of_text_cnn("tiny", HIDDEN, FILTERS, CONTEXT, convolutions)
    planned = [PlannedTensor(name, TensorType.F32, array.shape) for name, array in arrays.items()]
    with GgufWriter(path, fields, planned) as writer:
        for name, array in arrays.items():
            writer.write(name, np.ascontiguousarray(array).reshape(-1).view(np.uint8))
    return path


@dataclass
class TinyTextCnn:
    path: Path
    file: ModelFile
    convolutions: Convolutions
    arrays: dict[str, np.ndarray]

    def scores(self, texts: list[list[int]]) -> np.ndarray:
        """What PyTorch makes of the texts one by one, in float64."""
        tensors = {name: torch.from_numpy(array).double() for name, array in self.arrays.items()}
        rows = []
        for text in texts:
            x = tensors["token_embd.weight"][torch.tensor(text)].T[None]  # [1, hidden, tokens]
            largest = [
                self._convolved(tensors, x, layer).relu().amax(2) for layer in range(len(self.convolutions.taps))
            ]
            rows.append(torch.cat(largest, 1) @ tensors["cls.output.weight"].T + tensors["cls.output.bias"])
        return torch.cat(rows).numpy()

    def _convolved(self, tensors: dict[str, torch.Tensor], x: torch.Tensor, layer: int) -> torch.Tensor:
        taps, rank = self.convolutions.taps[layer], self.convolutions.ranks[layer]
        conv = torch.nn.functional.conv1d
        x = torch.nn.functional.pad(x, ((taps - 1) // 2, taps // 2))
        if not rank:
            weight = tensors[f"blk.{layer}.conv.weight"].reshape(FILTERS, taps, HIDDEN).transpose(1, 2)
            return conv(x, weight, tensors[f"blk.{layer}.conv.bias"])
        filters = tensors[f"blk.{layer}.conv_depthwise.weight"].reshape(rank, taps, HIDDEN).permute(2, 0, 1)
        filters = filters.reshape(HIDDEN * rank, 1, taps)  # PyTorch has a channel's filters side by side
        columns = conv(x, filters, groups=HIDDEN)
        weight = tensors[f"blk.{layer}.conv_pointwise.weight"].reshape(FILTERS, rank, HIDDEN).transpose(1, 2)
        bias = tensors[f"blk.{layer}.conv_pointwise.bias"]
        return conv(columns, weight.reshape(FILTERS, HIDDEN * rank, 1), bias)


def tiny_text_cnn(folder: Path, convolutions: Convolutions = WHOLE) -> TinyTextCnn:
    arrays = random_arrays(convolutions)
    path = write_text_cnn(folder / f"tiny-{'-'.join(map(str, convolutions.ranks))}.gguf", convolutions, arrays)
    return TinyTextCnn(path, open_model(path), convolutions, arrays)
