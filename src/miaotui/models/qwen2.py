"""Qwen 2 and 2.5 (arXiv:2407.10671, arXiv:2412.15115): Llama's layers with biases on query, key and value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from miaotui.formats.spec import ModelSpec
from miaotui.formats.weights import Tensor
from miaotui.graph.nodes import Graph
from miaotui.models import llama

TENSORS = llama.TENSORS


def build(spec: ModelSpec, weights: Mapping[str, Tensor]) -> Graph:
    """Llama's graph; the three biases must be there, whatever the file's settings say of them."""
    return llama.build(replace(spec, attention_bias=True), weights)
