"""Gemma 3, text (arXiv:2503.19786): norms before and after each block, local and global attention layers."""

from __future__ import annotations

from collections.abc import Mapping

from miaotui.formats.spec import ModelSpec
from miaotui.formats.weights import Tensor
from miaotui.graph.builder import GraphBuilder
from miaotui.graph.nodes import Graph
from miaotui.graph.rope import plain_rope_table
from miaotui.models import qwen3

TENSORS = qwen3.TENSORS | {
    "attention_post_norm": ("blk.{}.post_attention_norm", "model.layers.{}.post_attention_layernorm"),
    "mlp_norm": ("blk.{}.ffn_norm", "model.layers.{}.pre_feedforward_layernorm"),
    "mlp_post_norm": ("blk.{}.post_ffw_norm", "model.layers.{}.post_feedforward_layernorm"),
}


def build(spec: ModelSpec, weights: Mapping[str, Tensor]) -> Graph:
    """Scaled embedding; sliding layers turn by their own rope table; GeGLU MLP; norm gains are stored minus one."""
    b = GraphBuilder(spec, weights, TENSORS)
    b.add_rope_table("local", plain_rope_table(spec.rope_dim, spec.rope_local_theta or spec.rope_theta))
    query_width, kv_width = spec.num_heads * spec.head_dim, spec.num_kv_heads * spec.head_dim
    x = b.embed()
    for layer in b.layers():
        table = "local" if spec.sliding_layers[layer] else "main"
        h = b.norm(x, "attention_norm")
        q, k, v = b.linear(h, "query", query_width), b.linear(h, "key", kv_width), b.linear(h, "value", kv_width)
        q = b.rope(b.norm(q, "query_norm", group=spec.head_dim), table)
        k = b.rope(b.norm(k, "key_norm", group=spec.head_dim), table)
        h = b.linear(b.attention(q, k, v), "attention_output", spec.hidden_size)
        x = b.add(x, b.norm(h, "attention_post_norm"))
        h = b.gated_mlp(b.norm(x, "mlp_norm"))
        x = b.add(x, b.norm(h, "mlp_post_norm"))
    return b.logits(x)
