"""What reading a prompt and decoding a token cost, from the graph alone."""

from __future__ import annotations

from miaotui.graph.cost import Cost, Workload, node_cost, total_cost
from miaotui.graph.nodes import Graph, Node


def prefill_work(num_tokens: int, kv_dtype: str) -> Workload:
    """One step that reads a prompt; on average a token attends to half of it."""
    return Workload(num_tokens, num_logit_rows=1, context_tokens=(num_tokens + 1) / 2, kv_dtype=kv_dtype)


def decode_work(context_tokens: float, kv_dtype: str) -> Workload:
    """One token behind a context."""
    return Workload(num_tokens=1, num_logit_rows=1, context_tokens=context_tokens, kv_dtype=kv_dtype)


def prefill_operations(graph: Graph, num_tokens: int, kv_dtype: str) -> float:
    """Operations of one step that reads a prompt.

    A product of 16 bits takes two int8 ones and counts as such.
    """
    work = prefill_work(num_tokens, kv_dtype)
    return sum(operations(node, work)[0] for node in graph.nodes)


def operations(node: Node, work: Workload) -> tuple[float, bool, float]:
    """Operations of a node in a step, whether they are integer products, and the bytes it must read from memory.

    Weights and the KV pages of the context are read once, everything else stays in the caches. Where keys and values
    are integers, attention multiplies integers of 16 bits.
    """
    cost = node_cost(node, work)
    factor = {"q8": 1, "q16": 2}.get(node.inputs[0].dtype if node.inputs else "", 0)
    if node.kind == "attention" and work.kv_dtype.startswith("int"):
        factor = 2
    return cost.flops * max(factor, 1), factor > 0, cost.weight_bytes + cost.kv_bytes / work.num_tokens


def decode_cost(graph: Graph, context_tokens: float, kv_dtype: str) -> Cost:
    """One token behind a context."""
    return total_cost(graph.nodes, decode_work(context_tokens, kv_dtype))
