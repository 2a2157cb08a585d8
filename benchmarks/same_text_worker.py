"""llama.cpp's side of same_text.py: prompts as a JSON list on standard input, ids on output.

usage: same_text_worker.py FILE.gguf TOKENS THREADS
"""

from __future__ import annotations

import itertools
import json
import sys

from llama_cpp import Llama


def main() -> None:
    path, tokens, threads = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    model = Llama(path, n_ctx=2048, n_threads=threads, n_threads_batch=threads, verbose=False)
    found = []
    for text in json.load(sys.stdin):
        prompt = model.tokenize(text.encode(), add_bos=True, special=True)
        model.reset()
        choice = {"top_k": 1, "temp": 0.0, "repeat_penalty": 1.0}
        answer = itertools.takewhile(lambda id: id != model.token_eos(), model.generate(prompt, **choice))
        found.append({"prompt": prompt, "answer": list(itertools.islice(answer, tokens))})
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
