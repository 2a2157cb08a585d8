"""`miaotui show MODEL` for a text encoder: as it is run by default, in 8 bits."""

from __future__ import annotations

from argparse import Namespace
from typing import TYPE_CHECKING, Any

from miaotui.cli.output import print_json, print_pairs

if TYPE_CHECKING:
    from miaotui.config import Config
    from miaotui.formats import ModelFile
    from miaotui.graph.nodes import Graph

WRITERS_FIELDS = ("kv_", "rope_", "sliding_", "_softcap", "tie_", "embedding_scale", "norm_offset", "attention_bias")
"""Parts of the names of what a spec says of models that write; an encoder has none of it."""


def show_encoder(file: ModelFile, config: Config, args: Namespace) -> int:
    """Spec and memory, or with `--graph` the operators before and after fusion."""
    from miaotui.core import Activations
    from miaotui.engine.embedder import in_8_bits
    from miaotui.graph.passes import optimize
    from miaotui.models import build_graph

    activations: Activations = config.activations if config.sources["activations"] != "default" else "int8"
    weights = file.weights if activations == "float32" else in_8_bits(file)
    graph = build_graph(file.spec, weights)
    fused = optimize(graph, activations=activations)
    if args.graph and not args.json:
        from miaotui.graph.render import render_graph

        print(render_graph(graph, fused), end="")
        return 0
    report = describe_encoder(file, fused, config.model)
    if args.json:
        print_json(report)
    else:
        _print(report)
    return 0


def describe_encoder(file: ModelFile, graph: Graph, model: str) -> dict[str, Any]:
    """Spec, memory and the speed that the machine's limits allow, ready for JSON."""
    from dataclasses import asdict

    from miaotui import _native
    from miaotui.engine.embedder import STEP_TOKENS
    from miaotui.graph.memory import plan_memory

    spec = {k: v for k, v in asdict(file.spec).items() if not any(part in k for part in WRITERS_FIELDS)}
    arena = plan_memory(graph, max_tokens=STEP_TOKENS, max_logit_rows=STEP_TOKENS // 2, row_bytes=_native.row_bytes)
    operations = 2 * sum(w.num_rows * w.num_cols for w in graph.multiplied.values())
    ceilings = _native.measure_ceilings()
    return {
        "model": model,
        "path": str(file.path),
        "file_bytes": file.weights.file_bytes,
        "spec": spec,
        "memory": {
            "weight_bytes": sum(w.nbytes for w in graph.multiplied.values()),
            "table_bytes": sum(w.nbytes for w in graph.tables.values()),
            "activation_bytes": arena.arena_bytes,
        },
        "predicted": {"tokens_per_s": ceilings["int8_gops"] * 1e9 / operations, "machine": ceilings},
    }


def _print(report: dict[str, Any]) -> None:
    from miaotui.formats.store_progress import format_bytes

    spec, memory, predicted = report["spec"], report["memory"], report["predicted"]
    head = f"{spec['name']} ({spec['architecture']}, text encoder, {format_bytes(report['file_bytes'])})"
    print_pairs(head, [("path", report["path"]), *((name, str(v)) for name, v in spec.items() if name != "name")])
    print()
    print_pairs(
        "memory",
        [
            ("weights", f"{format_bytes(memory['weight_bytes'])} as they are multiplied"),
            ("tables", f"{format_bytes(memory['table_bytes'])}, read from the file row by row"),
            ("activations", f"{format_bytes(memory['activation_bytes'])} at most, for the largest step"),
        ],
    )
    print()
    print_pairs(
        "predicted at this machine's limits",
        [("texts", f"{predicted['tokens_per_s']:.0f} tok/s at {predicted['machine']['int8_gops']:.0f} GOPS")],
    )
