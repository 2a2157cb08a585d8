"""`miaotui answers`: questions and answers of one's own, asked for from the command line."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from argparse import ArgumentParser, Namespace
from pathlib import Path

from miaotui.answers.cache import AnswerCache, Found
from miaotui.answers.control import CacheControl
from miaotui.answers.curated import all_answers, exported, import_pairs, read_pairs
from miaotui.answers.entry import Entry, computed
from miaotui.answers.question import Question
from miaotui.cli.kept import action_of, add_store_options, list_answers, one_line, summary, with_cache
from miaotui.cli.output import note, print_json
from miaotui.cli.parsing import add_model_options, at_least, config_of, open_llm
from miaotui.core import SamplingParams
from miaotui.errors import ConfigError

ACTIONS = {
    "import": "keep the questions and answers of FILE.csv or FILE.jsonl; they rank before generated ones",
    "ask": "answer a QUESTION: from what is kept, or by the model, whose answer is then kept",
    "search": "kept answers that hold the WORDS",
    "export": "all kept answers as JSONL",
}


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("action", help="; ".join(f"{name}: {meaning}" for name, meaning in ACTIONS.items()))
    parser.add_argument("words", nargs="*", metavar="FILE | QUESTION | WORDS")
    parser.add_argument("--tags", default="", metavar="A,B", help="with import: names to invalidate the answers by")
    parser.add_argument("--limit", type=at_least(1), default=20, metavar="N", help="list at most so many (default: 20)")
    parser.add_argument("--curated", action="store_true", help="with export: only what people wrote")
    parser.add_argument("--refresh", action="store_true", help="with ask: ask the model anew")
    parser.add_argument("-m", "--model", help="with ask: name or path of the model")
    add_store_options(parser)
    add_model_options(parser)


def run(args: Namespace) -> int:
    """Do it. Raises ConfigError for another action."""
    action = action_of(args, {"import": _import, "ask": _ask, "search": _search, "export": _export})
    if not args.words and args.action != "export":
        raise ConfigError(f"`miaotui answers {args.action}` needs more: {ACTIONS[args.action]}")
    return with_cache(args, action)


async def _import(args: Namespace, cache: AnswerCache) -> int:
    tags = [tag.strip() for tag in args.tags.split(",") if tag.strip()]
    found = [entry for name in args.words for entry in read_pairs(Path(name), args.tenant, tags=tags)]
    rejected = await import_pairs(cache, found)
    num_kept = len(found) - len(rejected)
    if args.json:
        print_json({"imported": num_kept, "rejected_before": [entry.question for entry in rejected]})
        return 0
    note(f"{num_kept} answers imported.")
    for entry in rejected:
        note(f"left out, since this answer was rejected before: {one_line(entry.question)}")
    return 0


async def _search(args: Namespace, cache: AnswerCache) -> int:
    return await list_answers(
        args,
        cache,
        ("ORIGIN", "QUESTION", "ANSWER"),
        lambda entry: (entry.origin, one_line(entry.question), one_line(entry.answer)),
        nothing="no kept answer holds these words.",
    )


async def _export(args: Namespace, cache: AnswerCache) -> int:
    async for entry in all_answers(cache, args.tenant, only_curated=args.curated):
        sys.stdout.write(json.dumps(exported(entry), ensure_ascii=True) + "\n")
    return 0


async def _ask(args: Namespace, cache: AnswerCache) -> int:
    text, start_s = " ".join(args.words), time.perf_counter()
    params, control = SamplingParams(temperature=0.0, max_tokens=None), CacheControl()
    messages = [{"role": "user", "content": text}]
    found = None
    if not args.refresh:  # what people wrote needs no model
        found = await cache.look_up(Question(args.tenant, "", messages, params), control)
    if not isinstance(found, Found):
        return await _ask_model(args, cache, messages, params, start_s)
    return _show(args, found.entry, found.path, found.why, time.perf_counter() - start_s)


async def _ask_model(
    args: Namespace, cache: AnswerCache, messages: list[dict[str, str]], params: SamplingParams, start_s: float
) -> int:
    """From what is kept of this model's answers, or by it."""
    from miaotui.engine.answer import PROMPT_TAIL

    with open_llm(config_of(args), fetch=True) as llm:
        question = Question(args.tenant, llm.fingerprint(), messages, params, options=llm.clock_options(messages))
        found = await cache.look_up(question, CacheControl("refresh" if args.refresh else "default"))
        if isinstance(found, Found):
            return _show(args, found.entry, found.path, found.why, time.perf_counter() - start_s)
        completion = await asyncio.to_thread(llm.chat, messages, params)
        receipt = completion.receipt
        tail = tuple(llm.encode_chat(messages)[-PROMPT_TAIL:])
        entry = computed(question, completion.text, receipt, prompt_tail=tail, stop_reason=completion.stop_reason)
        if completion.finish_reason == "stop":
            await cache.keep(entry)
        return _show(args, entry, receipt.path, found.why, time.perf_counter() - start_s)


def _show(args: Namespace, entry: Entry, path: str, why: str, seconds: float) -> int:
    if args.json:
        print_json(summary(entry) | {"path": path, "why": why, "seconds": round(seconds, 6)})
    else:
        print(entry.answer)
        saved = f"; computing it took {entry.cost_s:.2f} s" if path != "model" and entry.cost_s else ""
        note(f"[{path}: {why}; {seconds:.3f} s{saved}]")
    return 0
