"""One engine in a process of its own: reads jobs as JSON lines, answers each with seconds. Run by peers.py.

usage: peer_workers.py ENGINE MODEL      (ENGINE: miaotui, miaotui-int8, llama.cpp or openvino)
A job is [[[token ids], …], n], all prompts of one length. The answer is {"prefill_s", "decode_s"}:
the time to read the prompts, and to generate n tokens after each, greedily and past the end of the text.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

CONTEXT = 4608
SEQUENCES = 16
Times = tuple[float, float]
Job = Callable[[list[list[int]], int], Times]


def by_difference(generate: Callable[[list[list[int]], int], object]) -> Job:
    """For engines that are timed from outside: reading alone, then reading and generating."""

    def run(prompts: list[list[int]], num_tokens: int) -> Times:
        start = time.perf_counter()
        generate(prompts, 1)
        between = time.perf_counter()
        if not num_tokens:
            return between - start, 0.0
        changed = [[*prompt[1:], prompt[0]] for prompt in prompts]  # nothing of it may be remembered
        generate(changed, 1 + num_tokens)
        return between - start, time.perf_counter() - between - (between - start)

    return run


def miaotui_engine(model: str, activations: Any = "int16") -> tuple[Job, int]:
    from miaotui import LLM

    llm = LLM(model, context_length=CONTEXT, max_sequences=SEQUENCES, activations=activations)

    def one(prompt: list[int], num_tokens: int) -> Times:
        start = time.perf_counter()
        tokens = iter(llm.stream(prompt, temperature=0, max_tokens=1 + num_tokens, ignore_eos=True))
        next(tokens)
        first = time.perf_counter()
        for _ in tokens:
            pass
        return first - start, time.perf_counter() - first

    several = by_difference(
        lambda prompts, count: llm.generate(prompts, temperature=0, max_tokens=count, ignore_eos=True)
    )

    def run(prompts: list[list[int]], num_tokens: int) -> Times:
        return one(prompts[0], num_tokens) if len(prompts) == 1 else several(prompts, num_tokens)

    return run, llm.spec.vocab_size


def llama_engine(model: str) -> tuple[Job, int]:
    """Through llama.cpp's own batches; only its calls are timed, not the choice of the next tokens."""
    import llama_cpp as api
    import numpy as np

    api.silent = api.llama_log_callback(lambda *_: None)  # must outlive all calls
    api.llama_log_set(api.silent, None)
    api.llama_backend_init()
    weights = api.llama_model_load_from_file(model.encode(), api.llama_model_default_params())
    vocab_size = api.llama_vocab_n_tokens(api.llama_model_get_vocab(weights))
    options = api.llama_context_default_params()
    options.n_ctx, options.n_batch, options.n_ubatch, options.n_seq_max = CONTEXT * 2, 512, 512, SEQUENCES
    options.kv_unified = True
    options.n_threads = options.n_threads_batch = len(os.sched_getaffinity(0))
    context = api.llama_init_from_model(weights, options)
    batch = api.llama_batch_init(512, 0, 1)

    def decode(rows: list[tuple[int, int, int, bool]]) -> float:
        """Rows are (token, position, sequence, logits wanted)."""
        batch.n_tokens = len(rows)
        for i, (token, position, sequence, wanted) in enumerate(rows):
            batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.logits[i] = token, position, 1, wanted
            batch.seq_id[i][0] = sequence
        start = time.perf_counter()
        if api.llama_decode(context, batch):
            raise SystemExit("llama_decode failed")
        api.llama_synchronize(context)
        return time.perf_counter() - start

    def run(prompts: list[list[int]], num_tokens: int) -> Times:
        api.llama_memory_clear(api.llama_get_memory(context), True)
        length = len(prompts[0])
        rows = [(token, i, s, i == length - 1) for s, prompt in enumerate(prompts) for i, token in enumerate(prompt)]
        prefill_s = sum(decode(rows[i : i + 512]) for i in range(0, len(rows), 512))
        decode_s = 0.0
        for position in range(length, length + num_tokens):
            chosen = []
            for s in range(len(prompts)):
                row = api.llama_get_logits_ith(context, s if position > length else -1)
                chosen.append(int(np.ctypeslib.as_array(row, (vocab_size,)).argmax()))
            decode_s += decode([(token, position, s, True) for s, token in enumerate(chosen)])
        return prefill_s, decode_s

    return run, vocab_size


def openvino_engine(model: str) -> tuple[Job, int]:
    import numpy as np
    import openvino
    import openvino_genai

    pipeline = openvino_genai.LLMPipeline(model, "CPU")

    def generate(prompts: list[list[int]], num_tokens: int) -> None:
        options = openvino_genai.GenerationConfig()
        options.max_new_tokens, options.ignore_eos, options.do_sample = num_tokens, True, False
        pipeline.generate(openvino.Tensor(np.array(prompts, np.int64)), options)

    return by_difference(generate), 1 << 30  # the others know how many tokens there are


ENGINES: dict[str, Callable[[str], tuple[Job, int]]] = {
    "miaotui": miaotui_engine,
    "miaotui-int8": lambda model: miaotui_engine(model, "int8"),
    "llama.cpp": llama_engine,
    "openvino": openvino_engine,
}


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints must not get between the answers
    run, vocab_size = ENGINES[sys.argv[1]](sys.argv[2])
    print(json.dumps({"vocab_size": vocab_size}), file=answers, flush=True)
    for line in sys.stdin:
        prefill_s, decode_s = run(*json.loads(line))
        print(json.dumps({"prefill_s": prefill_s, "decode_s": decode_s}), file=answers, flush=True)


if __name__ == "__main__":
    main()
