"""`miaotui bench plan TRACE`: what planning would do on a trace, against each fixed path and an oracle."""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from miaotui.cli.bench_plan_report import facts, remarks, write_report
from miaotui.cli.bench_plan_report import table as table_of
from miaotui.cli.output import note, print_json, print_pairs, print_table
from miaotui.cli.parsing import add_model_options, at_least, number
from miaotui.errors import ConfigError, TaskFileError, brief

if TYPE_CHECKING:
    from miaotui.adaptive.simulation.questions import Arrival, Mix
    from miaotui.adaptive.simulation.world import World

MAX_PROMPTS_BYTES = 64 << 20


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("trace", type=Path, help="arrivals and lengths: Azure's CSV or Mooncake's JSON lines")
    parser.add_argument("--requests", type=at_least(2), default=1000, metavar="N", help="of its first N (default 1000)")
    parser.add_argument(
        "--load",
        default="0.3,0.6,0.8",
        metavar="L,…",
        help="shares of the machine that the requests would take, computed one and all (default 0.3,0.6,0.8)",
    )
    parser.add_argument("--length-scale", type=number, default=0.25, metavar="X", help="of all lengths (default 0.25)")
    parser.add_argument("--max-prompt-tokens", type=at_least(1), default=512, metavar="N", help="(default 512)")
    parser.add_argument("--max-output-tokens", type=at_least(1), default=128, metavar="N", help="(default 128)")
    parser.add_argument("--repeated", type=number, default=0.3, metavar="P", help="asked before, as is (default 0.3)")
    parser.add_argument("--reworded", type=number, default=0.1, metavar="P", help="… in other words (default 0.1)")
    parser.add_argument(
        "--prompts",
        type=Path,
        metavar="FILE",
        help="JSON lines with category and turns, as Spec-Bench's: what is asked",
    )
    parser.add_argument("--unknown-lengths", action="store_true", help="requests do not say how long answers will be")
    parser.add_argument("--seed", type=at_least(0), default=1, metavar="N", help="(default 1)")
    parser.add_argument(
        "--costs", type=Path, metavar="FILE", help="prices to reckon with; with --fit: where to put them"
    )
    parser.add_argument("--fit", metavar="MODEL", help="measure a model's prices first, for about a minute")
    parser.add_argument("--real", metavar="MODEL", help="then ask a model for real, as far as --real-requests go")
    parser.add_argument("--real-requests", type=at_least(2), default=60, metavar="N", help="(default 60)")
    parser.add_argument("--report", type=Path, metavar="FILE", help="write tables and charts to FILE.html, or FILE.svg")
    add_model_options(parser)


def run(args: Namespace) -> int:
    """Replay, compare, report."""
    loads = _loads(args.load)
    if args.report is not None:
        if args.report.suffix not in (".html", ".svg"):
            raise ConfigError(f"--report writes .html or .svg, not {str(args.report)!r}")
        args.report.open("a").close()  # better now than after minutes
    from miaotui.adaptive.simulation.offered import at_load
    from miaotui.adaptive.simulation.questions import questions_of
    from miaotui.adaptive.simulation.regret import compare

    prompts = _prompts(args.prompts) if args.prompts else {}
    world, arrivals = _world(args), _arrivals(args)
    mix = _mix(args, prompts, world.noise)
    runs: list[dict[str, Any]] = []
    for load in loads:
        questions = questions_of(at_load(arrivals, world, load), mix, args.seed)
        runs.append({"load": load} | compare(questions, world, args.seed, knows_lengths=not args.unknown_lengths))
    report: dict[str, Any] = {"trace": args.trace.name, "prices": world.source, "runs": runs}
    report |= {"repeated": mix.repeated, "reworded": mix.reworded}
    if args.real:
        from miaotui.cli.bench_plan_real import run_real

        real = questions_of(at_load(arrivals[: args.real_requests], world, loads[0]), mix, args.seed)
        report["real"] = run_real(args, real, prompts)
    if args.report is not None:
        write_report(args.report, report)
        note(f"the report is in {args.report}")
    _show(report, as_json=args.json)
    return 0


def _show(report: Mapping[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(report)
        return
    print_pairs("what was replayed", facts(report))
    for one in report["runs"]:
        print(f"\nload {one['load']:g}")
        print_table(*table_of(one))
    for line in remarks(report):
        note(line)


def _loads(text: str) -> list[float]:
    try:
        loads = [float(part) for part in text.split(",")]
    except ValueError:
        loads = []
    if not loads or not all(0 < load <= 10 for load in loads):
        raise ConfigError(f"--load takes shares by commas, as in 0.3,0.8; not {text[:80]!r}")
    return loads


def _mix(args: Namespace, prompts: Mapping[str, list[str]], noise: float) -> Mix:
    from miaotui.adaptive.simulation.questions import Mix

    if not (args.repeated >= 0 and args.reworded >= 0 and args.repeated + args.reworded <= 1):
        raise ConfigError("--repeated and --reworded are shares from 0 to 1, together 1 at most")
    weights = {category: float(len(texts)) for category, texts in prompts.items()}
    return Mix(args.repeated, args.reworded, categories=weights or None, noise=noise)


def _world(args: Namespace) -> World:
    from miaotui.adaptive.simulation.world import World

    if args.fit:
        from miaotui.cli.bench_plan_fit import fitted

        world = fitted(args)
        if args.costs:
            world.write(args.costs)
        return world
    return World.read(args.costs) if args.costs else World()


def _arrivals(args: Namespace) -> list[Arrival]:
    from miaotui.adaptive.simulation.questions import Arrival
    from miaotui.load.shapes import Limits, limited
    from miaotui.load.traces import read_trace

    limits = Limits(args.length_scale, args.max_prompt_tokens, args.max_output_tokens)
    shapes = islice(limited(read_trace(args.trace), limits).shapes(), args.requests)
    return [Arrival(one.arrival_s or 0.0, one.prompt_tokens, one.output_tokens) for one in shapes]


def _prompts(path: Path) -> dict[str, list[str]]:
    """Texts by category. Raises TaskFileError."""
    found: dict[str, list[str]] = {}
    try:
        if path.stat().st_size > MAX_PROMPTS_BYTES:
            raise TaskFileError(f"{path} is longer than {MAX_PROMPTS_BYTES >> 20} MiB.")
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise TaskFileError(f"{path} cannot be read: {error}") from None
    for at, line in enumerate(lines, 1):
        try:
            row = json.loads(line) if line.strip() else None
            if row is not None:
                found.setdefault(str(row["category"]), []).append(str(row["turns"][0]))
        except (ValueError, RecursionError, TypeError, LookupError):
            raise TaskFileError(
                f"{path}, line {at}: an object with category and turns is wanted, not {brief(line)}."
            ) from None
    if not found:
        raise TaskFileError(f"{path} holds no prompts.")
    return found
