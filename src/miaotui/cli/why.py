"""`miaotui why REQUEST_ID`: which way a request took to its answer, and why."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from miaotui.cli.kept import add_store_options, show_why, with_cache


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("request_id", metavar="REQUEST_ID", help="as in the reply's x-request-id header")
    add_store_options(parser)


def run(args: Namespace) -> int:
    """Show it."""
    return with_cache(args, lambda args, cache: show_why(args.request_id, args, cache))
