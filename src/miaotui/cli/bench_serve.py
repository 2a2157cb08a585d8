"""`miaotui bench serve URL`: how a server with OpenAI's API bears load; any such server, not only miaotui's."""

from __future__ import annotations

import os
import re
import secrets
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from miaotui.cli.output import note, print_json, print_pairs, print_table
from miaotui.cli.parsing import at_least, number
from miaotui.errors import ConfigError

if TYPE_CHECKING:
    from miaotui.load.session import Level, LoadOptions
    from miaotui.load.shapes import Demand

KEY_VARIABLE = "MIAOTUI_API_KEY"
DEFAULT_REQUESTS = 50
MAX_OPEN_FILES = 1 << 16


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("url", help="the server's address, as in http://127.0.0.1:8000")
    parser.add_argument("--model", metavar="NAME", help="which of the server's models (default: its only one)")
    parser.add_argument(
        "--endpoint", choices=("chat", "completions"), default="chat", help="what to ask (default: chat)"
    )
    parser.add_argument("--api-key-file", type=Path, metavar="FILE", help=f"file with the API key (or {KEY_VARIABLE})")
    _add_demand(parser)
    _add_load(parser)
    group = parser.add_argument_group("what is reported")
    group.add_argument(
        "--slo",
        metavar="LIMITS",
        help="count answers within limits in seconds, as ttft=1,tpot=0.1,e2e=30 (itl: every single gap)",
    )
    group.add_argument("--report", type=Path, metavar="FILE", help="write tables and charts to FILE.html, or FILE.svg")


def _add_demand(parser: ArgumentParser) -> None:
    group = parser.add_argument_group("what is asked")
    group.add_argument(
        "--shape", choices=("fixed", "sharegpt"), help="lengths: all the same (default), or spread like ShareGPT's"
    )
    group.add_argument("--prompt-tokens", type=at_least(1), metavar="N", help="length of fixed prompts (default 128)")
    group.add_argument("--output-tokens", type=at_least(1), metavar="N", help="length of fixed answers (default 64)")
    group.add_argument(
        "--trace", type=Path, metavar="FILE", help="lengths and arrivals of Azure's CSV or Mooncake's JSON lines"
    )
    group.add_argument("--length-scale", type=number, default=1.0, metavar="X", help="multiply all lengths (default 1)")
    group.add_argument("--max-prompt-tokens", type=at_least(1), metavar="N", help="cut longer prompts, and count them")
    group.add_argument("--max-output-tokens", type=at_least(1), metavar="N", help="cut longer answers, and count them")
    group.add_argument(
        "--exact-output", action="store_true", help="ask for full length (ignore_eos, min_tokens; not all servers do)"
    )
    group.add_argument(
        "--shared-prefix-tokens",
        type=at_least(0),
        default=0,
        metavar="N",
        help="put N tokens, always the same, in front of all prompts, which else have nothing in common",
    )
    group.add_argument("--seed", type=at_least(0), metavar="N", help="for prompts and arrivals (default: a new one)")


def _add_load(parser: ArgumentParser) -> None:
    group = parser.add_argument_group("how much load; several values, by commas, are measured one after the other")
    group.add_argument("--clients", metavar="N,…", help="so many clients that wait for each answer (default 1)")
    group.add_argument("--think", type=number, default=0.0, metavar="S", help="pause of a client between requests")
    group.add_argument("--rate", metavar="R,…", help="R requests a second, whatever became of those before")
    group.add_argument("--arrivals", choices=("poisson", "constant"), help="how --rate arrives (default: poisson)")
    group.add_argument("--rate-scale", metavar="X,…", help="arrivals as in the trace, X times as fast (default 1)")
    group.add_argument(
        "--requests",
        type=at_least(1),
        metavar="N",
        help=f"requests of each load (default {DEFAULT_REQUESTS}; a trace: all; with --duration: no limit)",
    )
    group.add_argument("--duration", type=number, metavar="S", help="begin no requests after S seconds")
    group.add_argument(
        "--warmup", type=at_least(0), default=2, metavar="N", help="uncounted requests before (default 2)"
    )
    group.add_argument(
        "--timeout", type=number, default=600.0, metavar="S", help="a request fails after S seconds (default 600)"
    )
    group.add_argument(
        "--retry", action="store_true", help="ask again where the server says 429, after its Retry-After"
    )


def run(args: Namespace) -> int:
    """Measure, report, and exit 1 if no request at all was answered."""
    try:
        from miaotui.load.report import document
        from miaotui.load.session import Measurement, run_measurement
        from miaotui.load.statistics import Slo
    except ImportError as error:
        if error.name not in ("aiohttp", "msgspec"):
            raise
        raise ConfigError(f"the load tool needs {error.name}: pip install 'miaotui[bench]'") from None
    if args.report is not None:
        if args.report.suffix not in (".html", ".svg"):
            raise ConfigError(f"--report writes .html or .svg, not {str(args.report)!r}")
        args.report.open("a").close()  # better now than after minutes of measuring
    slo = Slo.parse(args.slo) if args.slo else Slo()
    _allow_many_connections()
    measurement = Measurement(_options(args))
    is_whole = run_measurement(measurement, note)
    report = document(measurement, slo, is_whole=is_whole)
    _show(report, args)
    if not is_whole:
        return 130
    return 0 if any(run["num_ok"] for run in report["runs"]) else 1


