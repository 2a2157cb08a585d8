"""What a small model's answer is worth as a draft for a large one with the same vocabulary.

usage: cascade_drafts.py [--prompts N] [--tokens N] [--activations int16] [--out FILE.json] SMALL LARGE

Prompts are the first turns of MT-Bench. The large model answers each three times: without drafts, with drafts looked up
in its own text (`AdaptiveDrafter`), and with the small model's answer to look in as well (`GivenDrafter`), in an order
that changes from prompt to prompt. All answers must be equal, token by token. A speed-up is the ratio of the times from
the first token to the last; the small model's time is not in it, for in a cascade that is spent anyway.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from statistics import geometric_mean, mean
from typing import Any

from common import data_file, machine_facts, resolve, write_record
from miaotui import LLM
from miaotui.adaptive import AdaptiveDrafter
from miaotui.adaptive.cascade.vocabulary import same_vocabulary
from miaotui.adaptive.drafters.given import GivenDrafter

NAMES = ("plain", "own text", "small answer")


def questions(count: int) -> list[str]:
    rows = [json.loads(line) for line in data_file("mt_bench.jsonl").read_text("utf-8").splitlines()]
    return [row["turns"][0] for row in rows[:: max(len(rows) // count, 1)]][:count]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=20)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--activations", default="int16", choices=["int16", "int8"])
    parser.add_argument("--out", type=Path)
    parser.add_argument("small")
    parser.add_argument("large")
    arguments = parser.parse_args()
    settings: dict[str, Any] = {"context_length": 1024, "kv_memory_bytes": 128 << 20, "prefix_cache": False}
    settings["activations"] = arguments.activations
    drafters = {"plain": None, "own text": AdaptiveDrafter(), "small answer": GivenDrafter()}
    choice: dict[str, Any] = {"temperature": 0, "max_tokens": arguments.tokens}
    with (
        LLM(resolve(arguments.small), **settings) as small,
        LLM(resolve(arguments.large), **settings, drafter=AdaptiveDrafter()) as large,
    ):
        if not same_vocabulary(small, large):
            raise SystemExit("the two models have different vocabularies: nothing can be drafted")
        rows = []
        for number, text in enumerate(questions(arguments.prompts)):
            given = small.generate(small.encode_chat(text), **choice)
            rows.append(ask(large, drafters, text, given.token_ids, number, choice))
            print(json.dumps(rows[-1]), flush=True)
    for name in NAMES[1:]:
        ratios = [row[name]["speedup"] for row in rows]
        share = sum(row[name]["accepted"] for row in rows) / max(sum(row[name]["drafted"] for row in rows), 1)
        figures = f"{mean(ratios):.2f} | {geometric_mean(ratios):.2f} | {min(ratios):.2f}"
        print(f"| {name} | {len(rows)} | {figures} | {share:.0%} |")
    if arguments.out:
        record = {"machine": machine_facts(), "models": [arguments.small, arguments.large], "rows": rows}
        write_record(record, arguments.out)


def ask(
    large: LLM, drafters: dict[str, Any], text: str, given: tuple[int, ...], number: int, choice: dict[str, Any]
) -> dict[str, Any]:
    """The large model's times for one prompt, and how much of the small model's answer it says itself."""
    ids, scheduler = large.encode_chat(text), large.loaded.engine.scheduler
    done = {}
    for name in NAMES[number % 3 :] + NAMES[: number % 3]:
        scheduler.drafter = drafter = drafters[name]
        if isinstance(drafter, GivenDrafter):
            drafter.give(ids, given, "")
        done[name] = large.generate(ids, **choice)
    if len({one.token_ids for one in done.values()}) != 1:
        raise SystemExit(f"the answers to {text[:60]!r} differ")
    said = done["plain"].token_ids
    row: dict[str, Any] = {"tokens": len(said), "same": sum(a == b for a, b in zip(said, given, strict=False))}
    for name in NAMES[1:]:
        receipt = done[name].receipt
        speedup = done["plain"].receipt.decode_s / max(receipt.decode_s, 1e-9)
        row[name] = {"speedup": speedup, "drafted": receipt.drafted_tokens, "accepted": receipt.accepted_tokens}
    return row


if __name__ == "__main__":
    main()
