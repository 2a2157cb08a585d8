"""What token-level early exit could save: how soon a model's layers agree with its last one, and what asking costs.

usage: early_exit.py [--prompts N] [--tokens N] [--wrong SHARE] [--out FILE.json] MODEL …

The model answers prompts (Spec-Bench) greedily; then its first layers alone, with its own final norm and head behind
them, say what they would have said at each token of those answers. An exit takes their word where their probability
for it is high enough (CALM, arXiv:2207.07061): the threshold is the lowest for which at most --wrong of
all tokens differ in half of the answers; the other half says what comes of it. The times are measured: of a step that
ends there, and of one that asks there in vain and goes on. Keys and values that skipped layers owe to later tokens are
left out of account, so the savings are the most there could be.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common import data_file, machine_facts, resolve, write_record
from miaotui import LLM, _native
from miaotui.compress.divergence import log_softmax
from miaotui.compress.intervals import wilson
from miaotui.compress.trials import without_layers
from miaotui.formats import open_model
from miaotui.graph.compile import CompileOptions, compile_graph, pack_matrices
from miaotui.models import build_graph

SHARES = (0.25, 0.5, 0.67, 0.75, 0.83, 0.92)
MOST_PROMPT_TOKENS = 320
ROUNDS = 30
BLOCK_TOKENS = _native.KvPool.BLOCK_TOKENS

Guess = tuple[NDArray[np.int64], NDArray[np.float64]]
"""The likeliest tokens [positions], and their probabilities."""


def answers(path: Path, num_prompts: int, num_tokens: int) -> list[tuple[list[int], int]]:
    """Prompts with the model's answers behind them, and where those begin."""
    rows = [json.loads(line) for line in data_file("spec_bench_half.jsonl").read_text("utf-8").splitlines()]
    found: list[tuple[list[int], int]] = []
    with LLM(path, context_length=1024) as llm:
        for row in rows[:: max(len(rows) // (2 * num_prompts), 1)]:
            ids = llm.encode_chat(row["turns"][0])
            if len(ids) <= MOST_PROMPT_TOKENS and len(found) < num_prompts:
                said = llm.generate(ids, max_tokens=num_tokens, temperature=0.0).token_ids
                found.append(([*ids, *said], len(ids)))
    return found


class Layers:
    """A model that can be cut behind any of its layers."""

    def __init__(self, path: Path, max_tokens: int) -> None:
        self._file = open_model(path)
        spec = self._file.spec
        self.num_layers = spec.num_layers
        self._graph = build_graph(spec, self._file.weights)
        self._packed = pack_matrices(self._graph, self._file.weights)
        self._table = np.arange(-(-max_tokens // BLOCK_TOKENS), dtype=np.int32)[None]
        self._kv = _native.KvPool(spec.num_layers, spec.num_kv_heads, spec.head_dim, self._table.size, "int16")
        self._max_tokens = max_tokens

    def program(self, num_layers: int, max_tokens: int, max_rows: int) -> Any:
        """The first layers, the final norm and the head."""
        graph = without_layers(self._graph, range(num_layers, self.num_layers))
        options = CompileOptions(activations="int16", max_tokens=max_tokens, max_sequences=1, max_logit_rows=max_rows)
        return compile_graph(graph, self._file.weights, options=options, packed=self._packed).program

    def run(self, program: Any, ids: list[int], first: int, rows: list[int]) -> NDArray[np.float32]:
        """Logits of some of these tokens, the first of which is at position `first`."""
        positions = np.arange(first, first + len(ids), dtype=np.int32)
        offsets = np.array([0, len(ids)], np.int32)
        program.run(self._kv, np.array(ids, np.int32), positions, offsets, self._table, np.array(rows, np.int32))
        logits: NDArray[np.float32] = program.logits
        return logits

    def guesses(self, num_layers: int, texts: list[tuple[list[int], int]]) -> list[Guess]:
        """What each answer's tokens would have been, given those before."""
        program = self.program(num_layers, self._max_tokens, self._max_tokens)
        found: list[Guess] = []
        for ids, begin in texts:
            logs = log_softmax(self.run(program, ids, 0, list(range(begin - 1, len(ids) - 1))))
            best = logs.argmax(axis=1)
            found.append((best, np.exp(logs[np.arange(len(best)), best], dtype=np.float64)))
        return found

    def step_ms(self, cuts: list[int]) -> dict[int, float]:
        """Medians of steps of one token at position 128, all cuts in turn; 0 layers: norm and head alone."""
        programs = {cut: self.program(cut, 1, 1) for cut in cuts}
        times: dict[int, list[float]] = {cut: [] for cut in cuts}
        for _ in range(ROUNDS):
            for cut, program in programs.items():
                start_s = time.perf_counter()
                self.run(program, [5], 128, [0])
                times[cut].append(time.perf_counter() - start_s)
        return {cut: 1e3 * statistics.median(some) for cut, some in times.items()}


def threshold(early: list[Guess], late: list[Guess], most_wrong: float) -> float:
    """The lowest probability from which on at most that share of all tokens is another one."""
    same = np.concatenate([a[0] == b[0] for a, b in zip(early, late, strict=True)])
    sure = np.concatenate([a[1] for a in early])
    order = np.argsort(-sure)
    wrong = np.cumsum(~same[order]) / len(same)
    fitting = np.flatnonzero(wrong <= most_wrong)
    return float(sure[order[fitting[-1]]]) if len(fitting) else 2.0


def measure(path: Path, num_prompts: int, num_tokens: int, most_wrong: float) -> dict[str, Any]:
    """One model's rows, one for each cut."""
    texts = answers(path, num_prompts, num_tokens)
    model = Layers(path, max(len(ids) for ids, _ in texts))
    whole = model.num_layers
    cuts = [max(round(share * whole), 1) for share in SHARES]
    step_ms = model.step_ms([0, *cuts, whole])
    late = model.guesses(whole, texts)
    half = len(texts) // 2
    rows = []
    for cut in cuts:
        early = model.guesses(cut, texts)
        least = threshold(early[:half], late[:half], most_wrong)
        sure = np.concatenate([a[1] >= least for a in early[half:]])
        same = np.concatenate([a[0] == b[0] for a, b in zip(early[half:], late[half:], strict=True)])
        exits, wrong = float(sure.mean()), float((sure & ~same).mean())
        asked_ms = step_ms[whole] + step_ms[0]
        ratio = (exits * step_ms[cut] + (1 - exits) * asked_ms) / step_ms[whole]
        row = {"layers": cut, "agreement": float(same.mean()), "threshold": least, "exits": exits, "wrong": wrong}
        row |= {"wrong_interval": wilson(wrong, len(same)), "step_ms": step_ms[cut], "time": ratio}
        rows.append(row)
        print(
            f"{path.stem:36} {cut:3} of {whole} layers: agreement {row['agreement']:.3f}, exits {exits:.3f}, "
            f"wrong {wrong:.4f}, step {step_ms[cut]:.2f} ms, time x {ratio:.3f}",
            flush=True,
        )
    tokens = sum(len(ids) - begin for ids, begin in texts[half:])
    return {"model": path.name, "tokens": tokens, "whole_ms": step_ms[whole], "head_ms": step_ms[0], "cuts": rows}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", metavar="MODEL")
    parser.add_argument("--prompts", type=int, default=40)
    parser.add_argument("--tokens", type=int, default=96)
    parser.add_argument("--wrong", type=float, default=0.01)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    asked = (arguments.prompts, arguments.tokens, arguments.wrong)
    document: dict[str, Any] = {"machine": machine_facts(), "prompts": asked[0], "most_wrong": asked[2], "models": []}
    for name in arguments.models:
        document["models"].append(measure(resolve(name), *asked))
        if arguments.out:
            write_record(document, arguments.out)


if __name__ == "__main__":
    main()
