"""What drafting buys, category by category: the same answers with and without, in turns.

usage: drafting.py [--per-category N] [--categories a,b] [--tokens N] [--activations int16] [--draft-model SMALL]
                   [--only-model | --oracle] [--users N] [--llama 2,10] [--out FILE.json] [MODEL]

Prompts are those of Spec-Bench (spec_bench_half.jsonl), through the model's chat template. Each is answered twice by
the same process, plain and with drafts, the order changing from prompt to prompt; the answers must be equal, token by
token. A prompt's speed-up is the ratio of the times from its first token to its last; "whole" includes reading the
prompt. With --draft-model, a small model guesses beside the lookup, or --only-model without it; what that took is told.
With --users, so many prompts of different categories are asked at once, and a speed-up is that of the whole time. With
--llama, llama-cpp-python answers the same prompts in the same turns, plain and with its lookup of so many tokens.
With --oracle, each guess of the lookup ends where the answer will leave it: no choice of lengths could buy more.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Mapping
from collections.abc import Sequence as Row
from dataclasses import asdict
from itertools import zip_longest
from pathlib import Path
from statistics import geometric_mean, mean
from typing import Any

from common import data_file, machine_facts, peer_python, resolve, write_record
from miaotui import LLM
from miaotui.adaptive import AdaptiveDrafter
from miaotui.adaptive.drafters.lookup import PromptLookup
from miaotui.adaptive.shares import Offer
from miaotui.adaptive.step_cost import SIZES
from miaotui.engine.sequence import Sequence
from workers import Worker

CONTEXT = 4096
KV_BYTES = 512 << 20


class Blind(PromptLookup):
    """Finds nothing."""

    def find(self, count: int) -> tuple[int, list[int]]:
        return 0, []


class Oracle:
    """Drafts what the lookup finds, as far as the answer, which it knows, goes the same way."""

    model = None

    def __init__(self) -> None:
        self.answer: Row[int] = ()
        self._lookup = PromptLookup()

    def knows(self, answer: Row[int]) -> None:
        self.answer, self._lookup = answer, PromptLookup()

    def draft(self, answering: Row[Sequence], num_spare: int) -> Mapping[Sequence, Row[int]]:
        (sequence,) = answering
        self._lookup.read(sequence.token_ids)
        matched, guess = self._lookup.find(min(num_spare, SIZES[-1]))
        length = Offer("request", matched, guess).num_right(self.answer[sequence.num_output_tokens :])
        return {sequence: guess[:length]} if length else {}

    def judge(self, sequence: Sequence, num_judged: int, num_accepted: int) -> None: ...

    def observe(self, num_answers: int, num_drafted: int, seconds: float) -> None: ...

    def ended(self, sequence: Sequence) -> None: ...


class OnlyModel(AdaptiveDrafter):
    """Nothing is looked up in the text."""

    def begin(self, sequence: object) -> PromptLookup:
        return Blind()


class Llama:
    """llama.cpp in a process of its own; `lengths` of its drafts, none at all among them."""

    def __init__(self, model: Path, lengths: list[int]) -> None:
        script = str(Path(__file__).with_name("drafting_llama.py"))
        threads = str(machine_facts()["threads"])
        self._worker = Worker([peer_python("llama-cpp-python"), script, str(model), str(CONTEXT), threads])
        self._lengths = [0, *lengths]

    def compared(self, prompt: Row[int], tokens: int, *, backwards: bool) -> dict[str, Any]:
        """Ratios of decode times by the length of drafts, and whether each answer is the plain one, token by token."""
        found: dict[int, Any] = {}
        for drafts in reversed(self._lengths) if backwards else self._lengths:
            found[drafts] = self._worker.ask({"prompt": [*prompt], "tokens": tokens, "drafts": drafts})
        plain = found.pop(0)
        return {
            "plain_s": plain["decode_s"],
            "tokens": len(plain["ids"]),
            "speedup": {drafts: plain["decode_s"] / row["decode_s"] for drafts, row in found.items()},
            "same": {drafts: plain["ids"] == row["ids"] for drafts, row in found.items()},
        }

    def close(self) -> None:
        self._worker.close()


def questions(per_category: int, categories: list[str]) -> Iterator[tuple[str, str]]:
    taken: dict[str, int] = {}
    for line in data_file("spec_bench_half.jsonl").read_text("utf-8").splitlines():
        row = json.loads(line)
        category = row["category"]
        if taken.get(category, 0) < per_category and (not categories or category in categories):
            taken[category] = taken.get(category, 0) + 1
            yield category, row["turns"][0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="smollm2:135m")
    parser.add_argument("--per-category", type=int, default=1000)
    parser.add_argument("--categories", type=lambda text: text.split(","), default=[])
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--activations", default="int16", choices=["int16", "int8"])
    parser.add_argument("--draft-model")
    parser.add_argument("--only-model", action="store_true")
    parser.add_argument("--oracle", action="store_true")
    parser.add_argument("--users", type=int, default=1)
    parser.add_argument("--llama", type=lambda text: [int(part) for part in text.split(",")], metavar="LENGTHS")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    model = resolve(arguments.model)
    llama = Llama(model, arguments.llama) if arguments.llama else None
    settings: dict[str, Any] = {"context_length": CONTEXT, "kv_memory_bytes": KV_BYTES, "prefix_cache": False}
    settings["activations"] = arguments.activations
    drafter = Oracle() if arguments.oracle else OnlyModel() if arguments.only_model else AdaptiveDrafter()
    small = {"draft_model": resolve(arguments.draft_model)} if arguments.draft_model else {}
    with LLM(model, **settings) as plain, LLM(model, drafter=drafter, **small, **settings) as drafting:
        rows = []
        choice = {"temperature": 0, "max_tokens": arguments.tokens}
        if arguments.users > 1:
            crowds(plain, drafting, arguments, model.name)
            return
        for number, (category, text) in enumerate(questions(arguments.per_category, arguments.categories)):
            ids = plain.encode_chat(text)
            if len(ids) > CONTEXT - arguments.tokens:
                print(f"left out: a prompt of {len(ids)} tokens ({category})", flush=True)
                continue
            order, said = (plain, drafting) if number % 2 or arguments.oracle else (drafting, plain), {}
            for llm in order:
                said[llm] = llm.generate(ids, **choice)
                if isinstance(drafter, Oracle):
                    drafter.knows(said[llm].token_ids)
            if said[plain].token_ids != said[drafting].token_ids:
                raise SystemExit(f"the answers to {text[:60]!r} differ")
            before, after = said[plain].receipt, said[drafting].receipt
            if before.output_tokens < 2:
                continue
            row = {"category": category, "tokens": before.output_tokens, "speedup": before.decode_s / after.decode_s}
            row["whole"] = (before.prefill_s + before.decode_s) / (after.prefill_s + after.decode_s)
            row |= {"drafted": after.drafted_tokens, "accepted": after.accepted_tokens}
            if llama is not None:
                row["llama"] = llama.compared(ids, arguments.tokens, backwards=number % 2 == 1)
            rows.append(row | {"plain_s": before.decode_s} | model_facts(drafter))
            print(json.dumps(rows[-1]), flush=True)
    for category in sorted({row["category"] for row in rows}):
        some = [row for row in rows if row["category"] == category]
        print(line(category, some))
    print(line("all", rows))
    if llama is not None:
        llama.close()
        for drafts in arguments.llama:
            print(llama_line(drafts, rows))
    if arguments.out:
        record = {"machine": machine_facts(), "model": model.name, "draft_model": arguments.draft_model, "rows": rows}
        write_record(record, arguments.out)


def crowds(plain: LLM, drafting: LLM, arguments: argparse.Namespace, name: str) -> None:
    """Groups of prompts of different categories, each group asked at once."""
    by_category: dict[str, list[list[int]]] = {}
    for category, text in questions(arguments.per_category, arguments.categories):
        ids = plain.encode_chat(text)
        if len(ids) <= CONTEXT - arguments.tokens:
            by_category.setdefault(category, []).append(ids)
    prompts = [ids for row in zip_longest(*by_category.values()) for ids in row if ids is not None]
    rows = []
    for number, begin in enumerate(range(0, len(prompts) - arguments.users + 1, arguments.users)):
        group, seconds, said = prompts[begin : begin + arguments.users], {}, {}
        for llm in (plain, drafting) if number % 2 else (drafting, plain):
            begun_s = time.perf_counter()
            said[llm] = llm.generate(group, temperature=0, max_tokens=arguments.tokens, progress=False)
            seconds[llm] = time.perf_counter() - begun_s
        if [one.token_ids for one in said[plain]] != [one.token_ids for one in said[drafting]]:
            raise SystemExit(f"answers of group {number} differ")
        drafted, accepted = (
            sum(getattr(one.receipt, f"{which}_tokens") for one in said[drafting]) for which in ("drafted", "accepted")
        )
        row = {"tokens": sum(len(one.token_ids) for one in said[plain]), "speedup": seconds[plain] / seconds[drafting]}
        rows.append(row | {"plain_s": seconds[plain], "drafted": drafted, "accepted": accepted})
        print(json.dumps(rows[-1]), flush=True)
    speedups = [row["speedup"] for row in rows]
    told = f"{mean(speedups):.2f}, {min(speedups):.2f} to {max(speedups):.2f}"
    print(f"{arguments.users} at once, {len(rows)} groups: {told}")
    if arguments.out:
        record = {"machine": machine_facts(), "model": name, "users": arguments.users, "rows": rows}
        write_record(record, arguments.out)


def model_facts(drafter: AdaptiveDrafter | Oracle) -> dict[str, Any]:
    """What the draft model has done so far, and whether it is asked at all now."""
    if drafter.model is None:
        return {}
    account = drafter.model.account
    facts: dict[str, Any] = {"awake": account.is_awake, "balance": round(account.balance, 2)}
    facts["rests"] = account.num_rests
    facts["ratios"] = [round(ratio, 2) for ratio in drafter.costs.ratios(1)[:5]]
    return {"model": asdict(drafter.model.told) | facts}


def line(name: str, rows: list[dict[str, Any]]) -> str:
    speedups, drafted = [row["speedup"] for row in rows], sum(row["drafted"] for row in rows)
    accepted = sum(row["accepted"] for row in rows)
    return (
        f"| {name} | {len(rows)} | {mean(speedups):.2f} | {geometric_mean(speedups):.2f} | {min(speedups):.2f} | "
        f"{mean(row['whole'] for row in rows):.2f} | {accepted / max(drafted, 1):.0%} |"
    )


def llama_line(drafts: int, rows: list[dict[str, Any]]) -> str:
    theirs = [row["llama"] for row in rows if row["llama"]["tokens"] > 1]
    by_category: dict[str, list[float]] = {}
    for row in rows:
        if row["llama"]["tokens"] > 1:
            by_category.setdefault(row["category"], []).append(row["llama"]["speedup"][drafts])
    told = ", ".join(f"{category} {mean(speedups):.2f}" for category, speedups in sorted(by_category.items()))
    all_of_them = [row["speedup"][drafts] for row in theirs]
    num_same = sum(row["same"][drafts] for row in theirs)
    return (
        f"llama.cpp, lookup of {drafts}: {mean(all_of_them):.2f}, least {min(all_of_them):.2f}, the same answer "
        f"{num_same} of {len(theirs)}; {told}"
    )


if __name__ == "__main__":
    main()
