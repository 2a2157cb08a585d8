"""A model as torch computes it, from the same graph that the engine compiles: every decoder of `models/` can learn."""

from __future__ import annotations

from torch import Tensor

from miaotui.compress.distil.operators import OPERATORS, Pass, Weights
from miaotui.errors import UnsupportedModelError
from miaotui.graph.nodes import Graph, Node, Value


class Student:
    """The forward pass of an unfused graph.

    Raises UnsupportedModelError for a graph with operators that cannot be trained, such as an encoder's.
    """

    def __init__(self, graph: Graph, weights: Weights) -> None:
        if unknown := sorted({node.kind for node in graph.nodes} - set(OPERATORS)):
            raise UnsupportedModelError(f"models with {', '.join(unknown)} cannot be distilled; take a decoder.")
        head = max(at for at, node in enumerate(graph.nodes) if node.kind == "linear")
        self._body, self._head = graph.nodes[:head], graph.nodes[head:]
        self._tables = graph.rope_tables
        self._weights = weights

    def hidden(self, ids: Tensor) -> Tensor:
        """What the head gets, [sequences, tokens, width], from token ids int64 [sequences, tokens]."""
        return self._compute(self._body, Pass(ids, self._weights, self._tables), {})

    def logits(self, hidden: Tensor) -> Tensor:
        """Scores [..., vocabulary] from what `hidden` gave, any rows of it."""
        run = Pass(hidden, self._weights, self._tables)
        return self._compute(self._head, run, {self._head[0].inputs[0]: hidden})

    def _compute(self, nodes: tuple[Node, ...], run: Pass, values: dict[Value, Tensor]) -> Tensor:
        output: Tensor | None = None
        for node in nodes:
            result = OPERATORS[node.kind](node, [_read(values, v) for v in node.inputs], run)
            if result is not None:
                output = values[node.output] = result
        if output is None:
            raise ValueError("the graph computes nothing.")
        return output


def _read(values: dict[Value, Tensor], value: Value) -> Tensor:
    if value.base is None:
        return values[value]
    return values[value.base][..., value.column : value.column + value.width]
