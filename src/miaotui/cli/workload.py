"""What reading a prompt and decoding a token cost, from the graph alone."""

from __future__ import annotations

from miaotui.graph.cost import Cost, Workload, node_cost, total_cost
from miaotui.graph.nodes import Graph


def prefill_operations(graph: Graph, num_tokens: int) -> float:
    """Operations of one step that reads a prompt; on average a token attends to half of it.

    A product with 16-bit activations takes two int8 ones and counts as such.
    """
    work = Workload(num_tokens=num_tokens, num_logit_rows=1, context_tokens=(num_tokens + 1) / 2)
    return sum(
        node_cost(node, work).flops * (2 if node.inputs and node.inputs[0].dtype == "q16" else 1)
        for node in graph.nodes
    )


def decode_cost(graph: Graph, context_tokens: float) -> Cost:
    """One token behind a context."""
    return total_cost(graph.nodes, Workload(num_tokens=1, num_logit_rows=1, context_tokens=context_tokens))
