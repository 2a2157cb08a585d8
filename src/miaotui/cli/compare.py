"""`miaotui compare A B …`: what one model has over another, measured."""

from __future__ import annotations

import datetime
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from miaotui.cli.output import note, peak_memory_bytes, print_json, print_pairs, print_table
from miaotui.cli.parsing import add_model_options, at_least, config_of, cpu_info
from miaotui.errors import ConfigError, MiaotuiError

if TYPE_CHECKING:
    from miaotui.cli.compare_models import Entrant
    from miaotui.compress.compare.document import Comparison
    from miaotui.compress.compare.windows import Window
    from miaotui.compress.evaluate.items import Task

PARTS = ("load", "speed", "quality")
EPILOG = (
    "Task files have one JSON object a line, all of one kind. Multiple choice: "
    '{"question": …, "choices": [a, b, …], "answer": number, letter or text}. Next word: {"text": …, "target": …}, or '
    'without "target" the last word of "text". Exact answer: {"prompt": …, "answer": …}, with "regex" to find it in '
    "what is written (its first group). Speeds are taken in turns on this machine; KL and agreement are those to the "
    "first model, per token, and refused between different vocabularies."
)


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.epilog = EPILOG
    parser.add_argument(
        "models",
        nargs="+",
        metavar="MODEL",
        help="names or paths, the reference first; MODEL,kv-dtype=int8 or MODEL,activations=int8 sets how one is run",
    )
    group = parser.add_argument_group("what is measured")
    group.add_argument(
        "--text",
        metavar="FILE",
        help="UTF-8 text for perplexity and KL, - reads standard input (default: answers that the first model writes)",
    )
    group.add_argument(
        "--windows", type=at_least(1), default=16, metavar="N", help="so many windows of it, or answers (default 16)"
    )
    group.add_argument("--prompt", action="append", default=[], metavar="TEXT", help="show all models' answers to it")
    group.add_argument(
        "--prompts", type=Path, metavar="FILE", help='the same for each line, or {"prompt": …} of FILE.jsonl'
    )
    group.add_argument("--task", type=Path, action="append", default=[], metavar="FILE", help="questions, see below")
    group.add_argument("--limit", type=at_least(1), metavar="N", help="only the first N questions of each task")
    group.add_argument(
        "--max-tokens", type=at_least(1), default=128, metavar="N", help="most tokens of an answer (default 128)"
    )
    group.add_argument("--plain", action="store_true", help="put prompts as they are, not as a chat's questions")
    group.add_argument("--rounds", type=at_least(1), default=5, metavar="N", help="rounds for speed (default 5)")
    group.add_argument("--skip", action="append", default=[], choices=PARTS, help="leave a part out; may be repeated")
    group.add_argument("--scratch", default="1GiB", metavar="SIZE", help="most room on disk while it runs (1GiB)")
    group.add_argument("--report", type=Path, metavar="FILE", help="also write tables, plots, answers to FILE.html")
    add_model_options(parser)


@dataclass(frozen=True, slots=True)
class _Plan:
    """What is asked for beside the models. windows: of the user's text; None where the first model writes one."""

    parts: frozenset[str]
    rounds: int
    windows: Sequence[Window] | None
    num_windows: int
    text: str
    scratch_bytes: int
    folder: Path
    tasks: Sequence[Task]
    max_tokens: int


def run(args: Namespace) -> int:
    """Measure part by part; what there is by Ctrl-C is shown. All that can be wrong is looked at before."""
    from miaotui.compress.compare.document import Comparison, document

    if args.report is not None and args.report.suffix != ".html":
        raise ConfigError(f"--report writes .html, not {str(args.report)!r}")
    text = _text_of(args)
    prompts, tasks = _prompts(args), _tasks(args)
    config = config_of(args)
    cpu = cpu_info(config)
    from miaotui.cli.compare_models import open_entrants

    entrants = open_entrants(config, args.models, plain=args.plain)
    plan = _plan(args, entrants[0], config.home, text, tasks)
    if args.report is not None:
        args.report.open("a").close()  # better now than after minutes of measuring
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    machine = {name: cpu[name] for name in ("model", "tier", "threads")}
    found = Comparison([entrant.facts() for entrant in entrants], machine, now, prompts=prompts)
    problem: MiaotuiError | None = None
    try:
        _measure(found, entrants, plan)
    except KeyboardInterrupt:
        found.is_whole = False
    except MiaotuiError as error:  # what was measured before is still shown
        found.is_whole, problem = False, error
    finally:
        _progress("", 1, 1)
        for entrant in entrants:
            entrant.close()
    found.peak_memory_bytes = peak_memory_bytes()
    _show(document(found), args)
    if problem is not None:
        raise problem
    return 0 if found.is_whole else 130


def _plan(args: Namespace, reference: Entrant, home: Path, text: str | None, tasks: Sequence[Task]) -> _Plan:
    from miaotui.compress.compare.windows import windows_of_text
    from miaotui.config import parse_bytes

    try:
        scratch_bytes = parse_bytes(args.scratch)
    except ValueError as error:
        raise ConfigError(f"--scratch must be {error}, not {args.scratch!r:.80}") from None
    windows = None if text is None else windows_of_text(reference, text, num_windows=args.windows)
    scored = sum(window.num_scored for window in windows or ())
    name = "standard input" if args.text == "-" else Path(args.text or "").name
    return _Plan(
        parts=frozenset(PARTS) - set(args.skip),
        rounds=args.rounds,
        windows=windows,
        num_windows=args.windows,
        text=f"{scored} tokens of {name} in {len(windows or ())} windows of 512",
        scratch_bytes=scratch_bytes,
        folder=home,
        tasks=tasks,
        max_tokens=args.max_tokens,
    )


