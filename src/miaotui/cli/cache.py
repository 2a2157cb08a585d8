"""`miaotui cache`: what is kept, why an answer was served, and taking answers out."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from dataclasses import asdict

from miaotui.answers.cache import AnswerCache
from miaotui.answers.store import Filter
from miaotui.answers.verdict import reject, verify
from miaotui.cli.kept import Action, action_of, add_store_options, key_of, list_answers, one_line, show_why, with_cache
from miaotui.cli.output import note, print_json, print_pairs
from miaotui.cli.parsing import at_least
from miaotui.errors import ConfigError, NotKeptError

ACTIONS = {
    "stats": "how many answers are kept, and their bytes",
    "ls": "the latest answers, or those that hold the WORDS",
    "why": "why the request of that ID was answered as it was",
    "reject": "take the wrong answer of that ID out for good",
    "verify": "replay all rejected answers: none may come back",
    "purge": "forget answers: of one --model, --tag or ID, expired ones, or --all",
}


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("action", help="; ".join(f"{name}: {meaning}" for name, meaning in ACTIONS.items()))
    parser.add_argument("words", nargs="*", metavar="ID | WORDS", help="an id, or words to look for")
    parser.add_argument("--limit", type=at_least(1), default=20, metavar="N", help="list at most so many (default: 20)")
    parser.add_argument("--comment", default="", help="with reject: what is wrong")
    parser.add_argument("--model", metavar="DIGEST", help="with purge: answers of that model")
    parser.add_argument("--tag", help="with purge: answers with that tag")
    parser.add_argument("--expired", action="store_true", help="with purge: answers that hold no longer")
    parser.add_argument("--all", action="store_true", help="with purge: all answers of the tenant")
    add_store_options(parser)


def run(args: Namespace) -> int:
    """Do it. Raises ConfigError for another action."""
    actions: dict[str, Action] = {
        "stats": _stats,
        "ls": _ls,
        "why": _why,
        "reject": _reject,
        "verify": _verify,
        "purge": _purge,
    }
    return with_cache(args, action_of(args, actions))


async def _stats(args: Namespace, cache: AnswerCache) -> int:
    held = await cache.levels[-1].count(Filter("answer", args.tenant))
    cases = await cache.levels[-1].count(Filter("case", args.tenant))
    figures = {"store": cache.levels[-1].name, "answers": held.num_rows, "bytes": held.num_bytes}
    figures |= {"rejected": cases.num_rows}
    if args.json:
        print_json(figures)
    else:
        print_pairs("kept answers", [(name, str(value)) for name, value in figures.items()])
    return 0


async def _ls(args: Namespace, cache: AnswerCache) -> int:
    return await list_answers(
        args,
        cache,
        ("ID", "ORIGIN", "QUESTION", "ANSWER"),
        lambda entry: (entry.id, entry.origin, one_line(entry.question, 40), one_line(entry.answer, 40)),
        nothing="no such answers are kept.",
    )


async def _why(args: Namespace, cache: AnswerCache) -> int:
    return await show_why(" ".join(args.words), args, cache)


async def _reject(args: Namespace, cache: AnswerCache) -> int:
    entry = await reject(cache, args.tenant, key_of(" ".join(args.words)), comment=args.comment)
    if entry is None:
        raise NotKeptError("no answer of that id is kept.")
    note(f"rejected: {one_line(entry.question)} → {one_line(entry.answer)}")
    return 0


async def _verify(args: Namespace, cache: AnswerCache) -> int:
    num_cases, violations = await verify(cache, args.tenant)
    if args.json:
        print_json({"cases": num_cases, "violations": [asdict(one) for one in violations]})
    else:
        for one in violations:
            print(f"{one_line(one.question)} → {one_line(one.answer)}: {one.why}")
        note(f"{num_cases} rejected answers replayed, {len(violations)} would be served again.")
    return 1 if violations else 0


async def _purge(args: Namespace, cache: AnswerCache) -> int:
    given = [bool(args.words), args.model is not None, args.tag is not None, args.expired, args.all]
    if sum(given) != 1:
        raise ConfigError("purge needs exactly one of an ID, --model, --tag, --expired and --all.")
    which = Filter(
        "answer",
        args.tenant,
        key=key_of(" ".join(args.words)) if args.words else None,
        model=args.model,
        tag=args.tag,
        expired_s=cache.now_s if args.expired else None,
    )
    num_removed = await cache.delete(which)
    if args.json:
        print_json({"removed": num_removed})
    else:
        note(f"{num_removed} answers removed.")
    return 0
