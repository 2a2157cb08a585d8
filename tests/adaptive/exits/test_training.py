"""Exits are learned only where the memory suffices for their vectors and for fitting heads to them."""

from __future__ import annotations

import pytest

from adaptive.exits.conftest import NUM_LAYERS, labelled
from miaotui import Embedder
from miaotui.adaptive.exits import training
from miaotui.errors import CapacityError


def test_too_little_memory_for_vectors_and_fits_is_told_before_a_text_is_read(
    embedder: Embedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, width = labelled(60), embedder.dimensions
    needed = 4 * 60 * width * NUM_LAYERS + 14 * 60 * width + 3 * 8 * 60 * 2
    steps: list[int] = []
    monkeypatch.setattr(training, "available_memory_bytes", lambda: needed - 1)
    with pytest.raises(CapacityError, match=r"fitting 2 labels.*give fewer rows or layers"):
        training.learn(embedder, rows, step=lambda done, total: steps.append(done))
    assert not steps
    monkeypatch.setattr(training, "available_memory_bytes", lambda: needed)
    assert len(training.learn(embedder, rows).heads) == NUM_LAYERS
