"""all-MiniLM-L6-v2, cut behind every layer, gives the whole model's bits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from miaotui import Embedder
from miaotui.core import ACTIVATIONS
from miaotui.engine.cut_encoder import CutEncoder

pytestmark = pytest.mark.model

TEXTS = [
    "a film to see twice",
    "",
    "two hours that nobody will give me back . " * 9,
    "今天天气怎么样？",
    "x" * 120,
    "no",
]


@pytest.mark.parametrize("activations", ACTIVATIONS)
def test_a_real_encoder_gives_the_same_bits_wherever_it_is_cut(minilm_path: Path, activations: str) -> None:
    with Embedder(minilm_path, activations=activations) as embedder:  # type: ignore[arg-type]
        ids, want = embedder.encode(TEXTS), embedder.embed(TEXTS)
        for layers in ((1, 2, 3, 4, 5), (3,)):
            found = np.zeros_like(want)

            def leave(exit: int, numbers: np.ndarray, vectors: np.ndarray, found: np.ndarray = found) -> np.ndarray:
                found[numbers] = vectors
                return np.zeros(len(numbers), bool)

            CutEncoder(embedder, layers).walk(ids, leave)
            np.testing.assert_array_equal(found, want)
