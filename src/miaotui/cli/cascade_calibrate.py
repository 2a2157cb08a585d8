"""`miaotui cascade calibrate SMALL LARGE --data FILE -o gate.json`: when a small model's answer suffices."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from miaotui.cli.cascade_models import add_arguments as add_models
from miaotui.cli.cascade_models import open_all
from miaotui.cli.guarantee import add_guarantee_options, check_guarantee, counting, with_interval
from miaotui.cli.output import print_json, print_pairs
from miaotui.cli.parsing import at_least, config_of, number

if TYPE_CHECKING:
    from miaotui.adaptive.cascade import Asking, Calibration, Gate, Labelled, Outcome
    from miaotui.config import Config

DEFAULT_TEST, DEFAULT_TOGETHER = 0.3, 8
EXAMPLES = """
examples:
  miaotui cascade calibrate small.gguf large.gguf --data reviews.tsv -o gate.json
      --choices negative,positive --instruction "Is this review positive or negative? Answer with one word."
  miaotui cascade calibrate SMALL LARGE --data tickets.jsonl -o gate.json --teacher --floor 0.97

a line of a .jsonl file: {"prompt": "…", "answer": "…"}, or with "messages" for "prompt"; other files: text, tab, answer
"""


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the command's arguments."""
    from argparse import RawDescriptionHelpFormatter

    parser.formatter_class, parser.epilog = RawDescriptionHelpFormatter, EXAMPLES
    parser.add_argument("--data", required=True, type=Path, metavar="FILE", help="labelled rows, .jsonl or .tsv")
    parser.add_argument("-o", "--output", required=True, type=Path, metavar="FILE", help="the gate to write (.json)")
    add_guarantee_options(parser, "large model's")
    parser.add_argument(
        "--signal",
        default="margin",
        metavar="NAME",
        help="what tells how sure the small model is: margin (default), mean-logprob, min-logprob, entropy, agreement, "
        "verifier; of several with commas the cheapest gate is taken",
    )
    parser.add_argument("--instruction", default="", metavar="TEXT", help="what to put in front of each text")
    parser.add_argument("--choices", default="", metavar="A,B,…", help="the only answers there are, with commas")
    parser.add_argument("--max-tokens", type=at_least(1), default=256, metavar="N", help="of an answer (default 256)")
    parser.add_argument(
        "--teacher", action="store_true", help="the large model's answers are right; the file's are not looked at"
    )
    parser.add_argument(
        "--test",
        type=number,
        default=DEFAULT_TEST,
        metavar="SHARE",
        help=f"of the rows, to measure the gate on and not to calibrate (default {DEFAULT_TEST:g})",
    )
    parser.add_argument("--limit", type=at_least(2), metavar="N", help="take only so many rows, drawn by chance")
    parser.add_argument(
        "--together",
        type=at_least(1),
        default=DEFAULT_TOGETHER,
        metavar="N",
        help=f"rows asked at once (default {DEFAULT_TOGETHER}; 1 measures the times of single users)",
    )
    add_models(parser)


def run(args: Namespace) -> int:
    """Ask both models, write the gate, and say what it does."""
    config = config_of(args)
    asking, signals = _asking(args), _signals(args)
    from miaotui.cli.cascade_rows import read_rows

    rows = read_rows(args.data, asking.choices, teacher=args.teacher)[: args.limit]
    num_test = _num_test(args, len(rows))
    gate, calibration, outcome = _calibrated(args, config, asking, signals, rows, num_test)
    from miaotui.adaptive.cascade import save_gate

    save_gate(gate, args.output)
    if args.json:
        print_json({"gate": str(args.output), "calibration": calibration.facts(), "test": outcome and outcome.facts()})
    else:
        _show(args, calibration, outcome)
    return 0


def _asking(args: Namespace) -> Asking:
    from miaotui.adaptive.cascade import Asking

    choices = tuple(choice.strip() for choice in args.choices.split(",")) if args.choices else ()
    return Asking(args.instruction, choices, args.max_tokens)


def _signals(args: Namespace) -> list[Any]:
    from miaotui.adaptive.cascade.signals import find_signal
    from miaotui.errors import ConfigError, InvalidRequestError

    check_guarantee(args)
    try:
        signals = [find_signal(name.strip()) for name in args.signal.split(",")]
    except InvalidRequestError as error:
        raise ConfigError(f"--signal: {error}") from None
    unfit = [signal.name for signal in signals if args.choices and not signal.for_choices]
    if unfit:
        raise ConfigError(f"--signal {unfit[0]} tells nothing of answers out of given choices; take margin.")
    return signals


def _num_test(args: Namespace, num_rows: int) -> int:
    from miaotui.errors import InvalidRequestError

    num_test: int = round(args.test * num_rows)
    if num_rows - num_test < 1:
        raise InvalidRequestError(f"{args.data} leaves no rows to calibrate on; give more, or a smaller --test.")
    return num_test


def _calibrated(
    args: Namespace, config: Config, asking: Asking, signals: list[Any], rows: list[Labelled], num_test: int
) -> tuple[Gate, Calibration, Outcome | None]:
    from miaotui.adaptive.cascade import Gate, calibrate, collect, digests, evaluate

    with ExitStack() as stack:
        small, large = (stack.enter_context(llm) for llm in open_all(config, [args.small, args.large]))
        models = digests([small, large])
        cases = collect(small, large, asking, rows, signals, together=args.together, step=counting("rows"))
    calibration = calibrate(cases[num_test:], signals, args.floor, args.confidence)
    outcome = evaluate(cases[:num_test], calibration.signal, calibration.threshold) if num_test else None
    facts = {name: fact for name, fact in calibration.facts().items() if name not in ("signal", "threshold", "floor")}
    gate = Gate(
        calibration.signal, calibration.threshold, models, asking, calibration.floor, calibration.confidence, facts
    )
    return gate, calibration, outcome


def _show(args: Namespace, calibration: Calibration, outcome: Outcome | None) -> None:
    threshold = calibration.threshold
    kept = (
        "always the large model" if threshold is None else f"where its {calibration.signal} is {threshold:.3g} or more"
    )
    if calibration.kept_share == 1.0:
        kept = "always"
    print_pairs(
        f"gate in {args.output}",
        [
            ("the small one answers" if threshold is not None else "who answers", kept),
            ("because", calibration.why),
            ("calibration rows", f"{calibration.num_cases}, accuracy {calibration.small_accuracy:.1%} small, "
             f"{calibration.large_accuracy:.1%} large, {calibration.cascade_accuracy:.1%} cascade"),
            ("small one suffices", f"for {calibration.kept_share:.1%} of rows"),
            ("time", f"{calibration.cost_ratio:.2f} of the large model's"),
        ],
    )  # fmt: skip
    if outcome is not None:
        names = {"small": "small", "large": "large", "cascade": "cascade", "kept_accuracy": "cascade / large",
                 "kept_share": "small one suffices", "cost_saved": "time saved"}  # fmt: skip
        figures = [(words, getattr(outcome, name)) for name, words in names.items()]
        print_pairs(
            f"\non {outcome.num_cases} other rows, with 95 % intervals",
            [(words, with_interval(one)) for words, one in figures],
        )