def _options(args: Namespace) -> LoadOptions:
    from miaotui.load.session import LoadOptions
    from miaotui.load.target import root_of

    for name in ("duration", "timeout"):
        value = getattr(args, name)
        if value is not None and not 0 < value < float("inf"):
            raise ConfigError(f"--{name.replace('_', '-')} must be more than 0, not {value}")
    if not 0 <= args.think < float("inf"):
        raise ConfigError(f"--think must be at least 0, not {args.think}")
    seed = args.seed if args.seed is not None else secrets.randbelow(1_000_000)
    demand = _demand(args, seed)
    num_requests = args.requests
    if num_requests is None and args.duration is None and demand.num_shapes is None:
        num_requests = DEFAULT_REQUESTS
    return LoadOptions(
        root_of(args.url),
        demand,
        _levels(args),
        model=args.model,
        endpoint=args.endpoint,
        api_key=_api_key(args.api_key_file),
        exact_output=args.exact_output,
        shared_prefix_tokens=args.shared_prefix_tokens,
        seed=seed,
        num_warmups=args.warmup,
        num_requests=num_requests,
        duration_s=args.duration,
        think_s=args.think,
        timeout_s=args.timeout,
        retry=args.retry,
    )


def _demand(args: Namespace, seed: int) -> Demand:
    from miaotui.load.shapes import Limits, fixed, limited, sharegpt
    from miaotui.load.traces import read_trace

    has_fixed = args.prompt_tokens is not None or args.output_tokens is not None
    if args.trace is not None and (args.shape is not None or has_fixed):
        raise ConfigError("--trace brings its own lengths; leave out --shape, --prompt-tokens and --output-tokens")
    if args.shape == "sharegpt" and has_fixed:
        raise ConfigError("--prompt-tokens and --output-tokens are for fixed shapes; ShareGPT's lengths are spread")
    if args.trace is not None:
        demand = read_trace(args.trace)
    else:
        demand = sharegpt(seed) if args.shape else fixed(args.prompt_tokens or 128, args.output_tokens or 64)
    return limited(demand, Limits(args.length_scale, args.max_prompt_tokens, args.max_output_tokens))


def _levels(args: Namespace) -> tuple[Level, ...]:
    from miaotui.load.session import Level

    given = [name for name in ("clients", "rate", "rate_scale") if getattr(args, name) is not None]
    if len(given) > 1:
        raise ConfigError("choose one of --clients, --rate and --rate-scale")
    if args.arrivals and given != ["rate"]:
        raise ConfigError("--arrivals says how --rate arrives; add --rate")
    if args.think and given != ["clients"]:
        raise ConfigError("--think is a client's pause; add --clients")
    if given == ["rate_scale"] and args.trace is None:
        raise ConfigError("--rate-scale speeds up a trace; add --trace FILE")
    if given == ["clients"]:
        return tuple(Level(clients=int(value)) for value in _values("--clients", args.clients, r"[1-9][0-9]{0,4}"))
    if given == ["rate"]:
        rates = _values("--rate", args.rate, r"[0-9]+(\.[0-9]+)?")
        return tuple(Level(arrivals=args.arrivals or "poisson", rate=rate) for rate in rates)
    if args.trace is not None:
        scales = _values("--rate-scale", args.rate_scale or "1", r"[0-9]+(\.[0-9]+)?")
        return tuple(Level(arrivals="trace", rate=scale) for scale in scales)
    return (Level(clients=1),)


def _values(flag: str, text: str, form: str) -> list[float]:
    parts = [part.strip() for part in text.split(",")]
    if not all(re.fullmatch(form, part) and float(part) > 0 for part in parts):
        raise ConfigError(f"{flag} takes positive numbers by commas, as in 1,4,8; not {text[:80]!r}")
    return [float(part) for part in parts]


def _api_key(file: Path | None) -> str | None:
    """The key; never from the command line, which other users of the machine can read."""
    key = os.environ.get(KEY_VARIABLE, "").strip()
    if file is not None:
        lines = file.read_text("utf-8").splitlines()
        key = next((line.strip() for line in lines if line.strip()), "")
        if not key:
            raise ConfigError(f"{file} holds no API key")
    return key or None


def _allow_many_connections() -> None:
    """Every request under way is an open file, and the usual limit is 1,024."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, MAX_OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _show(report: dict[str, Any], args: Namespace) -> None:
    from miaotui.load.charts import draw
    from miaotui.load.page import page
    from miaotui.load.text import facts, latencies, notes, overview

    if args.report is not None and report["runs"]:
        args.report.write_text((draw if args.report.suffix == ".svg" else page)(report), encoding="utf-8")
        note(f"the report is in {args.report}")
    if args.json:
        print_json(report)
        return
    if not report["runs"]:
        return
    print_pairs("what was measured", facts(report))
    print()
    print_table(*overview(report))
    for run in report["runs"]:
        print(f"\n{run['label']}")
        print_table(*latencies(run))
    for line in notes(report):
        note(line)
