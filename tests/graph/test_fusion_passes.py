from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graph.numpy_reference import NumpyBatch, NumpyKv, NumpyProgram
from graph.toy import run_toy, toy, toy_classifier, toy_encoder, toy_spec, toy_weights
from miaotui.core import ACTIVATIONS
from miaotui.errors import ConfigError
from miaotui.formats.weights import TensorType
from miaotui.graph import passes
from miaotui.graph.nodes import Graph, Node, Value
from miaotui.graph.passes import PASSES, optimize, quantize_activations
from miaotui.models import build_graph

LAYERS = 3


def kinds(graph: Graph) -> Counter[str]:
    return Counter(node.kind for node in graph.nodes)


def added_and_removed(before: Graph, after: Graph) -> dict[str, int]:
    a, b = kinds(before), kinds(after)
    return {kind: b[kind] - a[kind] for kind in sorted(a | b) if a[kind] != b[kind]}


def quantized_toy() -> tuple[Graph, dict]:
    graph, weights = toy()
    return quantize_activations(graph, "int8"), weights


def test_quantized_linears_share_the_int8_rows_of_one_input():
    graph, _ = toy()
    # per layer: input of q/k/v, of the output projection, of gate/up, of down; and the head's
    assert added_and_removed(graph, quantize_activations(graph, "int8")) == {"quantize": 4 * LAYERS + 1}


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("merge_gate_up", {"activate_mul": -LAYERS, "gated_linear": LAYERS, "linear": -2 * LAYERS}),
        ("merge_qkv", {"linear": -2 * LAYERS}),
        ("fuse_norm_quantize", {"quantize": -(2 * LAYERS + 1)}),
        ("fuse_quantize_output", {"quantize": -LAYERS}),  # attention's output only: the MLP is not merged here
        ("fuse_rope_kv", {"kv_write": -LAYERS, "rope": -2 * LAYERS, "rope_kv": LAYERS}),
        ("fuse_linear_residual", {"add": -2 * LAYERS}),
        ("remove_dead_code", {}),
    ],
)
def test_each_pass_alone_changes_the_operators_it_names_and_no_logit(name, change):
    graph, weights = quantized_toy()
    fused = PASSES[name](graph).validate()
    assert added_and_removed(graph, fused) == change
    np.testing.assert_array_equal(run_toy(fused, weights), run_toy(graph, weights))


def test_rows_are_selected_behind_the_last_attention():
    graph, weights = toy()
    narrow = PASSES["select_rows_early"](graph).validate()
    assert added_and_removed(graph, narrow) == {"select_rows": 1}
    assert [n.inputs[0].name.split(".")[1] for n in narrow.nodes if n.kind == "select_rows"] == [
        "attention",
        "residual",
    ]
    np.testing.assert_array_equal(run_toy(narrow, weights), run_toy(graph, weights))


def test_all_passes_together_leave_eight_operators_per_layer():
    graph, weights = toy()
    fused = optimize(graph, activations="int8")
    per_layer = Counter(["norm", "linear", "rope_kv", "attention", "linear", "norm", "gated_linear", "linear"])
    assert Counter(node.kind for node in fused.nodes if node.layer == 0) == per_layer
    np.testing.assert_array_equal(run_toy(fused, weights), run_toy(quantize_activations(graph, "int8"), weights))


@given(
    disabled=st.sets(st.sampled_from(list(PASSES))),
    activations=st.sampled_from(ACTIVATIONS),
    mixed=st.booleans(),
    bias=st.booleans(),
)
def test_any_choice_of_passes_gives_the_same_logits(disabled, activations, mixed, bias):
    types = {"attn_v": TensorType.F16, "ffn_up": TensorType.BF16, "ffn_down": TensorType.F32} if mixed else {}
    spec = toy_spec(num_layers=2, sliding_window=3, sliding_layers=(True, False))
    weights = toy_weights(spec, types)
    if bias:
        for name in ("blk.0.attn_q.bias", "blk.1.ffn_up.bias", "blk.1.ffn_down.bias"):
            rows = weights[name.replace("bias", "weight")].shape[0]
            vector = np.linspace(-1, 1, rows, dtype=np.float32)
            weights[name] = type(weights["output_norm.weight"])(name, TensorType.F32, (rows,), vector.view(np.uint8))
    graph = build_graph(spec, weights)
    plain = graph if activations == "float32" else quantize_activations(graph, activations)
    fused = optimize(graph, activations=activations, disabled=disabled)
    np.testing.assert_array_equal(run_toy(fused, weights), run_toy(plain, weights))


