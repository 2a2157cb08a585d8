"""`miaotui show MODEL`: what a model is made of, what it needs, how fast it can be."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from miaotui.cli.output import print_json, print_pairs, print_table
from miaotui.cli.parsing import add_model_options, config_of, cpu_info

if TYPE_CHECKING:
    from miaotui.config import Config
    from miaotui.formats import ModelFile
    from miaotui.graph.nodes import Graph

PREFILL_TOKENS = 512
DECODE_CONTEXT = 512


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("model", help="name or path of a model")
    parser.add_argument("--graph", action="store_true", help="operators, arithmetic and bytes, before and after fusion")
    add_model_options(parser)


def run(args: Namespace) -> int:
    """Nothing of the weights is loaded for this."""
    config = config_of(args)
    cpu_info(config)  # an impossible tier is refused in the user's words
    from miaotui.engine.loading import find_model
    from miaotui.graph.passes import optimize
    from miaotui.models import build_graph

    file = find_model(config.model)
    if file.spec.is_encoder or file.spec.is_classifier:
        from miaotui.cli.show_encoder import show_encoder

        return show_encoder(file, config, args)
    graph = build_graph(file.spec, file.weights)
    fused = optimize(graph, activations=config.activations)
    if args.graph and not args.json:
        from miaotui.graph.render import render_graph

        print(render_graph(graph, fused), end="")
        return 0
    report = describe(file, fused, config)
    if args.json:
        if args.graph:
            report["graph"] = {"before": _operators(graph), "after": _operators(fused)}
        print_json(report)
    else:
        _print(report)
    return 0


def describe(file: ModelFile, graph: Graph, config: Config) -> dict[str, Any]:
    """Spec, tensor types, memory plan and predicted rates, ready for JSON."""
    spec = asdict(file.spec)
    spec["sliding_layers"] = sum(file.spec.sliding_layers)
    return {
        "model": config.model,
        "path": str(file.path),
        "file_bytes": file.weights.file_bytes,
        "spec": spec,
        "tensor_types": _tensor_types(file),
        "memory": _memory(file, graph, config),
        "predicted": _predicted(graph, config.kv_dtype),
    }


def _tensor_types(file: ModelFile) -> list[dict[str, Any]]:
    types: dict[str, dict[str, Any]] = {}
    for tensor in file.weights.values():
        entry = types.setdefault(tensor.type.name, {"type": tensor.type.name, "tensors": 0, "weights": 0, "bytes": 0})
        entry["tensors"] += 1
        entry["weights"] += tensor.num_weights
        entry["bytes"] += tensor.nbytes
    return sorted(types.values(), key=lambda entry: -entry["bytes"])


def _memory(file: ModelFile, graph: Graph, config: Config) -> dict[str, Any]:
    """Bytes of weights, of one step's activations, and of the KV pages with the context they allow."""
    from miaotui import _native
    from miaotui.engine.kv_memory import available_memory_bytes, plan_kv
    from miaotui.engine.loading import LoadOptions
    from miaotui.engine.pages import BLOCK_TOKENS, num_blocks_for
    from miaotui.graph.memory import plan_memory

    spec, options = file.spec, LoadOptions()
    arena = plan_memory(
        graph,
        max_tokens=options.max_tokens_per_step,
        max_logit_rows=options.max_logit_rows,
        row_bytes=_native.row_bytes,
    )
    plan = plan_kv(
        _native.KvPool.block_bytes(spec.num_layers, spec.num_kv_heads, spec.head_dim, config.kv_dtype),
        spec.context_length,
        context_length=config.context_length,
        kv_memory_bytes=config.kv_memory_bytes,
        max_sequences=options.max_sequences,
        available_bytes=available_memory_bytes(),
    )
    context_blocks = num_blocks_for(plan.context.length)
    return {
        "weight_bytes": sum(tensor.nbytes for tensor in file.weights.values()),
        "activation_bytes": arena.arena_bytes,
        "kv_bytes_per_token": plan.block_bytes // BLOCK_TOKENS,
        "kv_bytes_of_a_context": context_blocks * plan.block_bytes,
        "kv_bytes_at_most": plan.total_bytes,
        "kv_limit": _kv_limit(config, plan.num_blocks / context_blocks, options.max_sequences),
        "context_length": plan.context.length,
        "model_context_length": plan.context.model_length,
    }


