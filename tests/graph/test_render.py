from __future__ import annotations

from graph.toy import toy
from miaotui.formats.weights import TensorType
from miaotui.graph.passes import optimize
from miaotui.graph.render import render_graph


def test_layers_that_look_alike_are_shown_once():
    graph, _ = toy(num_layers=6, sliding_layers=(False,) * 6)
    text = render_graph(graph, optimize(graph, activations="int8"))
    assert "layers 0–5 (6 x each)" in text
    assert "layers 0–4 (5 x each)" in text
    assert "layer 5\n" in text  # after fusion the last layer works on the wanted rows only
    assert text.count("query+key+value") == 2


def test_layers_of_other_types_are_shown_apart():
    graph, _ = toy({"blk.1.attn_v": TensorType.F16})
    text = render_graph(graph, graph)
    assert "layers 0, 2 (2 x each)" in text
    assert "layer 1\n" in text


def test_the_last_line_compares_operators_arithmetic_and_bytes():
    graph, _ = toy()
    fused = optimize(graph, activations="int8")
    last = render_graph(graph, fused).splitlines()[-1]
    assert f"{len(graph.nodes)} → {len(fused.nodes)} operators" in last
    assert "FLOP" in last
    assert "moved" in last


def test_every_line_fits_a_terminal_and_columns_align():
    graph, _ = toy()
    lines = render_graph(graph, optimize(graph, activations="int8")).splitlines()
    rows = [line for line in lines if " → " in line and not line.startswith("per decoded")]
    assert len({len(line) for line in rows}) == 1
    assert max(map(len, lines[:-1])) <= 110
