"""`miaotui bench MODEL`: prefill and decode rates beside the machine's measured ceilings."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from miaotui.cli.bench_ops import OpTime, decode_ops, op_report, prefill_ops, print_ops
from miaotui.cli.output import note, peak_memory_bytes, print_json, print_pairs
from miaotui.cli.parsing import add_model_options, at_least, config_of, cpu_info, open_llm

if TYPE_CHECKING:
    from miaotui.engine.llm import LLM


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.epilog = (
        "also: miaotui bench serve URL (a server under load), miaotui bench plan TRACE (what planning would do)"
    )
    parser.add_argument("model", nargs="?", help="name or path of a model")
    parser.add_argument(
        "--prompt-tokens", type=at_least(1), default=512, metavar="N", help="prompt length (default 512)"
    )
    parser.add_argument(
        "--output-tokens", type=at_least(2), default=128, metavar="N", help="decoded tokens (default 128)"
    )
    parser.add_argument(
        "--repeats", type=at_least(1), default=3, metavar="N", help="of so many runs the best counts (default 3)"
    )
    parser.add_argument(
        "--ops", action="store_true", help="also the time of every kind of operator, and how near its roofline that is"
    )
    parser.add_argument("--plot", type=Path, metavar="FILE", help="with --ops: draw it into an SVG file")
    add_model_options(parser)


def run(args: Namespace) -> int:
    """Measure; every figure of one call comes from one process."""
    if args.plot and not args.ops:
        note("miaotui: --plot draws operators; add --ops")
        return 2
    if args.plot:
        args.plot.open("a").close()  # better now than after minutes of measuring
    config = config_of(args)
    from miaotui import _native

    with open_llm(config, prefix_cache=False, drafter=None) as llm:  # prompts are repeated
        report: dict[str, Any] = {
            "model": config.model,
            "prefill": _prefill(llm, args.prompt_tokens, args.repeats),
            "decode": _decode(llm, args.output_tokens, args.repeats),
        }
        # Before the ceilings, whose buffers are larger than small models.
        report["peak_memory_bytes"] = peak_memory_bytes()
        ceilings = _native.measure_ceilings()
        ops = _ops(llm, args, cast(dict[str, float], ceilings)) if args.ops else {}
    cpu = cpu_info(config)
    if args.plot:
        from miaotui.cli.bench_plot import write_plot

        facts = f"{cpu['model']}, {cpu['tier']}, {cpu['threads']} threads"
        write_plot(args.plot, f"{config.model} on {facts}", ops, cast(dict[str, float], ceilings))
    report["machine"] = ceilings | {name: cpu[name] for name in ("model", "tier", "threads")}
    if args.json:
        print_json(report | ({"ops": {phase: op_report(times) for phase, times in ops.items()}} if ops else {}))
        return 0
    _print(report)
    for phase, times in ops.items():
        print_ops(f"{phase} {report[phase]['tokens']}", times)
    return 0


def _ops(llm: LLM, args: Namespace, ceilings: Mapping[str, float]) -> dict[str, list[OpTime]]:
    return {
        "prefill": prefill_ops(llm, _prompt(llm, args.prompt_tokens), args.repeats, ceilings),
        "decode": decode_ops(llm, _prompt(llm, 16), args.output_tokens, args.repeats, ceilings),
    }


def _prompt(llm: LLM, num_tokens: int) -> list[int]:
    """Token ids spread over the vocabulary; what they mean does not change the work."""
    return [(7919 * i + 13) % llm.spec.vocab_size for i in range(num_tokens)]


def _prefill(llm: LLM, num_tokens: int, repeats: int) -> dict[str, float]:
    from miaotui.cli.workload import prefill_operations

    prompt = _prompt(llm, num_tokens)
    llm.generate(prompt, max_tokens=1)  # touches every weight once
    seconds = min(llm.generate(prompt, max_tokens=1, temperature=0.0).receipt.prefill_s for _ in range(repeats))
    gops = prefill_operations(llm.loaded.compiled.graph, num_tokens, llm.loaded.kv_dtype) / seconds / 1e9
    return {"tokens": num_tokens, "tokens_per_s": num_tokens / seconds, "gops": gops}


def _decode(llm: LLM, num_tokens: int, repeats: int) -> dict[str, float]:
    from miaotui.cli.workload import decode_cost

    prompt, rates = _prompt(llm, 16), []
    for _ in range(repeats):
        receipt = llm.generate(prompt, max_tokens=num_tokens, temperature=0.0, ignore_eos=True).receipt
        rates.append(receipt.tokens_per_s or 0.0)
    cost = decode_cost(llm.loaded.compiled.graph, len(prompt) + num_tokens / 2, llm.loaded.kv_dtype)
    gigabytes = (cost.weight_bytes + cost.kv_bytes) / 1e9
    return {"tokens": num_tokens, "tokens_per_s": max(rates), "gb_per_s": gigabytes * max(rates)}


def _print(report: dict[str, Any]) -> None:
    from miaotui.formats.store_progress import format_bytes

    prefill, decode, machine = report["prefill"], report["decode"], report["machine"]
    of_gops, of_gb = prefill["gops"] / machine["int8_gops"], decode["gb_per_s"] / machine["read_gb_per_s"]
    prefill_text = f"{prefill['tokens_per_s']:.0f} tok/s, {prefill['gops']:.0f} GOPS"
    decode_text = f"{decode['tokens_per_s']:.1f} tok/s, {decode['gb_per_s']:.1f} GB/s"
    print_pairs(
        report["model"],
        [
            (f"prefill {prefill['tokens']}", f"{prefill_text} = {of_gops:.0%} of {machine['int8_gops']:.0f} GOPS"),
            (f"decode {decode['tokens']}", f"{decode_text} = {of_gb:.0%} of {machine['read_gb_per_s']:.1f} GB/s"),
        ],
    )
    note(
        f"[{machine['model']} · {machine['tier']} · {machine['threads']} threads · "
        f"{format_bytes(report['peak_memory_bytes'])} peak]"
    )