def _kv_limit(config: Config, num_contexts: float, max_sequences: int) -> str:
    """Why there is no more KV memory, for people."""
    if num_contexts == max_sequences:
        return f"{max_sequences} full contexts"
    if config.kv_memory_bytes is not None:
        return config.sources["kv_memory_bytes"]
    return "the same for every model, or a quarter of the free memory if that is less; --kv-memory sets it"


def _predicted(graph: Graph, kv_dtype: str) -> dict[str, Any]:
    """Rates at the machine's measured ceilings: decode reads all weights once per token, prefill multiplies."""
    from miaotui import _native
    from miaotui.cli.workload import decode_cost, prefill_operations

    ceilings = _native.measure_ceilings()
    decode = decode_cost(graph, DECODE_CONTEXT, kv_dtype)
    operations = prefill_operations(graph, PREFILL_TOKENS, kv_dtype)
    return {
        "decode_tokens_per_s": ceilings["read_gb_per_s"] * 1e9 / (decode.weight_bytes + decode.kv_bytes),
        "prefill_tokens_per_s": ceilings["int8_gops"] * 1e9 * PREFILL_TOKENS / operations,
        "machine": ceilings,
    }


def _operators(graph: Graph) -> list[dict[str, Any]]:
    from miaotui.graph.cost import node_cost
    from miaotui.graph.render import DECODE

    return [{"kind": n.kind, "label": n.label, "layer": n.layer} | asdict(node_cost(n, DECODE)) for n in graph.nodes]


def _print(report: dict[str, Any]) -> None:
    from miaotui.formats.store_progress import format_bytes

    spec, memory, predicted = report["spec"], report["memory"], report["predicted"]
    print_pairs(
        f"{spec['name']} ({spec['architecture']}, {format_bytes(report['file_bytes'])})",
        [("path", report["path"]), *((name, _text(value)) for name, value in spec.items() if name != "name")],
    )
    print("\ntensors")
    print_table(
        ("  TYPE", "TENSORS", "WEIGHTS", "SIZE"),
        [
            (f"  {t['type']}", str(t["tensors"]), f"{t['weights'] / 1e6:.1f} M", format_bytes(t["bytes"]))
            for t in report["tensor_types"]
        ],
    )
    print()
    print_pairs(
        "memory",
        [
            ("weights", format_bytes(memory["weight_bytes"])),
            ("activations", f"{format_bytes(memory['activation_bytes'])} at most, for the largest step"),
            ("KV per token", format_bytes(memory["kv_bytes_per_token"])),
            ("KV of a full context", format_bytes(memory["kv_bytes_of_a_context"])),
            ("KV", f"{format_bytes(memory['kv_bytes_at_most'])} at most ({memory['kv_limit']}), taken as it is used"),
            ("context", f"{memory['context_length']} tokens (the model allows {memory['model_context_length']})"),
        ],
    )
    print()
    machine = predicted["machine"]
    print_pairs(
        "predicted at this machine's limits (see `miaotui bench` for what is reached)",
        [
            ("decode", f"{predicted['decode_tokens_per_s']:.0f} tok/s at {machine['read_gb_per_s']:.1f} GB/s"),
            ("prefill", f"{predicted['prefill_tokens_per_s']:.0f} tok/s at {machine['int8_gops']:.0f} GOPS"),
        ],
    )


def _text(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{k} {_text(v)}" for k, v in value.items() if v is not None)
    return "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
