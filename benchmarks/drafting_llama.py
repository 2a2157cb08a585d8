"""llama.cpp's side of drafting.py: greedy answers with its prompt lookup and without, in lines of JSON.

usage: drafting_llama.py FILE.gguf CONTEXT THREADS

A question is {"prompt": ids, "tokens": most that may be answered, "drafts": tokens guessed at once, 0 for none}; its
answer {"ids": …, "decode_s": from the first token to the last}. What was read of the same prompt before is kept, so
only reading is shorter for it.
"""

from __future__ import annotations

import itertools
import json
import sys
import time
from typing import Any

from llama_cpp import Llama
from llama_cpp.llama_speculative import LlamaPromptLookupDecoding


def answered(model: Llama, question: dict[str, Any]) -> dict[str, Any]:
    drafts = question["drafts"]
    model.draft_model = LlamaPromptLookupDecoding(num_pred_tokens=drafts) if drafts else None
    stream = model.generate(question["prompt"], top_k=1, temp=0.0, repeat_penalty=1.0)
    ids = [next(stream)]
    begun_s = time.perf_counter()
    while ids[-1] != model.token_eos() and len(ids) < question["tokens"]:
        ids += itertools.islice(stream, 1)
    return {"ids": ids, "decode_s": time.perf_counter() - begun_s}


def main() -> None:
    path, context, threads = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    # logits of all tokens, as it has them itself where it is given drafts
    model = Llama(path, n_ctx=context, n_threads=threads, n_threads_batch=threads, logits_all=True, verbose=False)
    print("{}", flush=True)
    for line in sys.stdin:
        print(json.dumps(answered(model, json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
