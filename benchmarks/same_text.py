"""Whether llama.cpp answers the same: greedy text of the same files, there and here.

usage: same_text.py [--prompts N] [--tokens N] [--activations int16] [--out FILE.json] FILE.gguf …

First turns of MT-bench as plain text, which either side turns into tokens by what the file says. The two engines round
and add in different orders, so the likelier of two tokens that are nearly as likely may differ: where texts part, the
gap says by how many nats our token was ahead of theirs.
"""

from __future__ import annotations

import argparse
import itertools
import json
import subprocess
from pathlib import Path
from typing import Any

from accuracy import log_softmax, prompts
from common import machine_facts, peer_python, resolve, write_record
from miaotui import LLM

KV_BYTES = 256 << 20
Ids = list[int]


def from_llama(file: Path, texts: list[str], tokens: int, threads: int) -> list[dict[str, Ids]]:
    """Ids of each prompt and of what followed."""
    worker = str(Path(__file__).with_name("same_text_worker.py"))
    command = [peer_python("llama-cpp-python"), worker, str(file), str(tokens), str(threads)]
    done = subprocess.run(command, input=json.dumps(texts), stdout=subprocess.PIPE, text=True, check=True)
    found: list[dict[str, Ids]] = json.loads(done.stdout)
    return found


def compared(llm: LLM, texts: list[str], theirs: list[dict[str, Ids]], tokens: int) -> dict[str, Any]:
    same_prompts, same_texts, shares, gaps = 0, 0, [], []
    for text, their in zip(texts, theirs, strict=True):
        prompt = llm.tokenizer.encode(text)
        same_prompts += prompt == their["prompt"]
        ours = [*llm.generate(prompt, max_tokens=tokens, temperature=0).token_ids]
        if ours[-1] in llm.tokenizer.eos_ids:  # llama.cpp's side leaves it out
            ours.pop()
        pairs = itertools.zip_longest(ours, their["answer"])
        equal = sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))
        if equal >= max(len(ours), len(their["answer"])):
            same_texts += 1
            continue
        shares.append(equal / max(len(ours), 1))
        row = log_softmax(llm.logits([*prompt, *ours[:equal]])[-1])
        first, other = (ids[equal] if equal < len(ids) else llm.tokenizer.eos_id for ids in (ours, their["answer"]))
        gaps.append(round(float(row[first] - row[other]), 4))
    return {"prompts": len(texts), "same_tokens": same_prompts, "same": same_texts, "parted_at": shares, "gaps": gaps}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", metavar="FILE")
    parser.add_argument("--prompts", type=int, default=20)
    parser.add_argument("--tokens", type=int, default=48)
    parser.add_argument("--activations", default="int16", choices=["int16", "int8", "float32"])
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    texts, facts = prompts(arguments.prompts), machine_facts()
    results = {}
    for name in arguments.files:
        file = resolve(name)
        theirs = from_llama(file, texts, arguments.tokens, facts["threads"])
        kind = arguments.activations
        with LLM(file, activations=kind, context_length=2048, kv_memory_bytes=KV_BYTES, max_logit_rows=512) as llm:
            results[file.name] = found = compared(llm, texts, theirs, arguments.tokens)
        print("{}: prompts in the same tokens {same_tokens}, same text {same} of {prompts}".format(file.name, **found))
        if found["gaps"]:
            print(f"  the others part where our token is ahead by {', '.join(map(str, sorted(found['gaps'])))} nats")
    if arguments.out:
        write_record({"machine": facts, "results": results}, arguments.out)


if __name__ == "__main__":
    main()
