"""How much faster a pruned model is than the whole one, and what was lost.

usage: prune.py [--rounds N] [--windows N] [--kl-windows N] [--text FILE] [--out FILE.json] WHOLE PRUNED [PRUNED …]

All models are loaded in one process and take turns, so that other work on the machine meets them alike: prefill of 512
tokens, decode of 128; the medians of their ratios to the whole model's neighbouring run count. Then perplexity of the
text (wikitext2-test) in windows of 512, and KL(whole || pruned) in some of them.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path
from typing import Any

import numpy as np

from common import data_file, machine_facts, resolve, write_record
from miaotui import LLM
from miaotui.compress.divergence import DivergenceMeter
from miaotui.engine.perplexity import WINDOW_TOKENS, evaluate_perplexity

KV_BYTES = 256 << 20


def rates(llm: LLM) -> tuple[float, float]:
    """Tokens per second of reading 512 and of writing 128."""
    prompt = [(7919 * i + 13) % llm.spec.vocab_size for i in range(512)]
    read = llm.generate(prompt, max_tokens=1, temperature=0.0).receipt
    wrote = llm.generate(prompt[:16], max_tokens=128, temperature=0.0, ignore_eos=True).receipt
    return 512 / read.prefill_s, wrote.tokens_per_s or 0.0


def divergence(whole: LLM, pruned: LLM, text: str, windows: int) -> dict[str, Any]:
    """Of the second half of each window."""
    ids = whole.tokenizer.encode(text[: windows * WINDOW_TOKENS * 12])
    meter = DivergenceMeter()
    for start in range(0, windows * WINDOW_TOKENS, WINDOW_TOKENS):
        window = list(ids[start : start + WINDOW_TOKENS])
        half = WINDOW_TOKENS // 2
        reference, other = (llm.logits(window[:-1])[half:] for llm in (whole, pruned))
        meter.add(reference, other, np.array(window[half + 1 :], np.int64))
    result = meter.result()
    return {"kl": result.kl, "kl_halfwidth": result.kl_halfwidth, "agreement": result.agreement}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", metavar="MODEL", help="the whole one first")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--windows", type=int, help="of perplexity; default: the whole text; 0: none")
    parser.add_argument("--kl-windows", type=int, default=8)
    parser.add_argument("--text", type=Path, help="default: wikitext2-test.raw of the evaluation data")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    paths = [resolve(name) for name in arguments.models]
    settings = {"context_length": 1024, "kv_memory_bytes": KV_BYTES, "max_logit_rows": 512, "prefix_cache": False}
    llms = [LLM(path, **settings) for path in paths]
    runs = [[rates(llm) for llm in llms] for _ in range(arguments.rounds + 1)][1:]  # the first warms up
    text = (arguments.text or data_file("wikitext2-test.raw")).read_text("utf-8")
    rows: list[dict[str, Any]] = []
    for at, (path, llm) in enumerate(zip(paths, llms, strict=True)):
        row: dict[str, Any] = {"model": path.name, "bytes": path.stat().st_size}
        for phase, name in enumerate(("prefill", "decode")):
            row[f"{name}_tokens_per_s"] = statistics.median(run[at][phase] for run in runs)
            row[f"{name}_ratio"] = statistics.median(run[at][phase] / run[0][phase] for run in runs)
        if arguments.windows != 0:
            row["perplexity"] = evaluate_perplexity(llm, text, num_windows=arguments.windows).ppl
        if at and arguments.kl_windows:
            row |= divergence(llms[0], llm, text, arguments.kl_windows)
        rows.append(row)
        print("  ".join(f"{key} {value:.4g}" if isinstance(value, float) else f"{value}" for key, value in row.items()))
    if arguments.out:
        document = {"machine": machine_facts(), "rounds": arguments.rounds, "models": rows}
        write_record(document, arguments.out)


if __name__ == "__main__":
    main()
