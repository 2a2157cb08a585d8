"""Cuts a model's graph into layers, and each layer into stages whose results can be read: what its linears are fed.

A program gives out one value, its logits. So a layer is run as several programs, each of which computes the input of
some linears, or the layer's output, from those computed before; a little is computed twice, and nothing is special.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import groupby

from miaotui.errors import UnsupportedModelError
from miaotui.graph.cut import given_rows
from miaotui.graph.nodes import Graph, Node, Value, Weight
from miaotui.graph.passes import SIDE_EFFECTS


@dataclass(frozen=True, slots=True)
class Stage:
    """A graph whose logits are one value, a row for each token, computed from values that are given.

    given: by the name of the tensor whose rows, row t for token id t, stand for each.
    """

    graph: Graph
    result: Value
    given: Mapping[str, Value]


@dataclass(frozen=True, slots=True)
class Section:
    """The nodes of one layer, or those before (layer None, no entry) or behind all layers (layer None, no exit).

    entry, exit: the rows that come in and go out. stages: in order; each needs the entry and results before it.
    readers: for each value that linears read, their matrices.
    """

    layer: int | None
    entry: Value | None
    exit: Value | None
    stages: tuple[Stage, ...]
    readers: Mapping[Value, tuple[Weight, ...]]


def sections(graph: Graph, max_tokens: int) -> tuple[Section, ...]:
    """An unfused graph, layer by layer, for steps of at most so many tokens.

    Raises UnsupportedModelError where more than the rows of the residual stream go from a layer to the next.
    """
    groups = [list(nodes) for _, nodes in groupby(graph.nodes, key=lambda node: node.layer)]
    made: list[Section] = []
    entry: Value | None = None
    for index, nodes in enumerate(groups):
        computed = {value for node in nodes for value in node.outputs} | ({entry} if entry else set())
        read = dict.fromkeys(v.base or v for later in groups[index + 1 :] for node in later for v in node.inputs)
        left = [value for value in read if value in computed]
        exit = left[0] if left else None
        if len(left) > 1:
            names = ", ".join(value.name for value in left)
            raise UnsupportedModelError(f"layer {nodes[0].layer} hands on {names}; only one of them can be held.")
        section = _section(graph, nodes, entry, exit, max_tokens)
        if section.stages:
            made.append(section)
        entry = exit
    return tuple(made)


def _section(graph: Graph, nodes: list[Node], entry: Value | None, exit: Value | None, max_tokens: int) -> Section:
    readers: dict[Value, list[Weight]] = {}
    for node in nodes:
        if node.kind == "linear":
            readers.setdefault(node.inputs[0], []).extend(node.matrices)
    known = [] if entry is None else [entry]
    stages: list[Stage] = []
    for value in [*readers, *([] if exit is None else [exit])]:
        if value not in known:
            stages.append(_stage(graph, nodes, value, known, max_tokens))
            known.append(value)
    fed = {value: tuple(weights) for value, weights in readers.items()}
    return Section(nodes[0].layer, entry, exit, tuple(stages), fed)


def _stage(graph: Graph, nodes: list[Node], result: Value, known: Iterable[Value], max_tokens: int) -> Stage:
    kept, given = _needed(nodes, result, known)
    rows = {value: replace(value, base=None, column=0) for value in given}
    tables = {f"given.{value.name}": value for value in given}
    first = [given_rows(name, rows[value], max_tokens) for name, value in tables.items()]
    then = [_moved(node, rows) for node in kept]
    if result.rows == "tokens":
        then.append(Node("select_rows", (result,), (Value(f"{result.name}.rows", result.width, "logits"),)))
    used = {str(node.attrs["table"]) for node in kept if "table" in node.attrs}
    rope_tables = {name: table for name, table in graph.rope_tables.items() if name in used}
    return Stage(Graph((*first, *then), rope_tables).validate(), result, tables)


def _needed(nodes: list[Node], result: Value, known: Iterable[Value]) -> tuple[list[Node], list[Value]]:
    """The nodes that the result needs, in order, and which of the known values they read."""
    known, wanted, given = set(known), {result.base or result}, dict[Value, None]()
    kept: list[Node] = []
    for node in reversed(nodes):
        if node.kind in SIDE_EFFECTS:
            needed = any(reader.kind == "attention" for reader in kept)  # of the same layer, whose pages it writes
        else:
            needed = any(value in wanted for value in node.outputs)
        if not needed:
            continue
        kept.append(node)
        for value in node.inputs:
            if value in known:
                given[value] = None
            else:
                wanted.add(value.base or value)
    return kept[::-1], list(given)


def _moved(node: Node, rows: Mapping[Value, Value]) -> Node:
    """The node on given rows, and on the pages of a pool of one layer."""
    attrs = {**node.attrs, "layer": 0} if "layer" in node.attrs else node.attrs
    return replace(node, inputs=tuple(rows.get(value, value) for value in node.inputs), attrs=attrs)
