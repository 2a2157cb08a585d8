"""llama.cpp's side of encoders.py: texts as a JSON list on standard input, vectors of unit length as one on output.

usage: encoders_llama.py FILE.gguf THREADS
"""

from __future__ import annotations

import json
import sys

from llama_cpp import Llama


def main() -> None:
    threads = int(sys.argv[2])
    sizes = {"n_ctx": 512, "n_batch": 512, "n_ubatch": 512}  # texts are read whole: attention goes both ways
    model = Llama(sys.argv[1], embedding=True, n_threads=threads, n_threads_batch=threads, verbose=False, **sizes)
    json.dump(model.embed(json.load(sys.stdin), normalize=True, truncate=True), sys.stdout)


if __name__ == "__main__":
    main()
