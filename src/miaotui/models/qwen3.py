"""Qwen 3 (arXiv:2505.09388): Llama's layers with an RMS norm of every query and key head."""

from __future__ import annotations

from collections.abc import Mapping

from miaotui.formats.spec import ModelSpec
from miaotui.formats.weights import Tensor
from miaotui.graph.builder import GraphBuilder
from miaotui.graph.nodes import Graph
from miaotui.models import llama

TENSORS = llama.TENSORS | {
    "query_norm": ("blk.{}.attn_q_norm", "model.layers.{}.self_attn.q_norm"),
    "key_norm": ("blk.{}.attn_k_norm", "model.layers.{}.self_attn.k_norm"),
}


def build(spec: ModelSpec, weights: Mapping[str, Tensor]) -> Graph:
    """Pre-norm decoder with normalized queries and keys, so that attention scores stay bounded."""
    b = GraphBuilder(spec, weights, TENSORS)
    query_width, kv_width = spec.num_heads * spec.head_dim, spec.num_kv_heads * spec.head_dim
    x = b.embed()
    for _ in b.layers():
        h = b.norm(x, "attention_norm")
        q, k, v = b.linear(h, "query", query_width), b.linear(h, "key", kv_width), b.linear(h, "value", kv_width)
        q = b.norm(q, "query_norm", group=spec.head_dim)
        k = b.norm(k, "key_norm", group=spec.head_dim)
        h = b.attention(b.rope(q), b.rope(k), v)
        x = b.add(x, b.linear(h, "attention_output", spec.hidden_size))
        x = b.add(x, b.gated_mlp(b.norm(x, "mlp_norm")))
    return b.logits(x)
