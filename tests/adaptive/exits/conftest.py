"""An encoder of four random layers, and texts whose label is the animal in them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from engine.tiny_bert import WORDS, write_tiny_bert
from miaotui import Embedder

NUM_LAYERS = 4


def labelled(count: int, seed: int = 0, noise: float = 0.0) -> list[tuple[str, str]]:
    """Texts of 3 to 12 words, one of them cat or dog, with that animal as label, but for a share that is noise."""
    rng = np.random.default_rng(seed)
    others = [word for word in WORDS if word not in ("cat", "dog")]
    rows = []
    for _ in range(count):
        words = list(rng.choice(others, rng.integers(2, 12)))
        animal = str(rng.choice(["cat", "dog"]))
        words.insert(int(rng.integers(len(words) + 1)), animal)
        label = animal if rng.random() >= noise else str(rng.choice(["cat", "dog"]))
        rows.append((" ".join(words), label))
    return rows


@pytest.fixture(scope="session")
def encoder_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_bert(tmp_path_factory.mktemp("models") / "four-layers", layers=NUM_LAYERS)


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIAOTUI_HOME", str(tmp_path / "home"))


@pytest.fixture(scope="session")
def embedder(encoder_path: Path) -> Iterator[Embedder]:
    with Embedder(encoder_path) as opened:
        yield opened
