"""A graph cut behind some of its layers, into parts that run one after the other and give the whole one's bits.

A program gives out one value, and begins from token ids. So a part gives out the rows that its last layer hands on,
and the next one looks them up as if they were an embedding: row t for token id t. Whoever runs the parts chooses which
rows those are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from miaotui.errors import UnsupportedModelError
from miaotui.formats.weights import TensorType
from miaotui.graph.nodes import Graph, Node, Value, Weight


@dataclass(frozen=True, slots=True)
class Part:
    """Some consecutive layers. table: the tensor whose rows it begins from, float32; None: it reads token ids.

    Its logits are a row for each token, and of the last part what the whole graph's are.
    """

    graph: Graph
    table: str | None


@dataclass(frozen=True, slots=True)
class Cut:
    """parts: in order. tails: for each part but the last, what the whole graph does behind its last layer, done to the
    rows that the part gave out, which are looked up in the next part's table.
    """

    parts: tuple[Part, ...]
    tails: tuple[Part, ...]


def cut(graph: Graph, behind: Sequence[int], tables: Sequence[str], num_rows: int) -> Cut:
    """Cut an unfused graph behind its first so many layers, for each number in `behind`, ascending.

    tables: what to call the tensor behind each cut; num_rows: of these.
    Raises UnsupportedModelError where a layer hands on more than one value.
    """
    num_layers = 1 + max(node.layer for node in graph.nodes if node.layer is not None)
    last_split = _split(graph, num_layers)
    last_value = _handed_on(graph, last_split)
    begin = 0
    entry: Node | None = None
    table: str | None = None
    parts: list[Part] = []
    tails: list[Part] = []
    for count, name in zip(behind, tables, strict=True):
        split = _split(graph, count)
        value = _handed_on(graph, split)
        rows = Node("select_rows", (value,), (Value(f"{value.name}.rows", value.width, "logits"),))
        parts.append(Part(_graph(graph, entry, [*graph.nodes[begin:split], rows]), table))
        tail = [given_rows(name, last_value, num_rows), *graph.nodes[last_split:]]
        tails.append(Part(_graph(graph, None, tail), name))
        begin, entry, table = split, given_rows(name, value, num_rows), name
    parts.append(Part(_graph(graph, entry, list(graph.nodes[begin:])), table))
    return Cut(tuple(parts), tuple(tails))


def given_rows(name: str, value: Value, num_rows: int) -> Node:
    """Computes a value by looking its rows up in a tensor [num_rows, width] of floats."""
    table = Weight(name, name, TensorType.F32, (num_rows, value.width))
    return Node("embedding", (), (value,), (table,), {"scale": 1.0})


def _graph(whole: Graph, entry: Node | None, nodes: Sequence[Node]) -> Graph:
    return Graph((*([] if entry is None else [entry]), *nodes), whole.rope_tables).validate()


def _split(graph: Graph, count: int) -> int:
    """The number of nodes up to the end of the first so many layers."""
    return 1 + max(at for at, node in enumerate(graph.nodes) if node.layer is not None and node.layer < count)


def _handed_on(graph: Graph, split: int) -> Value:
    """What the nodes behind read of those before."""
    computed = {value for node in graph.nodes[:split] for value in node.outputs}
    read = dict.fromkeys(value.base or value for node in graph.nodes[split:] for value in node.inputs)
    left = [value for value in read if value in computed]
    if len(left) != 1:
        names = ", ".join(value.name for value in left) or "nothing"
        raise UnsupportedModelError(f"a layer hands on {names}; a model can be cut only where that is one value.")
    return left[0]