def test_heads_narrower_than_an_int8_group_keep_float_rows():
    fused = optimize(toy(head_dim=16, rope_dim=16, num_heads=4, num_kv_heads=2)[0], activations="int8")
    assert {node.output.dtype for node in fused.nodes if node.kind == "attention"} == {"f32"}
    assert kinds(fused)["quantize"] == LAYERS


def test_a_linear_with_float_weights_keeps_float_rows_beside_quantized_siblings():
    graph, _ = toy({"attn_v": TensorType.F16})
    fused = optimize(graph, activations="int8")
    value = next(node for node in fused.nodes if node.label == "0.value")
    query = next(node for node in fused.nodes if node.label == "0.query+0.key")
    assert (value.inputs[0].dtype, query.inputs[0].dtype) == ("f32", "q8")
    assert query.inputs[0].name.startswith(value.inputs[0].name)


def test_a_gated_mlp_with_one_float_half_is_not_merged():
    fused = optimize(toy({"ffn_up": TensorType.F16})[0], activations="int8")
    assert kinds(fused)["gated_linear"] == 0
    assert kinds(fused)["activate_mul"] == LAYERS


def test_differing_quantized_types_merge():
    fused = optimize(toy({"attn_v": TensorType.Q4_0, "ffn_up": TensorType.Q5_1})[0], activations="int8")
    assert {"0.query+0.key+0.value", "0.gate+0.up"} <= {node.label for node in fused.nodes}


def test_the_last_layer_computes_its_mlp_for_wanted_rows_only():
    fused = optimize(toy()[0], activations="int8")
    rows = {node.label: node.inputs[0].rows for node in fused.nodes if node.kind in ("linear", "gated_linear")}
    last = LAYERS - 1
    assert rows[f"{last}.query+{last}.key+{last}.value"] == rows["1.down"] == "tokens"
    assert rows[f"{last}.attention_output"] == rows[f"{last}.gate+{last}.up"] == rows["head"] == "logits"


def test_an_input_that_others_read_is_not_turned_in_place():
    graph, _ = toy()
    turn = next(node for node in graph.nodes if node.kind == "rope")
    spy = Node("softcap", turn.inputs, (Value("spy", turn.output.width),), attrs={"cap": 1.0})
    fused = passes.fuse_rope_kv(graph.replace({turn: [turn, spy]}))
    assert kinds(fused)["rope_kv"] == LAYERS - 1


def test_a_value_of_which_others_read_columns_stays_what_it_is():
    graph, _ = quantized_toy()
    norm = next(node for node in graph.nodes if node.kind == "norm")
    columns = Value("columns", 32, base=norm.output, column=32)
    spy = Node("softcap", (columns,), (Value("spy", 32),), attrs={"cap": 1.0})
    fused = passes.fuse_norm_quantize(graph.replace({norm: [norm, spy]})).validate()
    assert kinds(fused)["quantize"] == kinds(PASSES["fuse_norm_quantize"](graph))["quantize"] + 1


def test_queries_and_keys_that_turn_differently_are_not_fused():
    graph, _ = toy()
    turn = next(node for node in graph.nodes if node.kind == "rope")
    other = replace(turn, attrs={**turn.attrs, "pairing": "interleaved"})
    assert kinds(passes.fuse_rope_kv(graph.replace({turn: [other]})))["rope_kv"] == LAYERS - 1


def test_a_linear_that_others_read_keeps_its_own_output():
    graph, _ = toy()
    linear = next(node for node in graph.nodes if node.label == "0.down")
    spy = Node("softcap", linear.outputs, (Value("spy", linear.output.width),), attrs={"cap": 1.0})
    fused = passes.fuse_linear_residual(graph.replace({linear: [linear, spy]}))
    assert kinds(fused)["add"] == 1


