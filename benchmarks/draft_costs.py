"""What drafting can buy at most: answers whose every token was drafted rightly, so many to a step.

usage: draft_costs.py [--tokens N] [--rounds N] [--activations int16] [--out FILE.json] [MODEL]

Each round answers a few prompts plainly, and again with the answer itself as the draft, 1 to 96 tokens to a step. What
a size buys is the ratio of decode times within a round; its step is how long the model took, beside a step of one
token. A draft can never be better than this, so whatever a drafter reaches is to be read beside it.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from collections.abc import Sequence as Row
from pathlib import Path
from statistics import median
from typing import Any

from common import data_file, machine_facts, resolve, write_record
from miaotui import LLM
from miaotui.engine.sequence import Sequence

SIZES = (0, 1, 3, 8, 16, 24, 32, 48, 64, 96)
KV_BYTES = 512 << 20
CATEGORIES = ("summarization", "coding", "rag")


class Known:
    """Drafts what is known to come."""

    def __init__(self) -> None:
        self.answer: Row[int] = ()
        self.size = 0
        self.steps: dict[int, list[float]] = {}

    def draft(self, answering: Row[Sequence], num_spare: int) -> Mapping[Sequence, Row[int]]:
        (sequence,) = answering
        begin = sequence.num_output_tokens
        return {sequence: self.answer[begin : begin + min(self.size, num_spare)]} if self.size else {}

    def judge(self, sequence: Sequence, num_judged: int, num_accepted: int) -> None:
        if num_judged != num_accepted:
            raise SystemExit("an answer differs from the one before")

    def observe(self, num_answers: int, num_drafted: int, seconds: float) -> None:
        self.steps.setdefault(num_drafted, []).append(seconds)

    def ended(self, sequence: Sequence) -> None: ...


def prompts(llm: LLM, most: int) -> list[list[int]]:
    found: dict[str, list[int]] = {}
    for line in data_file("spec_bench_half.jsonl").read_text("utf-8").splitlines():
        row = json.loads(line)
        ids = llm.encode_chat(row["turns"][0])
        if row["category"] in CATEGORIES and len(ids) < most:
            found.setdefault(row["category"], ids)
    return [found[category] for category in CATEGORIES]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="smollm2:135m")
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--activations", default="int16", choices=["int16", "int8"])
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    known = Known()
    settings: dict[str, Any] = {"context_length": 2048, "kv_memory_bytes": KV_BYTES, "max_logit_rows": SIZES[-1] + 1}
    model = resolve(arguments.model)
    ratios: dict[int, list[float]] = {size: [] for size in SIZES[1:]}
    with LLM(model, drafter=known, activations=arguments.activations, **settings) as llm:
        choice = {"temperature": 0, "max_tokens": arguments.tokens, "ignore_eos": True}
        asked = prompts(llm, 1500)
        for number in range(arguments.rounds):
            for ids in asked:
                known.size = 0
                plain = llm.generate(ids, **choice)
                known.answer = plain.token_ids
                for size in SIZES[1:] if number % 2 else SIZES[:0:-1]:
                    known.size = size
                    done = llm.generate(ids, **choice)
                    if done.token_ids != plain.token_ids:
                        raise SystemExit("the answers differ")
                    ratios[size].append(plain.receipt.decode_s / done.receipt.decode_s)
    alone = median(known.steps[0])
    print(f"a step of one token: {1e3 * alone:.2f} ms\n| drafted | step, ms | times one | tokens a step | decode |")
    rows = []
    for size in SIZES[1:]:
        step = median(known.steps[size])
        rows.append({"drafted": size, "step_ms": 1e3 * step, "ratio": step / alone, "decode": median(ratios[size])})
        print(f"| {size} | {1e3 * step:.1f} | {step / alone:.2f} | {size + 1} | {median(ratios[size]):.2f} |")
    if arguments.out:
        record = {"machine": machine_facts(), "model": model.name, "alone_ms": 1e3 * alone, "rows": rows}
        write_record(record, arguments.out)


if __name__ == "__main__":
    main()
