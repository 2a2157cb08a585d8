"""`miaotui exits run MODEL --exits FILE [TEXT…]`: labels of texts that leave the encoder once they are sure."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from miaotui.cli.output import note, print_json
from miaotui.cli.parsing import config_of, open_embedder
from miaotui.cli.text import read_text
from miaotui.errors import InvalidRequestError

if TYPE_CHECKING:
    from miaotui.adaptive.exits import Classified

EXAMPLES = """
the exits are made once, from labelled texts: miaotui exits train --help

examples:
  miaotui exits run minilm --exits reviews.exits "A film to see twice."
  miaotui exits run minilm --exits reviews.exits --lines reviews.txt --json
"""


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.formatter_class, parser.epilog = RawDescriptionHelpFormatter, EXAMPLES
    parser.add_argument("model", help="name or path of the text encoder that the exits were trained on")
    parser.add_argument("--exits", required=True, type=Path, metavar="FILE", help="what `exits train` wrote")
    parser.add_argument("--lines", metavar="FILE", help="a text a line; - is standard input")
    parser.add_argument("--whole", action="store_true", help="have every text go through all layers")
    parser.add_argument("--truncate", action="store_true", help="cut texts that are too long instead of refusing them")
    parser.add_argument("--quiet", action="store_true", help="no line about how many layers were enough")
    parser.add_argument("texts", nargs="*", metavar="TEXT", help="a text")
    add_run_options(parser)


def add_run_options(parser: ArgumentParser) -> None:
    """How the encoder is run."""
    group = parser.add_argument_group("how to run the model")
    group.add_argument("--threads", metavar="N", help="1 to 1024 (default: the CPUs this process may use)")
    group.add_argument("--isa", metavar="TIER", help="instruction-set tier to force; `miaotui doctor` lists them")


def run(args: Namespace) -> int:
    """A label a line on standard output; how many layers texts went through on standard error."""
    texts = _texts(args)
    config = config_of(args)
    from miaotui.adaptive.exits import EarlyClassifier, load_exits

    exits = load_exits(args.exits)
    with EarlyClassifier(open_embedder(config, config.model, exits.activations), exits) as classifier:
        found = classifier.classify(texts, whole=args.whole, truncate=args.truncate)
        num_layers = classifier.embedder.spec.num_layers
    if args.json:
        print_json([asdict(one) for one in found])
        return 0
    for one in found:
        print(one.label)
    if not args.quiet:
        note(_told(found, num_layers))
    return 0


def _texts(args: Namespace) -> list[str]:
    if bool(args.texts) == (args.lines is not None):
        raise InvalidRequestError("give texts or --lines FILE, one of the two.")
    if args.lines is None:
        return list(args.texts)
    texts = [line for line in read_text(args.lines).splitlines() if line.strip()]
    if not texts:
        raise InvalidRequestError(f"{args.lines} is empty; give a text a line.")
    return texts


def _told(found: list[Classified], num_layers: int) -> str:
    counts = Counter(one.layers for one in found)
    parts = [f"{counts[layers]} after {layers}" for layers in sorted(counts)]
    mean = sum(one.layers for one in found) / len(found)
    return f"[{mean:.2f} of {num_layers} layers on average: {', '.join(parts)}]"