def test_nodes_that_nobody_reads_are_dropped():
    graph, _ = toy()
    first = graph.nodes[0]
    idle = Node("softcap", first.outputs, (Value("idle", first.output.width),), attrs={"cap": 1.0})
    idler = Node("softcap", idle.outputs, (Value("idler", first.output.width),), attrs={"cap": 1.0})
    assert passes.remove_dead_code(graph.replace({first: [first, idle, idler]})).nodes == graph.nodes


@pytest.mark.parametrize("name", [name for name in PASSES if name != "remove_dead_code"])
def test_a_disabled_pass_is_not_applied(name):
    toys = {"fuse_norm_both": toy_encoder, "quantize_before_windows": toy_classifier}
    graph, _ = toys.get(name, toy)()
    assert kinds(optimize(graph, activations="int8", disabled={name})) != kinds(optimize(graph, activations="int8"))


def test_norms_whose_floats_a_residual_needs_write_codes_beside_them():
    graph, weights = toy_encoder()
    fused = optimize(graph, activations="int8")
    norms = [node for node in fused.nodes if node.kind == "norm"]
    # The first, and two of each of three layers but the last one's second, which the pooling reads; then the unit norm.
    assert [[v.dtype for v in node.outputs] for node in norms] == [["f32", "q8"]] * 6 + [["f32"]] * 2
    assert not [node for node in fused.nodes if node.kind in ("quantize", "add")]
    batch = NumpyBatch([3, 1, 20, 4], [0, 1, 0, 1], [0, 2, 4], [0, 1], [0, 2])
    plain = quantize_activations(graph, "int8")
    results = [NumpyProgram(g, weights).run(batch, NumpyKv()) for g in (plain, fused)]
    np.testing.assert_array_equal(*results)


def test_the_first_token_s_row_is_all_that_is_computed_behind_the_last_attention():
    graph, weights = toy_encoder(pooling="first")
    fused = optimize(graph, activations="int8")
    last = [i for i, node in enumerate(fused.nodes) if node.kind == "self_attention"][-1]
    rows = {v.rows for node in fused.nodes[last + 1 :] if node.kind != "select_rows" for v in node.inputs}
    assert rows == {"logits"}
    batch = NumpyBatch([3, 1, 20, 4], [0, 1, 0, 1], [0, 2, 4], [0, 1], [0, 2])
    results = [NumpyProgram(g, weights).run(batch, NumpyKv()) for g in (graph, optimize(graph, activations="float32"))]
    np.testing.assert_allclose(*results, atol=1e-12)


def test_rows_are_quantized_before_windows_repeat_them():
    graph, weights = toy_classifier()
    plain = quantize_activations(graph, "int8")
    moved = PASSES["quantize_before_windows"](plain).validate()
    assert added_and_removed(plain, moved) == {"quantize": -1}  # one for both windows
    assert [n.inputs[0].width for n in moved.nodes if n.kind == "quantize"] == [64, 128, 384]
    batch = NumpyBatch([3, 1, 20, 4], [0, 1, 0, 1], [0, 2, 4], [0, 1], [0, 2])
    results = [NumpyProgram(g, weights).run(batch, NumpyKv()) for g in (plain, moved)]
    np.testing.assert_array_equal(*results)


def test_groups_that_would_reach_across_taps_are_quantized_behind_windows():
    attrs = {"kernel_height": 1, "kernel_width": 4, "line": 0}
    x, seen, codes = Value("x", 16), Value("seen", 64), Value("codes", 64, dtype="q8")
    nodes = Node("windows", (x,), (seen,), attrs=attrs), Node("quantize", (seen,), (codes,))
    assert PASSES["quantize_before_windows"](Graph(nodes)).nodes == nodes


def test_an_unknown_pass_is_refused_with_the_names_of_all():
    with pytest.raises(ConfigError, match=r"fuse_everything; the passes are .*merge_qkv"):
        optimize(toy()[0], activations="int8", disabled={"fuse_everything"})
