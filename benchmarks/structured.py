"""What it costs to keep outputs to a JSON schema, and what tokens without a choice give back.

usage: structured.py [--runs N] [MODEL]                                  (default: smollm2:135m)
Outputs of the same number of tokens, free and as JSON of a schema of long strings, one and sixteen at a time, in turn.
"decode" counts tokens that the model was asked for; "all" counts forced ones, too. The prompts are read within the
time; short fields end before the free outputs do, so their ratios compare rates, not equal work.
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any

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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("model", nargs="?", default="smollm2:135m")
    parser.add_argument("--runs", type=int, default=9)
    arguments = parser.parse_args()
    print("| sequences | schema | free, tokens/s | structured, decode | ratio (range) | structured, all | ratio |")
    print("|---|---|---|---|---|---|---|")
    with LLM(arguments.model, prefix_cache=False) as llm:
        for num_sequences in (1, 16):
            for name, schema in (("one long text", FREE_TEXT), ("five short fields", FIELDS)):
                rates(llm, num_sequences, schema)  # the first one compiles
                pairs = [
                    (rates(llm, num_sequences, None)[1], rates(llm, num_sequences, schema))
                    for _ in range(arguments.runs)
                ]
                free = statistics.median(pair[0] for pair in pairs)
                decode = [pair[1][0] / pair[0] for pair in pairs]
                every = [pair[1][1] / pair[0] for pair in pairs]
                print(
                    f"| {num_sequences} | {name} | {free:.0f} | {statistics.median(p[1][0] for p in pairs):.0f} "
                    f"| {statistics.median(decode):.3f} ({min(decode):.2f}–{max(decode):.2f}) "
                    f"| {statistics.median(p[1][1] for p in pairs):.0f} | {statistics.median(every):.2f} |"
                )


if __name__ == "__main__":
    main()
