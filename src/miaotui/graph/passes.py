"""Rewrites of a graph: the lowering to quantized activations and the fusions, one small pure function each.

A fusion keeps the arithmetic: the fused operator rounds where the separate ones do, so results stay bit-identical
whichever passes are switched off.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from types import MappingProxyType

from miaotui.core import Activations
from miaotui.errors import ConfigError
from miaotui.graph.nodes import Dtype, Graph, Node, Value

Pass = Callable[[Graph], Graph]

Q8_GROUP_COLUMNS = 32
"""Columns that share one scale in an int8 row; a producer of int8 rows must write whole groups."""

ROWWISE_KINDS = frozenset({"norm", "linear", "activate", "activate_mul", "add", "softcap"})
"""Operators of an unfused graph whose output row depends on the same row of the inputs and on nothing else."""

SIDE_EFFECTS = frozenset({"kv_write", "rope_kv"})


def optimize(graph: Graph, *, activations: Activations, disabled: Collection[str] = ()) -> Graph:
    """Apply every pass that is not disabled, in the order of PASSES, and lower the graph to quantized activations.

    The lowering comes behind `select_rows_early`, which selects float rows, and before what fuses `quantize`.
    Raises ConfigError when `disabled` names a pass that does not exist.
    """
    if unknown := sorted(set(disabled) - set(PASSES)):
        raise ConfigError(f"unknown fusion pass {', '.join(unknown)}; the passes are {', '.join(PASSES)}.")
    for name, fuse in PASSES.items():
        if name not in disabled:
            graph = fuse(graph)
        if activations != "float32" and fuse is select_rows_early:
            graph = quantize_activations(graph, activations)
    return graph.validate()


def quantize_activations(graph: Graph, activations: Activations) -> Graph:
    """Feed linears of quantized weights with 16-bit rows or, where "int8" is asked for, with int8 rows.

    Siblings share their rows; float weights keep float rows.
    """
    dtype: Dtype = "q8" if activations == "int8" else "q16"
    quantized: dict[Value, Value] = {}
    changes: dict[Node, list[Node]] = {}
    for node in graph.nodes:
        if node.kind not in ("linear", "gated_linear") or not all(w.is_quantized for w in node.matrices):
            continue
        x, *rest = node.inputs
        changes[node] = []
        if x not in quantized:
            quantized[x] = Value(f"{x.name}.{dtype}", x.width, x.rows, dtype)
            changes[node].append(Node("quantize", (x,), (quantized[x],), layer=node.layer))
        changes[node].append(replace(node, inputs=(quantized[x], *rest)))
    return graph.replace(changes)


def select_rows_early(graph: Graph) -> Graph:
    """Compute only the rows whose logits are wanted wherever no other token needs them: behind the last attention."""
    while (better := _select_before_producer(graph)) is not None:
        graph = better
    return graph


def _select_before_producer(graph: Graph) -> Graph | None:
    """`select(f(a, b))` → `f(select(a), select(b))` for one row-wise f that nothing else reads, if there is one."""
    producers, readers = graph.producers(), graph.consumers()
    for select in (node for node in graph.nodes if node.kind == "select_rows"):
        x = select.inputs[0]
        node = producers.get(x)
        if node is None or node.kind not in ROWWISE_KINDS or any(v.dtype != "f32" for v in node.inputs):
            continue
        if not all(reader.kind == "select_rows" for reader in readers[x]):
            continue
        narrow = {v: replace(v, name=f"{v.name}.selected", rows="logits") for v in node.inputs}
        selects = [Node("select_rows", (v,), (narrow[v],), layer=node.layer) for v in narrow]
        moved = replace(node, inputs=tuple(narrow[v] for v in node.inputs), outputs=select.outputs)
        return _share_selects(graph.replace({node: [*selects, moved], select: []}))
    return None


def _share_selects(graph: Graph) -> Graph:
    """Keep the first selection of each value and let the readers of the others use it."""
    first: dict[Value, Value] = {}
    same: dict[Value, Value] = {}
    changes: dict[Node, list[Node]] = {}
    for node in graph.nodes:
        if node.kind == "select_rows" and node.inputs[0] in first:
            same[node.output] = first[node.inputs[0]]
            changes[node] = []
        elif any(v in same for v in node.inputs):
            changes[node] = [replace(node, inputs=tuple(same.get(v, v) for v in node.inputs))]
        if node.kind == "select_rows":
            first.setdefault(node.inputs[0], node.output)
    return graph.replace(changes)


def merge_gate_up(graph: Graph) -> Graph:
    """`activation(gate(x)) * up(x)` → gated_linear, which computes both products side by side."""
    producers, readers = graph.producers(), graph.consumers()
    changes: dict[Node, list[Node]] = {}
    for node in (n for n in graph.nodes if n.kind == "activate_mul"):
        gate, up = (producers[v] for v in node.inputs)
        if not (_is_plain_linear(gate) and _is_plain_linear(up) and gate.inputs == up.inputs):
            continue
        has_biases = gate.weights[1] is not None or up.weights[1] is not None
        if not has_biases and all(readers[v] == [node] for v in node.inputs):
            changes |= {gate: [], up: []}
            weights = (gate.weights[0], up.weights[0])
            changes[node] = [Node("gated_linear", gate.inputs, node.outputs, weights, node.attrs, node.layer)]
    return graph.replace(changes)


def merge_qkv(graph: Graph) -> Graph:
    """Linears that read the same rows → one linear with several weights, whose types may differ."""
    readers = graph.consumers()
    siblings: defaultdict[Value, list[Node]] = defaultdict(list)
    for node in graph.nodes:
        if _is_plain_linear(node) and not any(reader.kind == "activate_mul" for reader in readers[node.output]):
            siblings[node.inputs[0]].append(node)
    changes: dict[Node, list[Node]] = {}
    for x, linears in siblings.items():
        if len(linears) > 1:
            outputs = tuple(node.output for node in linears)
            weights = tuple(weight for node in linears for weight in node.weights)
            changes |= {node: [] for node in linears}
            changes[linears[0]] = [Node("linear", (x,), outputs, weights, layer=linears[0].layer)]
    return graph.replace(changes)


def quantize_before_windows(graph: Graph) -> Graph:
    """`quantize(windows(x))` → `windows(quantize(x))`: a row is quantized once, not at every place of a window.

    No group reaches across taps, and what lies beyond an edge is zero either way.
    """
    producers, readers = graph.producers(), graph.consumers()
    codes: dict[Value, Value] = {}
    changes: dict[Node, list[Node]] = {}
    for node in graph.nodes:
        windows = producers.get(node.inputs[0]) if node.kind == "quantize" else None
        if windows is None or windows.kind != "windows" or readers[windows.output] != [node]:
            continue
        (x,), dtype = windows.inputs, node.output.dtype
        if x.width % Q8_GROUP_COLUMNS:
            continue
        changes |= {windows: [], node: []}
        if x not in codes:
            codes[x] = Value(f"{x.name}.{dtype}", x.width, x.rows, dtype)
            changes[node].append(replace(node, inputs=(x,), outputs=(codes[x],)))
        changes[node].append(replace(windows, inputs=(codes[x],), outputs=node.outputs))
    return graph.replace(changes)


def _is_plain_linear(node: Node) -> bool:
    return node.kind == "linear" and len(node.outputs) == len(node.inputs) == 1


def fuse_norm_quantize(graph: Graph) -> Graph:
    """norm → quantize becomes a norm that writes quantized rows."""
    return _write_quantized(graph, {"norm"})


def fuse_norm_both(graph: Graph) -> Graph:
    """norm → quantize becomes a norm that writes quantized rows beside its floats, where a residual reads those too."""
    producers, readers = graph.producers(), graph.consumers()
    changes: dict[Node, list[Node]] = {}
    for node in graph.nodes:
        producer = producers.get(node.inputs[0]) if node.kind == "quantize" else None
        if producer is not None and producer.kind == "norm" and readers[producer.output] != [node]:
            changes |= {producer: [replace(producer, outputs=(*producer.outputs, *node.outputs))], node: []}
    return graph.replace(changes)


def fuse_quantize_output(graph: Graph) -> Graph:
    """Attention, activations, gated MLP and filters write quantized rows when only a quantized linear reads them."""
    return _write_quantized(graph, {"attention", "self_attention", "activate", "gated_linear", "depthwise"})


def _write_quantized(graph: Graph, kinds: Collection[str]) -> Graph:
    producers, readers = graph.producers(), graph.consumers()
    changes: dict[Node, list[Node]] = {}
    for node in graph.nodes:
        producer = producers.get(node.inputs[0]) if node.kind == "quantize" else None
        if producer is None or producer.kind not in kinds:
            continue
        # Attention is computed head by head, so there a group must not reach across heads.
        unit = int(producer.attrs.get("head_dim", producer.output.width))
        if readers[producer.output] == [node] and unit % Q8_GROUP_COLUMNS == 0:
            changes |= {producer: [replace(producer, outputs=node.outputs)], node: []}
    return graph.replace(changes)


def fuse_rope_kv(graph: Graph) -> Graph:
    """rope(q), rope(k), kv_write → rope_kv: q turns in place, k and v go to their pages in one sweep."""
    producers, readers = graph.producers(), graph.consumers()
    changes: dict[Node, list[Node]] = {}
    for node in graph.nodes:
        turn_k = producers.get(node.inputs[0]) if node.kind == "kv_write" else None
        if turn_k is None or turn_k.kind != "rope" or readers[turn_k.output] != [node]:
            continue
        attention = next(n for n in graph.nodes if n.kind == "attention" and n.attrs["layer"] == node.attrs["layer"])
        turn_q = producers.get(attention.inputs[0])
        if turn_q is None or turn_q.kind != "rope" or turn_q.attrs != turn_k.attrs:
            continue
        if readers[turn_q.output] == [attention] and readers[turn_q.inputs[0]] == [turn_q]:
            inputs = (turn_q.inputs[0], turn_k.inputs[0], node.inputs[1])
            changes |= {turn_q: [], turn_k: []}
            changes[node] = [Node("rope_kv", inputs, turn_q.outputs, (), {**turn_k.attrs, **node.attrs}, node.layer)]
    return graph.replace(changes)


def fuse_linear_residual(graph: Graph) -> Graph:
    """`x + linear(y)` → linear with x as the residual that its last step adds."""
    producers, readers = graph.producers(), graph.consumers()
    changes: dict[Node, list[Node]] = {}
    for node in graph.nodes:
        if node.kind != "add":
            continue
        for linear_out, residual in (node.inputs[::-1], node.inputs):
            linear = producers.get(linear_out)
            if linear is not None and _is_plain_linear(linear) and readers[linear_out] == [node]:
                inputs = (linear.inputs[0], residual)
                changes |= {linear: [], node: [replace(linear, inputs=inputs, outputs=node.outputs)]}
                break
    return graph.replace(changes)


def remove_dead_code(graph: Graph) -> Graph:
    """Drop nodes whose outputs nobody reads, unless they write the KV pages or are the logits."""
    kept: list[Node] = []
    read = {graph.logits}
    for node in reversed(graph.nodes):
        if node.kind in SIDE_EFFECTS or any(v in read for v in node.outputs):
            kept.append(node)
            read |= {v.base or v for v in node.inputs}
    return Graph(tuple(reversed(kept)), graph.rope_tables)


PASSES: Mapping[str, Pass] = MappingProxyType(
    {
        fuse.__name__: fuse
        for fuse in (
            select_rows_early,
            merge_gate_up,
            merge_qkv,
            quantize_before_windows,
            fuse_norm_quantize,
            fuse_norm_both,
            fuse_quantize_output,
            fuse_rope_kv,
            fuse_linear_residual,
            remove_dead_code,
        )
    }
)
"""The fusions by name, in the order in which they apply."""
