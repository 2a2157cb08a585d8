"""What it costs to keep outputs to a JSON schema, and what tokens without a choice give back.

usage: structured.py [--runs N] [--out FILE.json] [MODEL]                (default: smollm2:135m)
Outputs of the same number of tokens, free and as JSON of a schema of long strings, one and sixteen at a time, in turn.
"decode" counts tokens that the model was asked for; "all" counts forced ones, too. The prompts are read within the
time; short fields end before the free outputs do, so their ratios compare rates, not equal work.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path
from typing import Any

from common import figure, machine_facts, resolve, with_range, write_record
from miaotui import LLM

TOKENS = 128
TEXT = {"type": "string", "minLength": 300, "maxLength": 2000}
FREE_TEXT = {"type": "object", "properties": {"text": TEXT}, "required": ["text"], "additionalProperties": False}
FIELDS = {
    "type": "object",
    "properties": {
        f"{name}_of_the_person": {"type": "string", "maxLength": 12}
        for name in ("name", "city", "work", "hobby", "pet")
    },
    "required": [f"{name}_of_the_person" for name in ("name", "city", "work", "hobby", "pet")],
    "additionalProperties": False,
}
SCHEMAS = {"one long text": FREE_TEXT, "five short fields": FIELDS}


def rates(llm: LLM, num_sequences: int, schema: dict[str, Any] | None) -> tuple[float, float]:
    """Tokens a second of a batch from the call to its end: asked of the model, and all."""
    wanted = {} if schema is None else {"structured_outputs": {"json": schema}}
    prompts = [f"Write about a person, number {number}." for number in range(num_sequences)]
    options: dict[str, Any] = {"temperature": 0.0, "max_tokens": TOKENS, "ignore_eos": True, "progress": False}
    start_s = time.perf_counter()
    completions = llm.generate(prompts, **options, **wanted)
    seconds = time.perf_counter() - start_s
    said = sum(one.receipt.output_tokens for one in completions)
    forced = sum(one.receipt.forced_tokens for one in completions)
    return (said - forced) / seconds, said / seconds


def measure(llm: LLM, num_sequences: int, schema: dict[str, Any], runs: int) -> dict[str, Any]:
    """Rates in tokens/s, and ratios to the free output of the same pair of runs."""
    rates(llm, num_sequences, schema)  # the first one compiles
    free, decode, every = [], [], []
    for _ in range(runs):
        free.append(rates(llm, num_sequences, None)[1])
        asked, said = rates(llm, num_sequences, schema)
        decode.append(asked)
        every.append(said)
    return {
        "free": figure(free),
        "structured, decode": figure(decode),
        "decode ratio": figure([ours / plain for ours, plain in zip(decode, free, strict=True)]),
        "structured, all": figure(every),
        "all ratio": figure([ours / plain for ours, plain in zip(every, free, strict=True)]),
    }


def row(num_sequences: int, name: str, found: dict[str, Any]) -> str:
    samples = {what: values["samples"] for what, values in found.items()}
    return (
        f"| {num_sequences} | {name} | {statistics.median(samples['free']):.0f} "
        f"| {statistics.median(samples['structured, decode']):.0f} | {with_range(samples['decode ratio'])} "
        f"| {statistics.median(samples['structured, all']):.0f} | {with_range(samples['all ratio'])} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="smollm2:135m")
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    model, rows = resolve(arguments.model), []
    print(
        "| sequences | schema | free, tokens/s | structured, decode | ratio (range) | structured, all | ratio (range) |"
    )
    print("|---|---|---|---|---|---|---|")
    with LLM(model, prefix_cache=False) as llm:
        for num_sequences in (1, 16):
            for name, schema in SCHEMAS.items():
                found = measure(llm, num_sequences, schema, arguments.runs)
                rows.append({"sequences": num_sequences, "schema": name, "figures": found})
                print(row(num_sequences, name, found), flush=True)
    if arguments.out:
        write_record({"machine": machine_facts(), "model": model.name, "rows": rows}, arguments.out)


if __name__ == "__main__":
    main()
