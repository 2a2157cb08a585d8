"""`miaotui exits train MODEL --data FILE -o FILE`: a classifier on a frozen encoder that texts leave early."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError, Namespace, RawDescriptionHelpFormatter
from pathlib import Path
from typing import TYPE_CHECKING

from miaotui.cli.exits import add_run_options
from miaotui.cli.guarantee import add_guarantee_options, check_guarantee, counting, with_interval
from miaotui.cli.output import print_json, print_pairs
from miaotui.cli.parsing import at_least, config_of, number, open_embedder
from miaotui.errors import TaskFileError

if TYPE_CHECKING:
    from miaotui.adaptive.exits import Outcome, Trained

DEFAULT_TEST = 0.2
EXAMPLES = """
examples:
  miaotui exits train minilm --data reviews.tsv -o reviews.exits
  miaotui exits train minilm --data tickets.jsonl -o tickets.exits --floor 0.98 --layers 2,4

a line of a .jsonl file: {"text": "…", "label": "…"}; other files: text, tab, label
"""


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.formatter_class, parser.epilog = RawDescriptionHelpFormatter, EXAMPLES
    parser.add_argument("model", help="name or path of a text encoder, such as minilm")
    parser.add_argument("--data", required=True, type=Path, metavar="FILE", help="labelled texts, .jsonl or .tsv")
    parser.add_argument("-o", "--output", required=True, type=Path, metavar="FILE", help="the exits to write")
    add_guarantee_options(parser, "whole depth's")
    parser.add_argument(
        "--layers", type=_layers, metavar="N,N,…", help="behind which texts may leave (default: where it pays)"
    )
    parser.add_argument(
        "--test",
        type=number,
        default=DEFAULT_TEST,
        metavar="SHARE",
        help=f"of the texts, to measure the exits on and not to train (default {DEFAULT_TEST:g})",
    )
    parser.add_argument("--limit", type=at_least(2), metavar="N", help="take only so many texts, drawn by chance")
    parser.add_argument("--truncate", action="store_true", help="cut texts that are too long instead of refusing them")
    parser.add_argument("--activations", metavar="TYPE", help="int8 (default), int16 or float32 (exact, slow)")
    add_run_options(parser)


def run(args: Namespace) -> int:
    """Train, write the exits, and say what they do."""
    check_guarantee(args)
    config = config_of(args)
    from miaotui.adaptive.exits import EarlyClassifier, evaluate, save_exits, train
    from miaotui.engine.cut_encoder import check_layers
    from miaotui.engine.loading import find_model
    from miaotui.formats.store import pull

    check_layers(find_model(pull(config.model)).spec, args.layers or ())
    rows = _rows(args)
    num_test = round(args.test * len(rows))

    with open_embedder(config, config.model) as embedder:
        trained = train(
            embedder,
            rows[num_test:],
            floor=args.floor,
            confidence=args.confidence,
            layers=args.layers,
            truncate=args.truncate,
            step=counting("texts"),
        )
        save_exits(trained.exits, args.output)
        outcome = None
        if num_test:
            outcome = evaluate(EarlyClassifier(embedder, trained.exits), rows[:num_test], truncate=args.truncate)
    if args.json:
        test = outcome and outcome.facts()
        print_json({"exits": str(args.output), "calibration": trained.calibration.facts(), "test": test})
    else:
        _show(args, trained, outcome)
    return 0


def _layers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(one) for one in text.split(","))
    except ValueError:
        raise ArgumentTypeError(f"it must be numbers such as 2,4, not {text[:80]!r}") from None


def _rows(args: Namespace) -> list[tuple[str, str]]:
    """Texts and labels, in an order drawn once and for all. Raises TaskFileError."""
    from miaotui.cli.cascade_rows import read_rows

    rows = []
    for row in read_rows(args.data, (), teacher=False)[: args.limit]:
        if not isinstance(row.given, str) or row.wanted is None:
            raise TaskFileError(f'{args.data}: an encoder reads texts and no conversations; give "text" in each line.')
        rows.append((row.given, row.wanted))
    return rows


def _show(args: Namespace, trained: Trained, outcome: Outcome | None) -> None:
    found = trained.calibration
    leave = "nothing leaves early"
    if found.threshold is not None:
        leave = f"once the label has a probability of {found.threshold:.4g}"
    print_pairs(
        f"exits in {args.output}",
        [
            ("a text leaves", leave),
            ("because", found.why),
            ("calibration rows", f"{found.num_rows}, accuracy {found.whole_accuracy:.1%} at the whole depth, "
             f"{found.early_accuracy:.1%} so"),
            ("layers", _shares(dict(zip(found.depths, found.leaving, strict=True)), found.mean_layers)),
            ("work", f"{found.work:.2f} of the whole depth's"),
        ],
    )  # fmt: skip
    if outcome is not None:
        names = {"whole": "whole depth", "early": "leaving early", "kept_accuracy": "early / whole",
                 "same": "same label"}  # fmt: skip
        figures = [(words, getattr(outcome, name)) for name, words in names.items()]
        shares = [(words, with_interval(one)) for words, one in figures]
        print_pairs(
            f"\non {outcome.num_rows} other texts, with 95 % intervals",
            [*shares, ("layers", _shares(outcome.leaving, outcome.mean_layers.value))],
        )


def _shares(leaving: dict[int, float], mean: float) -> str:
    parts = [f"{share:.1%} after {layers}" for layers, share in leaving.items()]
    return f"{mean:.2f} on average: {', '.join(parts)}"
