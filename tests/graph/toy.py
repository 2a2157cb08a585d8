"""A toy Llama without a file: a spec and random tensors of chosen types."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gguf
import numpy as np

from graph.numpy_reference import NumpyBatch, NumpyKv, NumpyProgram
from miaotui.formats.convolutions import Convolutions
from miaotui.formats.spec import ModelSpec, RopeScaling
from miaotui.formats.weights import Tensor, TensorType
from miaotui.graph.nodes import Graph
from miaotui.models import build_graph

SPEC: dict[str, Any] = {
    "architecture": "llama",
    "name": "toy",
    "source": "gguf",
    "vocab_size": 96,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_layers": 3,
    "num_heads": 2,
    "num_kv_heads": 1,
    "head_dim": 32,
    "context_length": 128,
    "norm_eps": 1e-5,
    "activation": "silu",
    "rope_dim": 32,
    "rope_theta": 10000.0,
    "rope_local_theta": None,
    "rope_scaling": RopeScaling(),
    "rope_pairing": "neox",
    "attention_scale": 0.25,
    "attention_bias": False,
    "sliding_window": None,
    "sliding_layers": (False, False, False),
    "attention_softcap": None,
    "final_softcap": None,
    "tie_embeddings": False,
    "embedding_scale": 1.0,
    "norm_offset": 0.0,
}


def toy_spec(**changes: Any) -> ModelSpec:
    return ModelSpec(**(SPEC | changes))


def make_tensor(name: str, shape: tuple[int, ...], kind: TensorType, rng: np.random.Generator) -> Tensor:
    array = rng.normal(1.0 if len(shape) == 1 else 0.0, 0.2, shape).astype(np.float32)
    blocks = gguf.quants.quantize(array, gguf.GGMLQuantizationType(int(kind)))
    return Tensor(name, kind, shape, np.ascontiguousarray(blocks).view(np.uint8).reshape(-1))


def toy_weights(spec: ModelSpec, types: Mapping[str, TensorType] | None = None, seed: int = 0) -> dict[str, Tensor]:
    """Random tensors; `types` maps parts of names to types, Q8_0 for other matrices, F32 for vectors."""
    rng = np.random.default_rng(seed)
    hidden, ffn, kv = spec.hidden_size, spec.intermediate_size, spec.num_kv_heads * spec.head_dim
    shapes: dict[str, tuple[int, ...]] = {
        "token_embd": (spec.vocab_size, hidden),
        "output": (spec.vocab_size, hidden),
        "output_norm": (hidden,),
    }
    layer_shapes: dict[str, tuple[int, ...]] = {
        "attn_norm": (hidden,),
        "attn_q": (hidden, hidden),
        "attn_k": (kv, hidden),
        "attn_v": (kv, hidden),
        "attn_output": (hidden, hidden),
        "ffn_norm": (hidden,),
        "ffn_gate": (ffn, hidden),
        "ffn_up": (ffn, hidden),
        "ffn_down": (hidden, ffn),
    }
    for layer in range(spec.num_layers):
        shapes |= {f"blk.{layer}.{name}": shape for name, shape in layer_shapes.items()}
    tensors = {}
    for stem, shape in shapes.items():
        kind = TensorType.F32 if len(shape) == 1 else TensorType.Q8_0
        kind = next((t for part, t in (types or {}).items() if part in stem), kind)
        tensors[f"{stem}.weight"] = make_tensor(f"{stem}.weight", shape, kind, rng)
    return tensors


def toy(types: Mapping[str, TensorType] | None = None, **changes: Any) -> tuple[Graph, dict[str, Tensor]]:
    """Unfused graph and its weights."""
    spec = toy_spec(**changes)
    weights = toy_weights(spec, types)
    return build_graph(spec, weights), weights


def toy_encoder(**changes: Any) -> tuple[Graph, dict[str, Tensor]]:
    """Unfused graph and weights of a text encoder, in Q8_0 where matrices are multiplied."""
    spec = toy_spec(architecture="bert", num_kv_heads=2, activation="gelu", num_token_types=2, **changes)
    rng = np.random.default_rng(0)
    hidden, ffn = spec.hidden_size, spec.intermediate_size
    tables = {"token_embd": spec.vocab_size, "position_embd": spec.context_length, "token_types": 2}
    matrices = {f"attn_{name}": (hidden, hidden) for name in ("q", "k", "v", "output")}
    matrices |= {"ffn_up": (ffn, hidden), "ffn_down": (hidden, ffn)}
    layers = range(spec.num_layers)
    norms = [f"blk.{i}.{name}" for i in layers for name in ("attn_output_norm", "layer_output_norm")]
    shapes: dict[str, tuple[int, ...]] = {f"{name}.weight": (rows, hidden) for name, rows in tables.items()}
    shapes |= {f"{name}.{part}": (hidden,) for name in ("token_embd_norm", *norms) for part in ("weight", "bias")}
    for name, shape in matrices.items():
        shapes |= {f"blk.{i}.{name}.weight": shape for i in layers} | {
            f"blk.{i}.{name}.bias": shape[:1] for i in layers
        }
    kinds = {
        name: TensorType.Q8_0 if name.startswith("blk") and len(s) > 1 else TensorType.F32 for name, s in shapes.items()
    }
    weights = {name: make_tensor(name, shape, kinds[name], rng) for name, shape in shapes.items()}
    return build_graph(spec, weights), weights


def toy_classifier() -> tuple[Graph, dict[str, Tensor]]:
    """Unfused graph and weights of a text classifier: two whole convolutions and a separable one."""
    convolutions = Convolutions((3, 4, 5), (0, 0, 2), ("no", "yes"))
    spec = toy_spec(architecture="text_cnn", activation="relu", convolutions=convolutions)
    rng = np.random.default_rng(0)
    hidden, filters = spec.hidden_size, spec.intermediate_size
    shapes: dict[str, tuple[int, ...]] = {
        "token_embd.weight": (spec.vocab_size, hidden),
        "blk.0.conv.weight": (filters, 3 * hidden),
        "blk.1.conv.weight": (filters, 4 * hidden),
        "blk.2.conv_depthwise.weight": (2 * 5 * hidden,),
        "blk.2.conv_pointwise.weight": (filters, 2 * hidden),
        "cls.output.weight": (2, 3 * filters),
        "cls.output.bias": (2,),
    }
    shapes |= {f"blk.{name}.bias": (filters,) for name in ("0.conv", "1.conv", "2.conv_pointwise")}
    kinds = {name: TensorType.Q8_0 if len(shape) > 1 else TensorType.F32 for name, shape in shapes.items()}
    weights = {name: make_tensor(name, shape, kinds[name], rng) for name, shape in shapes.items()}
    return build_graph(spec, weights), weights


def run_toy(graph: Graph, weights: Mapping[str, Tensor], dtype: type = np.float64, **options: Any) -> np.ndarray:
    """Logits of two prompts of unequal length and then of one more token each; not every row is wanted."""
    rng = np.random.default_rng(7)
    program, kv = NumpyProgram(graph, weights, dtype, **options), NumpyKv()
    tokens = [int(t) for t in rng.integers(0, graph.nodes[0].matrices[0].num_rows, 14)]
    first = NumpyBatch(tokens[:12], [*range(5), *range(7)], [0, 5, 12], [0, 1], [1, 4, 11])
    second = NumpyBatch(tokens[12:], [5, 7], [0, 1, 2], [0, 1], [0, 1])
    return np.concatenate([program.run(first, kv), program.run(second, kv)])
