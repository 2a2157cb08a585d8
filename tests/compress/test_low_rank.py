"""Factors take the place of matrices where the budget asks for it, and the model still runs."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from compress.sources import calibration, logits_of
from engine.tiny_model import tiny_model as tiny_model  # a fixture
from miaotui import LLM
from miaotui.compress.compress import compress, open_source
from miaotui.compress.factors import factorize
from miaotui.compress.low_rank import low_rank
from miaotui.compress.source import Change, Changed, Source
from miaotui.errors import ConfigError
from miaotui.formats.weights import TensorType

STEP = 4
"""The tiny model has 64 columns."""


@pytest.fixture
def source(tiny_model: Path) -> Source:
    return open_source(tiny_model)


def weights_in_layers(source: Source) -> int:
    return sum(math.prod(t.shape) for t in source.tensors.values() if t.name.startswith("blk.") and len(t.shape) == 2)


@pytest.mark.parametrize("keep", [0.5, 0.7, 0.9])
def test_the_budget_is_kept_and_used(keep: float, source: Source) -> None:
    done = low_rank(source, calibration(source), keep, step=STEP)
    share = weights_in_layers(done.source) / weights_in_layers(source)
    assert keep - 0.06 < share <= keep
    for one in done.narrowed:
        assert one.rank * sum(one.shape) < math.prod(one.shape)
        assert one.name not in done.source.tensors


def test_the_function_is_that_of_the_products(source: Source, tmp_path: Path) -> None:
    known = calibration(source)
    done = low_rank(source, known, 0.7, step=STEP)
    assert 0 < len(done.narrowed) < 14
    changes = {}
    for one in done.narrowed:
        found = factorize(source.floats(one.name), known.inputs[one.name], one.rank)
        product = found.left @ found.right
        changes[one.name] = Change(one.shape, lambda first, last, product=product: product[first:last])
    expected = logits_of(Changed(source, changes), tmp_path / "products.gguf")
    got = logits_of(done.source, tmp_path / "factors.gguf")
    np.testing.assert_allclose(got, expected, atol=1e-4 * np.abs(expected).max())


def test_ranks_follow_what_is_lost(source: Source) -> None:
    """A matrix that is of low rank is narrowed, and loses nothing."""
    rng = np.random.default_rng(0)
    flat = rng.normal(size=(128, STEP)).astype(np.float32) @ rng.normal(size=(STEP, 64)).astype(np.float32)
    name = "blk.0.ffn_up.weight"
    made = Changed(source, {name: Change(flat.shape, lambda first, last: flat[first:last])})
    done = low_rank(made, calibration(made), 0.95, step=STEP)
    assert [one.name for one in done.narrowed] == [name]
    assert done.narrowed[0].loss < 1e-5


def test_all_of_the_weights_change_nothing(source: Source) -> None:
    assert low_rank(source, None, 1.0).narrowed == ()
    for keep in (0.0, 1.5, -1):
        with pytest.raises(ConfigError, match="share of weights to keep"):
            low_rank(source, None, keep)
    with pytest.raises(ConfigError, match="ask for a larger one"):
        low_rank(source, None, 0.01)


def test_factors_are_quantized_like_matrices(source: Source, tmp_path: Path) -> None:
    done = low_rank(source, calibration(source), 0.9)
    written = compress(done.source, tmp_path / "out.gguf", TensorType.Q5_1)
    kinds = {c.name: c.after for c in written.choices if ".lora_" in c.name}
    assert set(kinds.values()) == {TensorType.Q5_1}
    assert len(kinds) == 2 * len(done.narrowed) > 0
    expected = logits_of(done.source, tmp_path / "whole.gguf")
    with LLM(written.path) as llm:
        got = llm.logits("the cat and the dog and the cat")
    assert np.corrcoef(got.ravel(), expected.ravel())[0, 1] > 0.95
