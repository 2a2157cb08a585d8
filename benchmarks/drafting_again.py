"""What past answers buy where requests are repeated or edited: the same answers with and without drafting, in turns.

usage: drafting_again.py [--per-category N] [--tokens N] [--activations int16] [--out FILE.json] [MODEL]

Prompts are those of Spec-Bench (spec_bench_half.jsonl) that summarize, answer from documents or write code, through the
model's chat template, and files of code that are to be written again. Each is asked for the first time, then

- repeated: in the same words,
- edited: with one word of the request changed (a document's prompt: a word of its last sentence),
- renamed: "write this file again" with another name for one function, where the file is one that was written before.

Plain and drafting answer in turns, the order changing from prompt to prompt; answers must be equal, token by token.
The first asking is measured, too: it has nothing but its own prompt to draft from. A speed-up is the ratio of the
times from the first token to the last; "whole" includes reading the prompt, of which both know what they read before.
"""

from __future__ import annotations

import argparse
import inspect
import json
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from statistics import geometric_mean, mean
from typing import Any

from common import data_file, machine_facts, resolve, write_record
from miaotui import LLM
from miaotui.adaptive import AdaptiveDrafter, PastAnswers

CONTEXT = 4096
KV_BYTES = 512 << 20
PAST_BYTES = 32 << 20
CATEGORIES = ("summarization", "rag", "coding")
SOURCES = (textwrap.shorten, textwrap.dedent, textwrap.indent, inspect.cleandoc, inspect.getmodulename, re.split)
"""Functions of the standard library whose source is to be written again."""


def asked(per_category: int) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Category, and what is asked one after another: how it relates to the first, and the text."""
    taken: dict[str, int] = {}
    for line in data_file("spec_bench_half.jsonl").read_text("utf-8").splitlines():
        row = json.loads(line)
        category, text = row["category"], row["turns"][0]
        if category in CATEGORIES and taken.get(category, 0) < per_category:
            taken[category] = taken.get(category, 0) + 1
            yield category, [("first", text), ("repeated", text), ("edited", edited(text))]
    for function in SOURCES[:per_category]:
        code, name = inspect.getsource(function), function.__name__
        again = f"```python\n{code}```\nWrite this code again with the function renamed from {name} to"
        yield "code edit", [("first", f"{again} {name}_text."), ("renamed", f"{again} {name}_of.")]


def edited(text: str) -> str:
    """The text with the longest word of its last sentence in capitals, or twice where it is so already."""
    begin = max(text.rstrip(" .?!\n").rfind(sign) for sign in ".\n?!") + 1
    word = max(re.findall(r"\w+", text[begin:]) or re.findall(r"\w+", text), key=len)
    at = text.rindex(word)
    return text[:at] + (word.upper() if word != word.upper() else f"{word} {word}") + text[at + len(word) :]


def compared(plain: LLM, drafting: LLM, ids: list[int], max_tokens: int, *, plain_first: bool) -> dict[str, Any] | None:
    order = (plain, drafting) if plain_first else (drafting, plain)
    said = {llm: llm.generate(ids, temperature=0, max_tokens=max_tokens) for llm in order}
    if said[plain].token_ids != said[drafting].token_ids:
        raise SystemExit("the answers differ")
    before, after = said[plain].receipt, said[drafting].receipt
    if before.output_tokens < 2:
        return None
    row = {"tokens": before.output_tokens, "speedup": before.decode_s / after.decode_s}
    row["whole"] = (before.prefill_s + before.decode_s) / (after.prefill_s + after.decode_s)
    return row | {"drafted": after.drafted_tokens, "accepted": after.accepted_tokens}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="smollm2:135m")
    parser.add_argument("--per-category", type=int, default=1000)
    parser.add_argument("--tokens", type=int, default=192)
    parser.add_argument("--activations", default="int16", choices=["int16", "int8"])
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    model = resolve(arguments.model)
    settings: dict[str, Any] = {"context_length": CONTEXT, "kv_memory_bytes": KV_BYTES}
    settings["activations"] = arguments.activations
    drafter, rows = AdaptiveDrafter(PastAnswers(PAST_BYTES)), list[dict[str, Any]]()
    with LLM(model, **settings) as plain, LLM(model, drafter=drafter, **settings) as drafting:
        for category, texts in asked(arguments.per_category):
            for kind, text in texts:
                ids = plain.encode_chat(text)
                if len(ids) > CONTEXT - arguments.tokens:
                    print(f"left out: a prompt of {len(ids)} tokens ({category})", flush=True)
                    break
                row = compared(plain, drafting, ids, arguments.tokens, plain_first=len(rows) % 2 == 0)
                if row is not None:
                    rows.append({"category": category, "kind": kind} | row)
                    print(json.dumps(rows[-1]), flush=True)
    for kind in ("first", "repeated", "edited", "renamed"):
        some = [row for row in rows if row["kind"] == kind]
        for category in (*CATEGORIES, "code edit"):
            show(f"{kind}, {category}", [row for row in some if row["category"] == category])
        show(f"{kind}, all", some)
    if arguments.out:
        record = {"machine": machine_facts(), "model": model.name, "rows": rows}
        write_record(record, arguments.out)


def show(name: str, rows: list[dict[str, Any]]) -> None:
    if not rows:
        return
    speedups, drafted = [row["speedup"] for row in rows], sum(row["drafted"] for row in rows)
    whole, right = mean(row["whole"] for row in rows), sum(row["accepted"] for row in rows) / max(drafted, 1)
    print(
        f"| {name} | {len(rows)} | {mean(row['tokens'] for row in rows):.0f} | {mean(speedups):.2f} | "
        f"{geometric_mean(speedups):.2f} | {min(speedups):.2f} | {whole:.2f} | {right:.0%} |"
    )


if __name__ == "__main__":
    main()
