"""`miaotui cache`: what is kept, why an answer was served, and taking answers out."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from dataclasses import asdict

from miaotui.answers.cache import AnswerCache
from miaotui.answers.replay import verify
from miaotui.answers.store import KINDS, Filter
from miaotui.answers.verdict import reject
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
    parser.add_argument(
        "--request",
        metavar="REQUEST_ID",
        help="with reject: who was given it; if that asked something else, only the two questions are told apart",
    )
    parser.add_argument("--model", metavar="DIGEST", help="with purge: answers of that model; a beginning will do")
    parser.add_argument("--tag", help="with purge: answers with that tag")
    parser.add_argument("--expired", action="store_true", help="with purge: whatever holds no longer, decisions, too")
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
    key, asked = key_of(" ".join(args.words)), ""
    if args.request:
        decision = await cache.why(args.request, args.tenant)
        if decision is None or decision.entry != key.hex():
            raise NotKeptError("no request of that id was given that answer; `miaotui why` shows what it was given.")
        asked = decision.question if decision.path == "near" else ""
    said = {"request_id": args.request or "", "comment": args.comment}
    entry = await reject(cache, args.tenant, key, asked=asked, **said)
    if entry is None:
        raise NotKeptError("no answer of that id is kept.")
    what = f"told apart: {one_line(asked)} ≠ " if asked and asked != entry.question else "rejected: "
    note(f"{what}{one_line(entry.question)} → {one_line(entry.answer)}")
    return 0


async def _verify(args: Namespace, cache: AnswerCache) -> int:
    done = await verify(cache, args.tenant)
    if args.json:
        shown = [asdict(one) for one in done.violations]
        print_json({"answers": done.num_answers, "pairs": done.num_pairs, "violations": shown})
    else:
        for one in done.violations:
            print(f"{one_line(one.question)} → {one_line(one.answer)}: {one_line(one.why, 200)}")
        note(
            f"{done.num_answers} rejected answers and {done.num_pairs} pairs of questions replayed, "
            f"{len(done.violations)} would be served again."
        )
    return 1 if done.violations else 0


async def _purge(args: Namespace, cache: AnswerCache) -> int:
    given = [bool(args.words), args.model is not None, args.tag is not None, args.expired, args.all]
    if sum(given) != 1:
        raise ConfigError("purge needs exactly one of an ID, --model, --tag, --expired and --all.")
    if args.expired:
        wanted = [Filter(kind, args.tenant, expired_s=cache.now_s) for kind in KINDS]
    else:
        key = key_of(" ".join(args.words)) if args.words else None
        model = None if args.model is None else await _model_of(args.model, args.tenant, cache)
        wanted = [Filter("answer", args.tenant, key=key, model=model, tag=args.tag)]
    num_removed = sum([await cache.delete(which) for which in wanted])
    if args.json:
        print_json({"removed": num_removed})
    else:
        note(f"{num_removed} {'expired rows' if args.expired else 'answers'} removed.")
    return 0


async def _model_of(beginning: str, tenant: str, cache: AnswerCache) -> str:
    """The model whose digest begins so. Raises NotKeptError where none of the kept answers is of such a one, and
    ConfigError where several are meant."""
    if not beginning:
        raise ConfigError("--model needs the beginning of a digest; `miaotui cache ls --json` shows them.")
    found = {row.model async for row in cache.each_row(Filter("answer", tenant)) if row.model.startswith(beginning)}
    if beginning in found:
        return beginning
    if not found:
        raise NotKeptError(f"no kept answer is of a model whose digest begins with {beginning[:64]!r}.")
    if len(found) > 1:
        raise ConfigError(f"--model {beginning[:64]!r} means several: {', '.join(sorted(found))}")
    return found.pop()
