"""Places every activation of a graph in one arena: values that are never needed together share bytes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from miaotui.graph.nodes import Dtype, Graph, Node, Value

ALIGNMENT_BYTES = 64

Home = tuple[Value, int]
"""Whose storage a value lives in, and its first column there."""

IN_PLACE: Mapping[str, tuple[int, ...]] = {
    "norm": (0,),
    "rope": (0,),
    "rope_kv": (0,),
    "add": (0, 1),
    "add_positions": (0,),
    "activate": (0,),
    "activate_mul": (0, 1),
    "softcap": (0,),
    "linear": (1,),
}
"""Inputs whose storage the output may take over: each element is read before it is written."""


@dataclass(frozen=True, slots=True)
class Buffer:
    """Bytes of the arena, in use from the node with index `first` to the one with index `last`, inclusive."""

    value: Value
    offset_bytes: int
    nbytes: int
    first: int
    last: int

    def overlaps(self, other: Buffer) -> bool:
        """Whether both are in use at once in the same bytes; must be false for any two of a plan."""
        together = self.first <= other.last and other.first <= self.last
        return together and self.offset_bytes < other.end and other.offset_bytes < self.end

    @property
    def end(self) -> int:
        """First byte behind the buffer."""
        return self.offset_bytes + self.nbytes


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """Buffers by offset, and for each value its buffer (index) and first column in it."""

    buffers: tuple[Buffer, ...]
    operands: Mapping[Value, tuple[int, int]]
    arena_bytes: int


def plan_memory(
    graph: Graph, *, max_tokens: int, max_logit_rows: int, row_bytes: Callable[[Dtype, int], int]
) -> MemoryPlan:
    """Liveness of every value, then offsets: largest first, each into the smallest gap that holds it.

    (Greedy by size for offset calculation: Pisarchyk and Lee, arXiv:2001.03288, section 5.)
    """
    homes = _share_storage(graph)
    first, last = _lifetimes(graph, homes)

    def size(value: Value) -> int:
        return _align(row_bytes(value.dtype, value.width) * (max_tokens if value.rows == "tokens" else max_logit_rows))

    placed: list[Buffer] = []
    for value in sorted(first, key=lambda v: (-size(v), first[v])):
        placed.append(_place(value, size(value), first[value], last[value], placed))
    placed.sort(key=lambda b: (b.first, b.offset_bytes))
    index = {buffer.value: i for i, buffer in enumerate(placed)}
    operands = {value: (index[root], column) for value, (root, column) in homes.items()}
    return MemoryPlan(tuple(placed), operands, max((b.end for b in placed), default=0))


def _align(nbytes: int) -> int:
    return -(-nbytes // ALIGNMENT_BYTES) * ALIGNMENT_BYTES


def _share_storage(graph: Graph) -> dict[Value, Home]:
    """Where each value lives: in storage of its own, in its base's, or in that of the input it overwrites."""
    last_read = {(v.base or v): i for i, node in enumerate(graph.nodes) for v in node.inputs}
    homes: dict[Value, Home] = {}
    busy_until: defaultdict[Value, int] = defaultdict(int)  # by storage: the last node that reads one of its values
    for i, node in enumerate(graph.nodes):
        for value in node.inputs:
            if value.base is not None:
                root, column = homes[value.base]
                homes[value] = (root, column + value.column)
        for value in node.outputs:
            free = {root for root, _ in map(homes.__getitem__, node.inputs) if busy_until[root] <= i}
            source = _overwritten(node, value, homes, free)
            homes[value] = homes[source] if source else (value, 0)
            root = homes[value][0]
            busy_until[root] = max(busy_until[root], last_read.get(value, i))
    return homes


def _overwritten(node: Node, y: Value, homes: Mapping[Value, Home], free: Collection[Value]) -> Value | None:
    """The input that this output of the node replaces, if any; `free` are the storages that nothing later reads."""
    roots = [homes[v][0] for v in node.inputs]
    for i in IN_PLACE.get(node.kind, ()):
        if i < len(roots) and roots.count(roots[i]) == 1 and roots[i] in free:
            root = roots[i]
            if (root.width, root.rows, root.dtype) == (y.width, y.rows, y.dtype):
                return node.inputs[i]
    return None


def _lifetimes(graph: Graph, homes: Mapping[Value, Home]) -> tuple[dict[Value, int], dict[Value, int]]:
    """First and last node that touches each storage."""
    first: dict[Value, int] = {}
    last: dict[Value, int] = {}
    for i, node in enumerate(graph.nodes):
        for value in (*node.inputs, *node.outputs):
            root, _ = homes[value]
            first.setdefault(root, i)
            last[root] = i
    last[homes[graph.logits][0]] = len(graph.nodes)  # read after the pass
    return first, last


def _place(value: Value, nbytes: int, first: int, last: int, placed: list[Buffer]) -> Buffer:
    """Best fit: the smallest gap between the buffers alive at the same time, else behind all of them."""
    rivals = sorted((b for b in placed if b.first <= last and first <= b.last), key=lambda b: b.offset_bytes)
    end, best = 0, None
    for rival in rivals:
        gap = rival.offset_bytes - end
        if gap >= nbytes and (best is None or gap < best[0]):
            best = (gap, end)
        end = max(end, rival.end)
    return Buffer(value, best[1] if best else end, nbytes, first, last)
