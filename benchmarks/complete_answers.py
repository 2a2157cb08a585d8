"""What ending answers where they are complete saves: tokens and seconds, and whether anything is lost.

usage: complete_answers.py [--questions N] [--tokens N] [--out FILE.json] MODEL

Choices: SST-2 sentences, asked which of two letters fits; JSON: MT-Bench questions, to be described in an object. Each
is answered greedily with and without `stop_when`, in turns. An answer that was ended must be the beginning of the
other; a choice must be what the whole answer says at its end, where that names one at all ("answer is …").
"""

from __future__ import annotations

import argparse
import json
import re
import time
from pathlib import Path
from typing import Any

from common import data_file, machine_facts, resolve, write_record
from miaotui import LLM

CHOICES = {"A": "positive", "B": "negative"}
LETTER = (
    "Is this review positive or negative?\n{text}\nA) positive\nB) negative\n"
    "Give the letter of your answer and explain it."
)
OBJECT = "Describe this question as a JSON object with the keys topic, language and difficulty:\n{text}"
LAST = re.compile(r"answer(?: is)?[\s:*(\"'`]*([AB])\b")


def questions(count: int) -> dict[str, list[str]]:
    """Prompts by kind."""
    rows = data_file("sst2-dev.tsv").read_text("utf-8").splitlines()
    turns = [json.loads(line)["turns"][0] for line in data_file("mt_bench.jsonl").read_text("utf-8").splitlines()]
    some = rows[:: max(len(rows) // count, 1)][:count]
    return {
        "choice": [LETTER.format(text=row.rpartition("\t")[0]) for row in some],
        "json": [OBJECT.format(text=text[:400]) for text in turns[:: max(len(turns) // count, 1)][:count]],
    }


def ask(llm: LLM, prompt: str, tokens: int, **params: Any) -> tuple[Any, float]:
    """The answer, and its seconds."""
    start_s = time.perf_counter()
    done = llm.chat(prompt, temperature=0.0, max_tokens=tokens, **params)
    return done, time.perf_counter() - start_s


def compare(llm: LLM, kind: str, prompt: str, tokens: int, turn: int) -> dict[str, Any]:
    """One question both ways."""
    wanted: Any = "json" if kind == "json" else {"choice": list(CHOICES)}
    ways: dict[str, dict[str, Any]] = {"whole": {}, "ended": {"stop_when": wanted}}
    done = {name: ask(llm, prompt, tokens, **ways[name]) for name in sorted(ways, reverse=turn % 2 == 1)}
    (whole, whole_s), (ended, ended_s) = done["whole"], done["ended"]
    later = LAST.findall(whole.text)
    return {
        "whole_tokens": whole.receipt.output_tokens,
        "ended_tokens": ended.receipt.output_tokens,
        "whole_s": whole_s,
        "ended_s": ended_s,
        "was_ended": ended.stop_reason is not None,
        "is_beginning": whole.text.startswith(ended.text),
        "says": ended.stop_reason,
        "says_later": later[-1] if later else None,
        "text": ended.text,
    }


def told(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Sums over one kind's questions."""
    ended = [row for row in rows if row["was_ended"]]
    both = [row for row in ended if row["says_later"] is not None]
    return {
        "questions": len(rows),
        "ended": len(ended),
        "beginnings": sum(row["is_beginning"] for row in rows),
        "tokens": [sum(row[name] for row in rows) for name in ("whole_tokens", "ended_tokens")],
        "seconds": [sum(row[name] for row in rows) for name in ("whole_s", "ended_s")],
        "said_later": len(both),
        "same_later": sum(row["says"] == row["says_later"] for row in both),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--questions", type=int, default=30)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    document: dict[str, Any] = {"machine": machine_facts(), "model": Path(arguments.model).name, "kinds": {}}
    with LLM(resolve(arguments.model), context_length=1024) as llm:
        for kind, prompts in questions(arguments.questions).items():
            rows = [compare(llm, kind, prompt, arguments.tokens, turn) for turn, prompt in enumerate(prompts)]
            document["kinds"][kind] = told(rows) | {"rows": rows}
            print(kind, json.dumps(told(rows)), flush=True)
    if arguments.out:
        write_record(document, arguments.out)


if __name__ == "__main__":
    main()
