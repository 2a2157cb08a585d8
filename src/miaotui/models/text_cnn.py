"""TextCNN (arXiv:1408.5882): a sentence classifier of convolutions side by side; whole, or depthwise and pointwise."""

from __future__ import annotations

from collections.abc import Mapping

from miaotui.errors import UnsupportedModelError
from miaotui.formats.spec import ModelSpec
from miaotui.formats.weights import Tensor
from miaotui.graph.builder import GraphBuilder
from miaotui.graph.nodes import Graph

TENSORS = {
    name: (tensor, tensor)  # there are only GGUF files of it
    for name, tensor in {
        "embedding": "token_embd",
        "convolution": "blk.{}.conv",
        "depthwise": "blk.{}.conv_depthwise",
        "pointwise": "blk.{}.conv_pointwise",
        "head": "cls.output",
    }.items()
}


def build(spec: ModelSpec, weights: Mapping[str, Tensor]) -> Graph:
    """Windows of several widths over the embedding; each filter's largest value over the text; a linear head."""
    if spec.convolutions is None:
        raise UnsupportedModelError("a text_cnn without convolutions is not supported.")
    b = GraphBuilder(spec, weights, TENSORS)
    x, width = b.embed(), spec.intermediate_size
    rows = []
    for layer in b.layers():
        taps, rank = spec.convolutions.taps[layer], spec.convolutions.ranks[layer]
        separable = rank > 0
        rows.append(b.separable_convolution(x, width, taps, rank) if separable else b.convolution(x, width, taps))
    # ReLU behind the pooling: it keeps the order of values, and has one row to do instead of all.
    h = b.activate(b.max_pool(rows))
    return b.classified(h, len(spec.convolutions.labels))
