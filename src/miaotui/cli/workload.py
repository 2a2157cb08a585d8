"""What reading a prompt and decoding a token cost, from the graph alone."""

from __future__ import annotations

from miaotui.graph.cost import Cost, Workload, total_cost
from miaotui.graph.nodes import Graph


def prefill_cost(graph: Graph, num_tokens: int) -> Cost:
    """One step that reads a prompt; on average a token attends to half of it."""
    return total_cost(
        graph.nodes, Workload(num_tokens=num_tokens, num_logit_rows=1, context_tokens=(num_tokens + 1) / 2)
    )


def decode_cost(graph: Graph, context_tokens: float) -> Cost:
    """One token behind a context."""
    return total_cost(graph.nodes, Workload(num_tokens=1, num_logit_rows=1, context_tokens=context_tokens))
