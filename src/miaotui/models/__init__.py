"""One file per architecture; this registry is the only place that lists them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from miaotui.errors import UnsupportedModelError
from miaotui.formats.spec import ModelSpec
from miaotui.formats.weights import Tensor
from miaotui.graph.builder import TensorTable
from miaotui.graph.nodes import Graph, Weight
from miaotui.models import bert, gemma3, llama, qwen2, qwen3, text_cnn

_BUILDERS: Mapping[str, Callable[[ModelSpec, Mapping[str, Tensor]], Graph]] = {
    "llama": llama.build,
    "qwen2": qwen2.build,
    "qwen3": qwen3.build,
    "gemma3": gemma3.build,
    "bert": bert.build,
    "text_cnn": text_cnn.build,
}

TENSOR_TABLES: Mapping[str, TensorTable] = {
    "llama": llama.TENSORS,
    "qwen2": qwen2.TENSORS,
    "qwen3": qwen3.TENSORS,
    "gemma3": gemma3.TENSORS,
    "bert": bert.TENSORS,
    "text_cnn": text_cnn.TENSORS,
}
"""What each architecture's tensors are called in GGUF files and in Hugging Face folders."""

SUPPORTED: tuple[str, ...] = tuple(_BUILDERS)
"""Names that `ModelSpec.architecture` may have."""


def build_graph(spec: ModelSpec, weights: Mapping[str, Tensor]) -> Graph:
    """The unfused graph of a model; only names, types and shapes of `weights` are read, and its rope factors.

    Raises UnsupportedModelError for an unknown architecture or unexpected layer tensors, ModelFileError for tensors
    that are missing or of the wrong shape.
    """
    build = _BUILDERS.get(spec.architecture)
    if build is None:
        raise UnsupportedModelError(
            f"architecture {spec.architecture!r} is not supported; supported are {', '.join(SUPPORTED)}."
        )
    return build(spec, weights)


def gguf_name(architecture: str, weight: Weight) -> str:
    """What a matrix of a model's graph is called in GGUF files, whatever file it is from."""
    whole, dot, factor = weight.name.partition(".lora_")
    if dot:
        return gguf_name(architecture, replace(weight, name=whole)) + dot + factor
    layer, _, name = weight.name.rpartition(".")
    return TENSOR_TABLES[architecture][name][0].format(layer) + ".weight"