def _text_of(args: Namespace) -> str | None:
    if args.text is None:
        return None
    from miaotui.cli.text import read_text

    return read_text(args.text)


def _prompts(args: Namespace) -> list[str]:
    from miaotui.compress.compare.prompts import read_prompts

    blank = [prompt for prompt in args.prompt if not prompt.strip()]
    if blank:
        raise ConfigError("--prompt is empty; give a question")
    return [*args.prompt, *(read_prompts(args.prompts) if args.prompts else [])]


def _tasks(args: Namespace) -> list[Task]:
    from miaotui.compress.evaluate.items import read_task

    return [read_task(path, args.limit) for path in args.task]


def _measure(found: Comparison, entrants: Sequence[Entrant], plan: _Plan) -> None:
    from miaotui.compress.compare.answers import answers_of
    from miaotui.compress.compare.quality import measure_quality
    from miaotui.compress.compare.speed import measure_speed
    from miaotui.energy import find_energy

    if not entrants[0].keeps_open:
        found.notes.append("There is no room for all models at once: each was opened whenever it was its turn.")
    if "load" in plan.parts:
        starts = []
        for at, entrant in enumerate(entrants):
            _progress(f"load: {entrant.name}", at, len(entrants))
            starts.append(entrant.start())
        found.starts = starts
    if "speed" in plan.parts:
        energy, found.energy = find_energy()
        found.has_energy = energy is not None
        found.speeds = measure_speed(entrants, plan.rounds, energy=energy, step=_stage("speed"))
    if "quality" in plan.parts:
        windows, found.text = plan.windows, plan.text
        if windows is None:
            windows, found.text = _own_words(found, entrants[0], plan.num_windows)
        found.quality = measure_quality(
            entrants, windows, folder=plan.folder, scratch_bytes=plan.scratch_bytes, step=_stage("quality")
        )
    for task in plan.tasks:
        _solve(found, entrants, task, plan.max_tokens)
    if found.prompts:
        found.answers = answers_of(entrants, found.prompts, most=plan.max_tokens, step=_stage("answers"))


def _own_words(found: Comparison, reference: Entrant, num_windows: int) -> tuple[list[Window], str]:
    """What the first model answers, for all to be measured on, and how a reader is told."""
    from miaotui.compress.compare.prompts import COMMON
    from miaotui.compress.compare.windows import windows_of_answers

    questions = [*found.prompts, *COMMON][:num_windows]
    _progress(f"{reference.name} writes what all are measured on", 0, 1)
    with reference.open() as model:
        windows = windows_of_answers(model, questions)
    scored = sum(window.num_scored for window in windows)
    found.notes.append(
        f"No --text was given, so {reference.name}'s own answers were taken: right for KL and agreement, but its "
        "perplexity there is low by nature, and compares with nothing else."
    )
    return windows, f"{scored} tokens of {len(windows)} answers that {reference.name} wrote"


def _solve(found: Comparison, entrants: Sequence[Entrant], task: Task, most_tokens: int) -> None:
    from miaotui.compress.evaluate.solve import solve

    solved = []
    for entrant in entrants:
        told = partial(_stage(f"task {task.name}"), entrant.name)
        with entrant.open() as model:
            solved.append(solve(model, task, most_tokens=most_tokens, step=told))
    found.tasks.append((task, solved))


def _stage(what: str) -> Callable[[str, int, int], None]:
    return lambda name, done, total: _progress(f"{what}: {name}" if name else what, done, total)


def _progress(what: str, done: int, total: int) -> None:
    """One line on a terminal, gone when all is done; nothing elsewhere."""
    if sys.stderr.isatty():
        line = f"{done / total:4.0%} {what:.70}" if done < total else ""
        print(f"\r\x1b[K{line}", end="", file=sys.stderr, flush=True)


def _show(report: dict[str, Any], args: Namespace) -> None:
    from miaotui.compress.compare.page import page

    if args.json:
        print_json(report)
    else:
        _print_report(report)
    if args.report is not None:  # last: there may be no room for it
        args.report.write_text(page(report), encoding="utf-8")
        note(f"the report is in {args.report}")


def _print_report(report: dict[str, Any]) -> None:
    from miaotui.compress.compare.text import facts, notes, tables

    print_pairs("compared", facts(report))
    for title, heads, rows in tables(report):
        print(f"\n{title}")
        print_table(heads, rows)
    for row in report["answers"] or ():
        _print_answers(row)
    print()
    for line in notes(report):
        print(line)


def _print_answers(row: dict[str, Any]) -> None:
    from miaotui.compress.compare.text import same_words

    print(f"\n> {row['prompt']}")
    for at, (name, answer) in enumerate(row["answers"].items()):
        relation = f" ({same_words(answer)})" if at else ""
        print(f"\n[{name}]{relation}\n{answer['text']}{'' if answer['has_ended'] else '…'}")
