"""One engine in a process of its own: a line of JSON {"texts": [...], "save": FILE or null} gives {"seconds": s}.

usage: embed_worker.py ENGINE MODEL THREADS; engines: miaotui int8|int16|float32, sentence-transformers float32|bfloat16
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def open_engine(engine: str, model: Path, threads: int) -> Callable[[list[str]], Any]:
    name, kind = engine.split()
    if name == "miaotui":
        os.environ["MIAOTUI_THREADS"] = str(threads)
        from miaotui import Embedder

        embedder = Embedder(model, activations=kind)  # type: ignore[arg-type]
        return lambda texts: embedder.embed(texts, truncate=True)
    import torch
    from sentence_transformers import SentenceTransformer

    torch.set_num_threads(threads)
    encoder = SentenceTransformer(str(model), device="cpu", model_kwargs={"dtype": getattr(torch, kind)})
    return lambda texts: encoder.encode(texts, normalize_embeddings=True, show_progress_bar=False)


def main() -> None:
    embed = open_engine(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
    print(json.dumps("ready"), flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        start = time.perf_counter()
        vectors = embed(asked["texts"])
        seconds = time.perf_counter() - start
        if asked["save"]:
            import numpy as np

            rows = np.asarray(vectors, "<f4")
            Path(asked["save"]).write_bytes(rows.shape[1].to_bytes(4, "little") + rows.tobytes())
        print(json.dumps({"seconds": seconds}), flush=True)


if __name__ == "__main__":
    main()
