"""Linears with factors beside or instead of their matrix compute what the file says, fused or not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graph.numpy_reference import dequantize
from graph.toy import make_tensor, run_toy, toy_spec, toy_weights
from miaotui.core import ACTIVATIONS
from miaotui.errors import ModelFileError, UnsupportedModelError
from miaotui.formats.weights import Tensor, TensorType
from miaotui.graph.cost import Workload, total_cost
from miaotui.graph.nodes import Graph
from miaotui.graph.passes import PASSES, optimize, quantize_activations
from miaotui.graph.render import render_graph
from miaotui.models import build_graph

SPEC = toy_spec(num_layers=2, sliding_layers=(False, False))
LINEARS = ["attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"]


def factored(names: list[str], *, rank: int = 8, instead: bool = False) -> dict[str, Tensor]:
    """The toy's tensors, with factors for these linears of the first layer."""
    rng, weights = np.random.default_rng(3), toy_weights(SPEC)
    for name in names:
        full = f"blk.0.{name}.weight"
        rows, columns = weights[full].shape
        a, b = f"{full}.lora_a", f"{full}.lora_b"
        weights[a] = make_tensor(a, (rank, columns), TensorType.Q8_0, rng)
        weights[b] = make_tensor(b, (rows, rank), TensorType.F32, rng)
        if instead:
            del weights[full]
    return weights


def product_of(weights: dict[str, Tensor], name: str) -> np.ndarray:
    product = dequantize(weights[f"{name}.lora_b"]).astype(np.float64) @ dequantize(weights[f"{name}.lora_a"])
    return product + dequantize(weights[name]) if name in weights else product


def folded(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same model with whole matrices."""
    plain = {name: tensor for name, tensor in weights.items() if ".lora_" not in name}
    for name in {name.partition(".lora_")[0] for name in weights if ".lora_" in name}:
        matrix = product_of(weights, name).astype(np.float32)
        plain[name] = Tensor(name, TensorType.F32, matrix.shape, matrix.reshape(-1).view(np.uint8))
    return plain


@pytest.mark.parametrize("instead", [False, True])
@pytest.mark.parametrize("names", [["attn_q"], ["attn_output"], ["ffn_gate"], ["ffn_down"], LINEARS])
def test_factors_are_added_to_their_matrix_or_stand_for_it(names: list[str], instead: bool) -> None:
    weights = factored(names, instead=instead)
    plain = folded(weights)
    expected = run_toy(build_graph(SPEC, plain), plain)
    np.testing.assert_allclose(run_toy(build_graph(SPEC, weights), weights), expected, atol=1e-4)


@given(
    names=st.sets(st.sampled_from(LINEARS), min_size=1),
    disabled=st.sets(st.sampled_from(list(PASSES))),
    activations=st.sampled_from(ACTIVATIONS),
    instead=st.booleans(),
)
def test_any_choice_of_passes_gives_the_same_logits(names, disabled, activations, instead):
    weights = factored(sorted(names), instead=instead)
    graph = build_graph(SPEC, weights)
    plain = graph if activations == "float32" else quantize_activations(graph, activations)
    fused = optimize(graph, activations=activations, disabled=disabled)
    np.testing.assert_array_equal(run_toy(fused, weights), run_toy(plain, weights))


def labels(graph: Graph) -> list[str]:
    return [node.label for node in graph.nodes if node.layer == 0 and node.kind in ("linear", "gated_linear", "add")]


def test_the_narrow_factors_join_the_linears_that_read_the_same_rows():
    fused = optimize(build_graph(SPEC, factored(LINEARS)), activations="int16")
    assert labels(fused)[0] == "0.query+0.query.lora_a+0.key+0.key.lora_a+0.value+0.value.lora_a"
    assert "0.gate+0.gate.lora_a+0.up+0.up.lora_a" in labels(fused)
    # wide factors add to what their matrices gave; the two residuals behind them stay operators of their own
    assert sum(label.endswith("residual") for label in labels(fused)) == 2


def test_factors_are_shown_and_counted():
    graph, plain = (build_graph(SPEC, w) for w in (factored(["attn_q"]), toy_weights(SPEC)))
    shown = render_graph(graph, optimize(graph, activations="int16"))
    assert "query.lora_a" in shown
    assert "query.lora_b" in shown
    more = total_cost(graph.nodes, Workload()).weight_bytes - total_cost(plain.nodes, Workload()).weight_bytes
    assert more == 8 * 64 // 32 * 34 + 64 * 8 * 4


def test_factors_that_do_not_fit_are_named():
    weights = factored(["attn_q"])
    lost = {name: tensor for name, tensor in weights.items() if not name.endswith("lora_b")}
    with pytest.raises(ModelFileError, match=r"'blk\.0\.attn_q\.weight\.lora_b' is missing"):
        build_graph(SPEC, lost)
    alone = {name: tensor for name, tensor in weights.items() if not name.endswith("lora_a")}
    with pytest.raises(UnsupportedModelError, match=r"attn_q\.weight\.lora_b"):
        build_graph(SPEC, alone)
    b = "blk.0.attn_q.weight.lora_b"
    wrong = weights | {b: replace(weights[b], shape=(32, 16))}
    with pytest.raises(ModelFileError, match=r"'blk\.0\.attn_q\.weight\.lora_b' has shape"):
        build_graph(SPEC, wrong)
