"""Parts of a graph are whole graphs, each of which hands on what the next one begins with."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.tiny_bert import HIDDEN, write_tiny_bert
from miaotui.errors import UnsupportedModelError
from miaotui.formats import open_model
from miaotui.graph.cut import cut
from miaotui.graph.nodes import Graph
from miaotui.models import build_graph
from models.tiny_text_cnn import WHOLE, random_arrays, write_text_cnn


@pytest.fixture
def graph(tmp_path: Path) -> Graph:
    file = open_model(write_tiny_bert(tmp_path / "bert", layers=3))
    return build_graph(file.spec, file.weights)


def test_parts_hold_every_node_once_and_in_order(graph: Graph) -> None:
    parts = cut(graph, [1, 2], ["even", "odd"], 8).parts
    nodes = [node for part in parts for node in part.graph.nodes]
    assert [node for node in nodes if node in graph.nodes] == list(graph.nodes)
    assert [part.table for part in parts] == [None, "even", "odd"]
    assert [part.graph.nodes[0].kind for part in parts] == ["embedding"] * 3
    assert [part.graph.logits.width for part in parts] == [HIDDEN] * 3
    assert parts[2].graph.logits is graph.logits


def test_a_tail_does_to_rows_what_the_model_does_behind_its_last_layer(graph: Graph) -> None:
    for tail, name in zip(cut(graph, [1, 2], ["even", "odd"], 8).tails, ("even", "odd"), strict=True):
        assert [node.kind for node in tail.graph.nodes] == ["embedding", "mean_pool", "norm"]
        (table,) = tail.graph.nodes[0].matrices
        assert (table.tensor, table.shape) == (name, (8, HIDDEN))


def test_without_a_cut_there_is_the_whole(graph: Graph) -> None:
    (part,) = cut(graph, [], [], 8).parts
    assert part.graph.nodes == graph.nodes


def test_layers_side_by_side_cannot_be_parted(tmp_path: Path) -> None:
    file = open_model(write_text_cnn(tmp_path / "cnn.gguf", WHOLE, random_arrays(WHOLE)))
    with pytest.raises(UnsupportedModelError, match="only where that is one value"):
        cut(build_graph(file.spec, file.weights), [1], ["rows"], 8)
