"""all-MiniLM-L6-v2 against transformers in float32, over varied sentences."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from miaotui import Embedder

pytestmark = pytest.mark.model

ODD = [
    "",
    " ",
    "a",
    "?!…",
    "😀😀 emoji",
    "x" * 120,
    "ＦＵＬＬ　ＷＩＤＴＨ",
    "ﬁ ligature",
    "naïve café",
    "1,234.56 km/h",
    "\u0000nul",
]
CHINESE = [
    "今天天气怎么样？",
    "如何打开灯？",
    "从北京到上海要多久？",
    "2024年人口是多少",
    "他不喜欢苹果。",
    "机器学习模型",
]


@pytest.fixture(scope="module")
def sentences(data_dir: Path) -> list[str]:
    """1,500 questions, sentences and passages in four languages, of 2 tokens to more than the model takes."""
    with gzip.open(data_dir / "question_pairs.jsonl.gz", "rt", encoding="utf-8") as file:
        texts = [json.loads(line)["text_a"] for line, _ in zip(file, range(800), strict=False)]
    for language in ("en", "de", "fr"):
        with gzip.open(data_dir / f"multi30k-test.{language}.gz", "rt", encoding="utf-8") as file:
            texts += [line.strip() for line, _ in zip(file, range(150), strict=False)]
    wiki = [line.strip() for line in (data_dir / "wikitext2-test.raw").read_text("utf-8").split("\n")]
    texts += [line[: 40 + 12 * i] for i, line in enumerate(line for line in wiki if len(line) > 900) if i < 130]
    texts += [part for i, part in enumerate(". ".join(wiki[:400]).split(". ")) if len(part) > 5 and i < 120]
    return [*texts, *ODD, *CHINESE]


@pytest.fixture(scope="module")
def reference(minilm_path: Path, sentences: list[str]) -> np.ndarray:
    """Mean of the last hidden states at unit length, by transformers."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(minilm_path)
    model = transformers.AutoModel.from_pretrained(minilm_path, dtype=torch.float32).eval()
    shortest_first = sorted(range(len(sentences)), key=lambda i: len(sentences[i]))
    rows = np.empty((len(sentences), 384), np.float32)
    for at in range(0, len(sentences), 32):
        some = shortest_first[at : at + 32]
        encoded = tokenizer(
            [sentences[i] for i in some], truncation=True, max_length=256, padding=True, return_tensors="pt"
        )
        with torch.no_grad():
            hidden = model(**encoded).last_hidden_state
        mask = encoded["attention_mask"][..., None]
        rows[some] = ((hidden * mask).sum(1) / mask.sum(1)).numpy()
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.mark.parametrize(("activations", "least"), [("float32", 0.999999), ("int16", 0.999), ("int8", 0.999)])
def test_every_vector_points_where_transformers_points(
    activations: str, least: float, minilm_path: Path, sentences: list[str], reference: np.ndarray
) -> None:
    assert len(sentences) >= 1000
    with Embedder(minilm_path, activations=activations) as embedder:  # type: ignore[arg-type]
        vectors = embedder.embed(sentences, truncate=True)
    cosines = (vectors * reference).sum(1)
    worst = int(cosines.argmin())
    assert cosines.mean() >= {"float32": 0.999999, "int16": 0.9997, "int8": 0.9996}[activations]
    assert cosines[worst] >= least, (cosines[worst], sentences[worst])


def test_vectors_keep_the_order_of_similarities(minilm_path: Path, sentences: list[str], reference: np.ndarray) -> None:
    """What the vectors are for: the nearest other text is nearly always the same one."""
    with Embedder(minilm_path) as embedder:
        vectors = embedder.embed(sentences[:800], truncate=True)
    ours, theirs = vectors @ vectors.T, reference[:800] @ reference[:800].T
    np.fill_diagonal(ours, -1)
    np.fill_diagonal(theirs, -1)
    assert np.mean(ours.argmax(1) == theirs.argmax(1)) >= 0.98
    assert np.abs(ours - theirs).max() < 0.02


def test_real_vectors_have_the_same_bits_alone_and_in_company(minilm_path: Path, sentences: list[str]) -> None:
    with Embedder(minilm_path) as embedder:
        together = embedder.embed(sentences[600:1200], truncate=True)
        for at in range(0, 600, 37):
            alone = embedder.embed([sentences[600 + at]], truncate=True)[0]
            np.testing.assert_array_equal(alone, together[at])
