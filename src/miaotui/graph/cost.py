"""What one operator costs: arithmetic and bytes moved, for a given number of tokens."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from miaotui.graph.nodes import READ_BY_ROWS, Node, Value

KV_ELEMENT_BYTES = {"f32": 4.0, "f16": 2.0, "bf16": 2.0, "int16": 2.0, "int8": 1.0}


@dataclass(frozen=True, slots=True)
class Workload:
    """One step: its tokens, the rows whose logits are wanted, the mean number of tokens that each one attends to.

    kv_dtype: element type of keys and values.
    """

    num_tokens: int = 1
    num_logit_rows: int = 1
    context_tokens: float = 1.0
    kv_dtype: str = "int16"

    def kv_bytes(self, heads: float, head_dim: int) -> float:
        """Bytes of so many heads of one key or value; integers have a float scale each."""
        scale = 4.0 if self.kv_dtype.startswith("int") else 0.0
        return heads * (head_dim * KV_ELEMENT_BYTES[self.kv_dtype] + scale)

    def num_rows(self, value: Value) -> int:
        """Rows of a value in this step."""
        return self.num_tokens if value.rows == "tokens" else self.num_logit_rows


@dataclass(frozen=True, slots=True)
class Cost:
    """Floating-point or integer operations (a multiply-add is two), and bytes read or written by kind."""

    flops: float = 0.0
    weight_bytes: float = 0.0
    activation_bytes: float = 0.0
    kv_bytes: float = 0.0

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.flops + other.flops,
            self.weight_bytes + other.weight_bytes,
            self.activation_bytes + other.activation_bytes,
            self.kv_bytes + other.kv_bytes,
        )

    @property
    def total_bytes(self) -> float:
        """All bytes moved."""
        return self.weight_bytes + self.activation_bytes + self.kv_bytes


OPERATIONS_PER_ELEMENT = {
    "norm": 4,
    "quantize": 3,
    "add_positions": 2,
    "activate": 12,
    "activate_mul": 6,
    "gated_linear": 6,
    "rope": 3,
    "add": 1,
    "softcap": 4,
    "embedding": 1,
    "mean_pool": 1,
}
"""Beside products with a weight; rough counts, which matter little next to those."""


def node_cost(node: Node, work: Workload) -> Cost:
    """Cost of one node, with every weight read once and no cache between operators."""
    rows = work.num_rows((*node.outputs, *node.inputs)[0])
    elements = sum(v.width for v in node.outputs) * rows
    flops = float(OPERATIONS_PER_ELEMENT.get(node.kind, 0) * elements)
    weight_bytes = float(sum(w.nbytes for w in node.weights if w is not None))
    kv_bytes = 0.0
    if node.kind in ("linear", "gated_linear"):
        flops += 2.0 * rows * sum(w.num_rows * w.num_cols for w in node.matrices)
        flops += elements * (len(node.inputs) - 1)
    elif node.kind in READ_BY_ROWS:
        weight_bytes = sum(table.nbytes / table.num_rows * rows for table in node.matrices)
    elif node.kind == "attention":
        flops, kv_bytes = _attention_cost(node, work)
    elif node.kind == "depthwise":
        flops = 2.0 * rows * sum(w.num_cols for w in node.weights if w is not None)
    elif node.kind == "max_pool":
        flops = float(sum(v.width * work.num_rows(v) for v in node.inputs))
    elif node.kind == "self_attention":
        flops = 4.0 * node.output.width * work.context_tokens * work.num_tokens
    elif node.kind in ("kv_write", "rope_kv"):
        k, v = node.inputs[-2:]
        head_dim = int(node.attrs["head_dim"])
        kv_bytes = rows * work.kv_bytes((k.width + v.width) / head_dim, head_dim)
        flops = 3.0 * rows * sum(x.width for x in node.inputs[:-1]) if node.kind == "rope_kv" else 0.0
    moved = sum(value_row_bytes(v) * work.num_rows(v) for v in (*node.inputs, *node.outputs))
    return Cost(flops, weight_bytes, moved, kv_bytes)


def total_cost(nodes: Iterable[Node], work: Workload) -> Cost:
    """Sum over nodes."""
    return sum((node_cost(node, work) for node in nodes), Cost())


def value_row_bytes(value: Value) -> float:
    """Bytes of one row; quantized rows carry a float scale and an integer sum per 32 columns."""
    return value.width * {"f32": 4.0, "q8": 1.25, "q16": 2.25}[value.dtype]


def _attention_cost(node: Node, work: Workload) -> tuple[float, float]:
    head_dim, window = int(node.attrs["head_dim"]), int(node.attrs["window"])
    seen = min(work.context_tokens, window) if window else work.context_tokens
    scores_and_sums = 4.0 * node.output.width * seen * work.num_tokens
    pages = seen * work.kv_bytes(2.0 * int(node.attrs["num_kv_heads"]), head_dim)
    return scores_and_sums, pages * work.num_tokens
