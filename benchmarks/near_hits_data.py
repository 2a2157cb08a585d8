"""The labelled pairs for `near_hits`: in two halves that share no question, with what near hits look at."""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common import data_file
from miaotui.answers.near.guards import verdicts
from miaotui.answers.near.near import wording_distance
from miaotui.answers.near.reading import read
from miaotui.answers.near.vectors import codes_of, length_of

Vectors = Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class Pair:
    """Two questions, whether they mean the same, and what near hits look at. passes: every guard."""

    asked: str
    kept: str
    same: bool
    similarity: float
    distance: float
    passes: bool

    @property
    def entry(self) -> bytes:
        """Names the kept question."""
        return hashlib.sha256(self.kept.encode()).digest()


def load_halves(kept_vectors: Path, model: Path | None) -> tuple[list[Pair], list[Pair]]:
    """Train and test."""
    with gzip.open(data_file("question_pairs.jsonl.gz"), "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    texts = sorted({row[side] for row in rows for side in ("text_a", "text_b")})
    vectors = _embeddings(texts, kept_vectors, model)
    train, test = ([_pair(row, vectors) for row in half] for half in _halves(rows))
    return train, test


def _halves(rows: Sequence[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Pairs that share a question, directly or through others, are in one half."""
    parent: dict[str, str] = {}

    def root(text: str) -> str:
        parent.setdefault(text, text)
        while parent[text] != text:
            parent[text] = parent[parent[text]]
            text = parent[text]
        return text

    def name(text: str) -> str:
        return re.sub(r"\W+", " ", text.casefold()).strip()

    for row in rows:
        one, other = root(name(row["text_a"])), root(name(row["text_b"]))
        parent[max(one, other)] = min(one, other)
    parts: tuple[list[dict[str, Any]], list[dict[str, Any]]] = ([], [])
    for row in rows:
        parts[hashlib.sha256(root(name(row["text_a"])).encode()).digest()[0] & 1].append(row)
    return parts


def _pair(row: dict[str, Any], vectors: Vectors) -> Pair:
    asked, kept = read(row["text_b"]), read(row["text_a"])
    first, second = codes_of(vectors[asked.raw]), codes_of(vectors[kept.raw])
    cosine = int(first.astype(np.int32) @ second.astype(np.int32)) / (length_of(first) * length_of(second))
    passes = not any(verdicts(asked, kept).values())
    return Pair(asked.raw, kept.raw, row["label"] == 1, min(1.0, cosine), wording_distance(asked, kept), passes)


def _embeddings(texts: list[str], kept: Path, model: Path | None) -> Vectors:
    """Vectors by text, from the file, else computed and put there. The file: a digest of the texts, then float32."""
    digest = hashlib.sha256("\n".join(texts).encode()).digest()
    if kept.exists() and kept.read_bytes()[:32] == digest:
        vectors = np.frombuffer(kept.read_bytes()[32:], np.float32).reshape(len(texts), -1)
        return dict(zip(texts, vectors, strict=True))
    if model is None:
        sys.exit(f"{kept} does not hold the vectors of these pairs: name the embedding model's folder with --model")
    vectors = embed(texts, model)
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_bytes(digest + vectors.astype(np.float32).tobytes())
    return dict(zip(texts, vectors, strict=True))


def embed(texts: list[str], folder: Path) -> NDArray[np.float32]:
    """all-MiniLM-L6-v2 as its authors run it: mean of the last layer over the tokens, unit length."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    tokenizer, network = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    parts = []
    with torch.inference_mode():
        for start in range(0, len(texts), 64):
            batch = tokenizer(
                texts[start : start + 64], padding=True, truncation=True, max_length=256, return_tensors="pt"
            )
            mask = batch["attention_mask"][..., None].float()
            mean = (network(**batch).last_hidden_state * mask).sum(1) / mask.sum(1)
            parts.append(torch.nn.functional.normalize(mean, dim=1).numpy())
    return np.concatenate(parts)
