"""BERT (arXiv:1810.04805) as a text encoder, after Sentence-BERT (arXiv:1908.10084): MiniLM, BGE, E5, GTE."""

from __future__ import annotations

from collections.abc import Mapping

from miaotui.formats.spec import ModelSpec
from miaotui.formats.weights import Tensor
from miaotui.graph.builder import GraphBuilder
from miaotui.graph.nodes import Graph

TENSORS = {
    "embedding": ("token_embd", "model.embeddings.word_embeddings"),
    "positions": ("position_embd", "model.embeddings.position_embeddings"),
    "token_types": ("token_types", "model.embeddings.token_type_embeddings"),
    "embedding_norm": ("token_embd_norm", "model.embeddings.LayerNorm"),
    "query": ("blk.{}.attn_q", "model.encoder.layer.{}.attention.self.query"),
    "key": ("blk.{}.attn_k", "model.encoder.layer.{}.attention.self.key"),
    "value": ("blk.{}.attn_v", "model.encoder.layer.{}.attention.self.value"),
    "attention_output": ("blk.{}.attn_output", "model.encoder.layer.{}.attention.output.dense"),
    "attention_norm": ("blk.{}.attn_output_norm", "model.encoder.layer.{}.attention.output.LayerNorm"),
    "up": ("blk.{}.ffn_up", "model.encoder.layer.{}.intermediate.dense"),
    "down": ("blk.{}.ffn_down", "model.encoder.layer.{}.output.dense"),
    "mlp_norm": ("blk.{}.layer_output_norm", "model.encoder.layer.{}.output.LayerNorm"),
}


def build(spec: ModelSpec, weights: Mapping[str, Tensor]) -> Graph:
    """Post-norm encoder: learned positions, attention in both directions, an MLP; then one row for each sequence."""
    b = GraphBuilder(spec, weights, TENSORS)
    width = spec.hidden_size
    x = b.layer_norm(b.add_positions(b.embed()), "embedding_norm")
    for _ in b.layers():
        q, k, v = (b.linear(x, name, width, bias=True) for name in ("query", "key", "value"))
        h = b.linear(b.self_attention(q, k, v), "attention_output", width, bias=True)
        x = b.layer_norm(b.add(x, h), "attention_norm")
        x = b.layer_norm(b.add(x, b.mlp(x)), "mlp_norm")
    return b.pooled(x)
