"""Text of `show --graph`: operators, arithmetic and bytes before and after fusion."""

from __future__ import annotations

from collections.abc import Iterable

from miaotui.graph.cost import Cost, Workload, node_cost, total_cost
from miaotui.graph.nodes import Graph, Node, Value

DECODE = Workload(num_tokens=1, num_logit_rows=1, context_tokens=512)

LEFT_COLUMNS = 65
"""Characters of what an operator is, at least; merged linears with factors have longer names."""


def render_graph(graph_before: Graph, graph_after: Graph) -> str:
    """Two tables, repeated layers collapsed, for one decoded token behind 512 others, and a line that compares them."""
    before, after = (total_cost(graph.nodes, DECODE) for graph in (graph_before, graph_after))
    lines = [
        *_render("before fusion", graph_before),
        "",
        *_render("after fusion", graph_after),
        "",
        f"per decoded token ({DECODE.context_tokens} in context): "
        f"{len(graph_before.nodes)} → {len(graph_after.nodes)} operators, "
        f"{_count(before.flops)} → {_count(after.flops)} FLOP, "
        f"{_count(before.total_bytes)}B → {_count(after.total_bytes)}B moved "
        f"({_count(before.activation_bytes)}B → {_count(after.activation_bytes)}B of activations)",
    ]
    return "\n".join(lines) + "\n"


def _render(title: str, graph: Graph) -> list[str]:
    wide = max(LEFT_COLUMNS, *(len(_described(node)) + 2 for node in graph.nodes))
    head = f"{title + f': {len(graph.nodes)} operators':<{wide}} {'FLOP':>8} {'weights':>9} {'activ.':>9} {'kv':>9}"
    lines = [head, "-" * len(head)]
    for layers, nodes in _blocks(graph):
        times = len(layers)
        if layers:
            lines.append(f"layers {_ranges(layers)} ({times} x each)" if times > 1 else f"layer {layers[0]}")
        for node in nodes:
            text = ("  " if layers else "") + _described(node)
            lines.append(f"{text:<{wide}} {_figures(node_cost(node, DECODE))}")
    return lines


def _described(node: Node) -> str:
    shapes = f"{_widths(node.inputs)} → {_widths(node.outputs) or 'pages'}"
    label = "+".join(part.split(".", 1)[1] if part[:1].isdigit() else part for part in node.label.split("+"))
    types = "/".join(dict.fromkeys(w.type.name for w in node.matrices))
    return f"{node.kind:<13} {label if node.weights else '':<19} {shapes:<22} {types}"


def _figures(cost: Cost) -> str:
    figures = (cost.flops, cost.weight_bytes, cost.activation_bytes, cost.kv_bytes)
    return " ".join(f"{_count(x):>{8 if i == 0 else 9}}" for i, x in enumerate(figures))


SUFFIXES = {"f32": "", "q8": "i8", "q16": "i16"}


def _widths(values: Iterable[Value]) -> str:
    return ",".join(f"{v.width}{SUFFIXES[v.dtype]}" for v in values)


def _blocks(graph: Graph) -> list[tuple[list[int], list[Node]]]:
    """Runs of nodes outside layers, and layers that look alike with the list of their indices."""
    runs: list[tuple[int | None, list[Node]]] = []
    for node in graph.nodes:
        if not runs or runs[-1][0] != node.layer:
            runs.append((node.layer, []))
        runs[-1][1].append(node)
    blocks: dict[object, tuple[list[int], list[Node]]] = {}
    for at, (layer, nodes) in enumerate(runs):
        key = at if layer is None else tuple(_look(node) for node in nodes)
        blocks.setdefault(key, ([], nodes))
        if layer is not None:
            blocks[key][0].append(layer)
    return list(blocks.values())


def _look(node: Node) -> object:
    attrs = tuple((k, v) for k, v in node.attrs.items() if k != "layer")
    return node.kind, _widths(node.inputs), _widths(node.outputs), tuple(w.type for w in node.matrices), attrs


def _ranges(numbers: list[int]) -> str:
    """0, 1, 2, 5 → "0–2, 5"."""
    runs: list[list[int]] = []
    for n in numbers:
        if runs and n == runs[-1][-1] + 1:
            runs[-1].append(n)
        else:
            runs.append([n])
    return ", ".join(str(r[0]) if len(r) == 1 else f"{r[0]}–{r[-1]}" for r in runs)


def _count(x: float) -> str:
    for unit in ("", "k", "M", "G"):
        if x < 999.5:
            return f"{x:.0f}{unit}" if x >= 99.5 or not unit else f"{x:.3g}{unit}"
        x /= 1000
    return f"{x:.3g}T"
