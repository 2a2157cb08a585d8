"""How far integer activations are from the float32 path: KL divergence, top-1 agreement, equal greedy tokens.

usage: accuracy.py [--prompts N] [--activations int16] [--kv-dtype f16] [--bfloat16 HF_MODEL] [--out FILE.json] [MODEL]

The float32 path continues each of ten MT-bench prompts greedily by 64 tokens. Both paths then score that text (teacher
forcing), and the integer path continues the prompt on its own. The tests hold the float32 path to transformers.
--bfloat16: instead of the integer path, the same weights in a Hugging Face folder, computed by transformers in
bfloat16, as engines do that quantize nothing.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

from common import data_file, machine_facts, resolve, write_record
from miaotui import LLM

NUM_TOKENS = 64
KV_BYTES = 256 << 20


def prompts(count: int) -> list[str]:
    """First turns, spread evenly over the categories of MT-bench."""
    lines = data_file("mt_bench.jsonl").read_text("utf-8").splitlines()
    return [json.loads(line)["turns"][0] for line in lines[:: len(lines) // count]][:count]


def log_softmax(logits: np.ndarray) -> np.ndarray:
    wide = logits.astype(np.float64)
    return wide - np.logaddexp.reduce(wide, axis=-1, keepdims=True)


class InBfloat16:
    """A Hugging Face model that transformers computes in bfloat16; scores and continues as `LLM` does."""

    def __init__(self, folder: str, encode_chat: Callable[[str], list[int]]) -> None:
        import torch
        from transformers import AutoModelForCausalLM

        self._torch = torch
        self._model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
        self._encode_chat = encode_chat

    def logits(self, ids: list[int]) -> np.ndarray:
        with self._torch.no_grad():
            return self._model(self._torch.tensor([ids])).logits[0].float().numpy()

    def continued(self, prompt: str) -> list[int]:
        ids = self._torch.tensor([self._encode_chat(prompt)])
        all_ids = self._model.generate(ids, max_new_tokens=NUM_TOKENS, min_new_tokens=NUM_TOKENS, do_sample=False)
        return all_ids[0, ids.shape[1] :].tolist()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="smollm2:135m")
    parser.add_argument("--prompts", type=int, default=10)
    parser.add_argument("--activations", default="int16", choices=["int16", "int8"])
    parser.add_argument("--kv-dtype", default="int16")
    parser.add_argument("--bfloat16", metavar="HF_MODEL")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    model = resolve(arguments.model)
    reference = LLM(model, activations="float32", kv_dtype="f32", context_length=2048, kv_memory_bytes=KV_BYTES)
    choice = {"temperature": 0, "max_tokens": NUM_TOKENS, "ignore_eos": True}
    if arguments.bfloat16:
        peer = InBfloat16(arguments.bfloat16, reference.encode_chat)
        logits, continued = peer.logits, peer.continued
    else:
        options = {"activations": arguments.activations, "kv_dtype": arguments.kv_dtype}
        tested = LLM(model, context_length=2048, kv_memory_bytes=KV_BYTES, **options)
        logits, continued = tested.logits, lambda prompt: tested.chat(prompt, **choice).token_ids
    divergences, same_top, same_greedy = [], [], []
    for prompt in prompts(arguments.prompts):
        greedy = reference.chat(prompt, **choice)
        start = greedy.receipt.prompt_tokens
        ids = [*reference.encode_chat(prompt), *greedy.token_ids]
        expected, found = (log_softmax(score(ids[:-1])[start - 1 :]) for score in (reference.logits, logits))
        divergences += list((np.exp(expected) * (expected - found)).sum(-1))
        same_top += list(expected.argmax(-1) == found.argmax(-1))
        pairs = zip(greedy.token_ids, continued(prompt), strict=True)
        same_greedy += [a == b for a, b in pairs]
    figures = {
        "positions": len(same_top),
        "kl_mean": float(np.mean(divergences)),
        "kl_median": float(np.median(divergences)),
        "kl_max": float(np.max(divergences)),
        "top1_agreement": float(np.mean(same_top)),
        "equal_greedy_positions": float(np.mean(same_greedy)),
    }
    print(json.dumps(figures, indent=1))
    if arguments.out:
        record = {
            "machine": machine_facts(),
            "model": model.name,
            "activations": "bfloat16" if arguments.bfloat16 else arguments.activations,
            "kv_dtype": "bf16" if arguments.bfloat16 else arguments.kv_dtype,
            **figures,
        }
        write_record(record, arguments.out)


if __name__ == "__main__":
    main()
