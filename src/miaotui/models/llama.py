"""Llama (arXiv:2302.13971, arXiv:2407.21783), and what shares its layers: Mistral, SmolLM, TinyLlama."""

from __future__ import annotations

from collections.abc import Mapping

from miaotui.formats.spec import ModelSpec
from miaotui.formats.weights import Tensor
from miaotui.graph.builder import GraphBuilder
from miaotui.graph.nodes import Graph

TENSORS = {
    "embedding": ("token_embd", "model.embed_tokens"),
    "attention_norm": ("blk.{}.attn_norm", "model.layers.{}.input_layernorm"),
    "query": ("blk.{}.attn_q", "model.layers.{}.self_attn.q_proj"),
    "key": ("blk.{}.attn_k", "model.layers.{}.self_attn.k_proj"),
    "value": ("blk.{}.attn_v", "model.layers.{}.self_attn.v_proj"),
    "attention_output": ("blk.{}.attn_output", "model.layers.{}.self_attn.o_proj"),
    "mlp_norm": ("blk.{}.ffn_norm", "model.layers.{}.post_attention_layernorm"),
    "gate": ("blk.{}.ffn_gate", "model.layers.{}.mlp.gate_proj"),
    "up": ("blk.{}.ffn_up", "model.layers.{}.mlp.up_proj"),
    "down": ("blk.{}.ffn_down", "model.layers.{}.mlp.down_proj"),
    "final_norm": ("output_norm", "model.norm"),
    "head": ("output", "lm_head"),
}


def build(spec: ModelSpec, weights: Mapping[str, Tensor]) -> Graph:
    """Pre-norm decoder: grouped-query attention with rotary positions, SwiGLU MLP."""
    b = GraphBuilder(spec, weights, TENSORS)
    query_width, kv_width = spec.num_heads * spec.head_dim, spec.num_kv_heads * spec.head_dim
    x = b.embed()
    for _ in b.layers():
        h = b.norm(x, "attention_norm")
        q = b.linear(h, "query", query_width, bias=spec.attention_bias)
        k = b.linear(h, "key", kv_width, bias=spec.attention_bias)
        v = b.linear(h, "value", kv_width, bias=spec.attention_bias)
        h = b.attention(b.rope(q), b.rope(k), v)
        x = b.add(x, b.linear(h, "attention_output", spec.hidden_size))
        x = b.add(x, b.gated_mlp(b.norm(x, "mlp_norm")))
    return b.logits(x)
