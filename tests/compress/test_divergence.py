"""Divergences are those of the textbook, whatever the pieces they are measured in."""

from __future__ import annotations

import math

import numpy as np
import pytest

from miaotui.compress.divergence import ROWS_AT_ONCE, DivergenceMeter
from miaotui.compress.intervals import clustered_mean, wilson

RNG = np.random.default_rng(3)
COUNT, VOCABULARY = 3 * ROWS_AT_ONCE + 5, 40


def softmax(logits: np.ndarray) -> np.ndarray:
    shares = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return shares / shares.sum(axis=1, keepdims=True)


def test_figures_are_those_of_their_definitions() -> None:
    reference, other = (RNG.normal(size=(COUNT, VOCABULARY)).astype(np.float32) * 3 for _ in range(2))
    targets = RNG.integers(0, VOCABULARY, COUNT)
    meter = DivergenceMeter()
    for part in (slice(0, 7), slice(7, COUNT)):
        meter.add(reference[part], other[part], targets[part])
    got = meter.result()
    p, q = softmax(reference), softmax(other)
    kl = (p * np.log(p / q)).sum(axis=1)
    assert got.tokens == COUNT
    assert got.kl == pytest.approx(kl.mean(), rel=1e-5)
    windows = clustered_mean([kl[:7].sum(), kl[7:].sum()], [7, COUNT - 7])
    assert got.kl_halfwidth == pytest.approx(windows.high - windows.value, rel=1e-4)
    assert got.kl_p99 == pytest.approx(np.quantile(kl, 0.99), rel=1e-5)
    assert got.agreement == pytest.approx((p.argmax(axis=1) == q.argmax(axis=1)).mean())
    assert got.agreement_interval[0] < got.agreement < got.agreement_interval[1]
    for ppl, shares in ((got.reference_ppl, p), (got.ppl, q)):
        assert ppl == pytest.approx(math.exp(-np.log(shares[np.arange(COUNT), targets]).mean()), rel=1e-5)


def test_one_window_alone_has_the_spread_of_its_tokens() -> None:
    reference, other = (RNG.normal(size=(COUNT, VOCABULARY)).astype(np.float32) for _ in range(2))
    meter = DivergenceMeter()
    meter.add(reference, other, RNG.integers(0, VOCABULARY, COUNT))
    p, q = softmax(reference), softmax(other)
    kl = (p * np.log(p / q)).sum(axis=1)
    assert meter.result().kl_halfwidth == pytest.approx(1.96 * kl.std(ddof=1) / math.sqrt(COUNT), rel=1e-4)


def test_a_model_is_no_distance_from_itself() -> None:
    logits, targets = RNG.normal(size=(9, VOCABULARY)).astype(np.float32) * 50, RNG.integers(0, VOCABULARY, 9)
    meter = DivergenceMeter()
    meter.add(logits, logits + 7, targets)  # logits mean the same with anything added to all
    got = meter.result()
    assert got.kl == pytest.approx(0, abs=1e-4)
    assert got.agreement == 1.0


def test_intervals_are_wilsons() -> None:
    assert wilson(0.0, 10) == pytest.approx((0.0, 0.2775), abs=2e-4)  # Wilson 1927, as tables have it
    assert wilson(0.5, 100) == pytest.approx((0.4038, 0.5962), abs=2e-4)
    with pytest.raises(ValueError, match="nothing"):
        DivergenceMeter().result()
