"""One engine in a process of its own: reads jobs as JSON lines, answers each with seconds. Run by peers.py.

usage: peer_workers.py miaotui|llama.cpp MODEL
A job is {"prompt": [token ids], "num_tokens": n}; the answer {"first_s": to the first token, "rest_s": all others}.
Both engines are driven through their own token streams, greedily, and go on past the end of the text.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator

Generate = Callable[[list[int], int], Iterator[object]]


def miaotui_engine(model: str) -> tuple[Generate, int]:
    from miaotui import LLM

    llm = LLM(model, context_length=2048)

    def generate(prompt: list[int], num_tokens: int) -> Iterator[object]:
        return iter(llm.stream(prompt, temperature=0, max_tokens=num_tokens, ignore_eos=True))

    return generate, llm.spec.vocab_size


def llama_engine(model: str) -> tuple[Generate, int]:
    from llama_cpp import Llama

    threads = len(os.sched_getaffinity(0))
    llama = Llama(model, n_ctx=2048, n_batch=512, n_threads=threads, n_threads_batch=threads, verbose=False)

    def generate(prompt: list[int], num_tokens: int) -> Iterator[object]:
        llama.reset()
        for count, token in enumerate(llama.generate(prompt, temp=0.0, reset=True), 1):
            yield token
            if count == num_tokens:
                return

    return generate, llama.n_vocab()


ENGINES = {"miaotui": miaotui_engine, "llama.cpp": llama_engine}


def main() -> None:
    generate, vocab_size = ENGINES[sys.argv[1]](sys.argv[2])
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints must not get between the answers
    print(json.dumps({"vocab_size": vocab_size}), file=answers, flush=True)
    for line in sys.stdin:
        job = json.loads(line)
        start = time.perf_counter()
        tokens = iter(generate(job["prompt"], job["num_tokens"]))
        next(tokens)
        first = time.perf_counter()
        for _ in tokens:
            pass
        end = time.perf_counter()
        print(json.dumps({"first_s": first - start, "rest_s": end - first}), file=answers, flush=True)


if __name__ == "__main__":
    main()
