"""`miaotui embed MODEL TEXT…`: vectors of texts."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace

from miaotui.cli.output import print_json
from miaotui.cli.parsing import at_least, config_of, open_embedder
from miaotui.errors import InvalidRequestError


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("model", help="name or path of a text encoder, such as minilm")
    parser.add_argument("texts", nargs="*", metavar="TEXT", help="a text; without any, one per line of standard input")
    parser.add_argument("--dimensions", type=at_least(1), metavar="N", help="only the first N of each vector")
    parser.add_argument("--truncate", action="store_true", help="cut texts that are too long instead of refusing them")
    parser.add_argument(
        "--similarity", action="store_true", help="how alike the texts are (cosines), not their vectors"
    )
    group = parser.add_argument_group("how to run the model")
    group.add_argument("--activations", metavar="TYPE", help="int8 (default), int16 or float32 (exact, slow)")
    group.add_argument("--threads", metavar="N", help="1 to 1024 (default: the CPUs this process may use)")
    group.add_argument("--isa", metavar="TIER", help="instruction-set tier to force; `miaotui doctor` lists them")


def run(args: Namespace) -> int:
    """A vector per line, numbers parted by spaces; or, with --json, an object with all of them."""
    texts = args.texts or [line.rstrip("\r\n") for line in _lines()]
    if not texts:
        raise InvalidRequestError("there is nothing to embed; give texts, or lines on standard input.")
    config = config_of(args)
    with open_embedder(config, config.model) as embedder:
        vectors = embedder.embed(texts, dimensions=args.dimensions, truncate=args.truncate)
    rows = (vectors @ vectors.T if args.similarity else vectors).tolist()
    if args.json:
        print_json({"model": config.model, "similarity" if args.similarity else "vectors": rows})
        return 0
    digits = 4 if args.similarity else 7
    for row in rows:
        print(" ".join(f"{value:.{digits}f}" for value in row))
    return 0


def _lines() -> list[str]:
    if sys.stdin.isatty():
        return []
    return sys.stdin.readlines()
