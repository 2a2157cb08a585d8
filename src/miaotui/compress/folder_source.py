"""A Hugging Face folder as what a GGUF file of the same model holds: names, metadata and tokenizer as llama.cpp's
converter writes them (`conversion/`), so that the output runs elsewhere, too."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from miaotui.compress.plan import KEPT
from miaotui.compress.source import Floats, SourceTensor, in_layer_order, read_rows
from miaotui.formats import ModelFile, open_model
from miaotui.formats.byte_level_gguf import byte_level_metadata
from miaotui.formats.gguf_write import Field, StandardValue, encode_as_converted
from miaotui.formats.spec import ModelSpec
from miaotui.formats.spec_encoder import bert_metadata
from miaotui.formats.spec_gguf_write import decoder_metadata
from miaotui.formats.weights import Tensor, TensorType
from miaotui.formats.wordpiece import folder_tokenizer
from miaotui.formats.wordpiece_gguf import to_metadata
from miaotui.graph.builder import hugging_face_prefix
from miaotui.graph.rope import main_rope_table, plain_rope_table
from miaotui.models import TENSOR_TABLES, build_graph

ROPE_FACTORS = "rope_freqs.weight"
_TURNED = ("attn_q.", "attn_k.")


class FolderSource:
    """The tensors of a folder's safetensors, by their GGUF names. `path` is the folder.

    Raises what `open_model` does, TokenizerError for a damaged tokenizer, UnsupportedModelError for a model that has no
    form as a GGUF file here, ModelFileError where tensors are missing or of the wrong shape.
    """

    def __init__(self, path: Path) -> None:
        file = open_model(path)
        build_graph(file.spec, file.weights)  # looks at names and shapes
        metadata = _metadata(path, file.spec)
        self._weights = file.weights
        self._tensors = dict(_by_gguf_name(file))
        self._order = {name: _row_order(file.spec, name, t.shape[0]) for name, t in self._tensors.items()}
        self._factors = _rope_factors(file)
        self.path = path
        self.metadata: Mapping[str, object] = metadata
        self.fields: Mapping[str, Field] = {key: encode_as_converted(value) for key, value in metadata.items()}
        tensors = {name: self._as_written(name, tensor) for name, tensor in self._tensors.items()}
        if self._factors is not None:
            tensors[ROPE_FACTORS] = SourceTensor(ROPE_FACTORS, self._factors.shape, TensorType.F32)
        self.tensors = in_layer_order(tensors)

    def floats(self, name: str, first: int = 0, last: int | None = None) -> Floats:
        """See `Source.floats`."""
        if name == ROPE_FACTORS and self._factors is not None:
            return self._factors[first:last]
        tensor, order = self._tensors[name], self._order[name]
        if order is None:
            return read_rows(tensor, first, last)
        chosen = order[first:last]
        rows = tensor.data.reshape(tensor.shape[0], -1)[chosen]
        return read_rows(replace(tensor, shape=(len(chosen), *tensor.shape[1:]), data=rows.reshape(-1)), 0, None)

    def release(self, name: str) -> None:
        """See `Source.release`."""
        if name in self._tensors:
            self._weights.release(self._tensors[name].name)

    def _as_written(self, name: str, tensor: Tensor) -> SourceTensor:
        """Vectors and small tables become float32, which is what llama.cpp computes them in."""
        as_floats = len(tensor.shape) == 1 or name in KEPT
        kind = TensorType.F32 if as_floats else tensor.type
        same = kind is tensor.type and self._order[name] is None
        return SourceTensor(name, tensor.shape, kind, tensor.data if same else None)


def _by_gguf_name(file: ModelFile) -> Iterator[tuple[str, Tensor]]:
    """Each tensor that the architecture knows: first those of the whole model, then layer by layer."""
    table = dict(TENSOR_TABLES[file.spec.architecture])
    if file.spec.tie_embeddings:
        table.pop("head", None)
    layers = range(file.spec.num_layers)
    prefix = hugging_face_prefix(file.weights)
    names = [pair for pair in table.values() if "{}" not in pair[0]]
    names += [(gguf.format(at), name.format(at)) for at in layers for gguf, name in table.values() if "{}" in gguf]
    for gguf, name in names:
        in_file = prefix + name.removeprefix("model.") if name.startswith("model.") else name
        for suffix in (".weight", ".bias"):
            if in_file + suffix in file.weights:
                yield gguf + suffix, file.weights[in_file + suffix]


def _row_order(spec: ModelSpec, name: str, num_rows: int) -> NDArray[np.intp] | None:
    """Where each row comes from: llama's files turn neighbouring columns of a head, the folders' turn (i, i + half)."""
    if spec.architecture != "llama" or not name.rpartition("blk.")[2].partition(".")[2].startswith(_TURNED):
        return None
    return np.arange(num_rows).reshape(-1, 2, spec.head_dim // 2).swapaxes(1, 2).reshape(-1)


def _rope_factors(file: ModelFile) -> Floats | None:
    """What the plain frequencies are divided by in Llama 3.1, which GGUF files keep as a tensor."""
    spec = file.spec
    if spec.rope_scaling.kind != "llama3":
        return None
    plain = np.array(plain_rope_table(spec.rope_dim, spec.rope_theta).inv_freq)
    factors: Floats = (plain / np.array(main_rope_table(spec, file.weights).inv_freq)).astype(np.float32)
    return factors


def _metadata(path: Path, spec: ModelSpec) -> dict[str, StandardValue]:
    general: dict[str, StandardValue] = {
        "general.architecture": spec.architecture,
        "general.type": "model",
        "general.name": spec.name,
    }
    if spec.is_encoder:
        return {**general, **bert_metadata(spec), **to_metadata(folder_tokenizer(path), spec.vocab_size)}
    return {**general, **decoder_metadata(spec), **byte_level_metadata(path, spec.vocab_size)}
