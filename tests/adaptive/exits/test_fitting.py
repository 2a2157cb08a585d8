"""Heads are the likeliest ones, and their probabilities are what they say."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from miaotui.adaptive.exits.fitting import fit, inverse_temperature, log_loss, regress
from miaotui.adaptive.exits.head import Head, surest
from miaotui.adaptive.exits.minimize import minimize


@given(st.integers(1, 12), st.integers(0, 10_000))
def test_the_bottom_of_a_bowl_is_found(size: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    root = rng.standard_normal((size, size))
    bowl, target = root @ root.T + 0.1 * np.eye(size), rng.standard_normal(size)

    def height(place: np.ndarray) -> tuple[float, np.ndarray]:
        off = place - target
        return float(off @ bowl @ off), 2 * bowl @ off

    np.testing.assert_allclose(minimize(height, np.zeros(size)), target, atol=1e-4)


def drawn(count: int, seed: int, sharpness: float = 3.0) -> tuple[np.ndarray, np.ndarray]:
    """Vectors of unit length, and labels of three that they make likely by a softmax of `sharpness`."""
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((count, 8))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    scores = sharpness * vectors @ np.random.default_rng(99).standard_normal((8, 3))
    shares = np.exp(scores - scores.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    labels = (rng.random((count, 1)) > np.cumsum(shares, axis=1)).sum(axis=1)
    return vectors.astype(np.float32), np.minimum(labels, 2)


def test_a_regression_is_flat_at_its_weights() -> None:
    vectors, labels = drawn(300, 0)
    wide, strength = vectors.astype(float), 0.05
    place = regress(wide, labels, np.zeros((3, 9)), strength)

    def loss(weights: np.ndarray) -> float:
        return log_loss(wide @ weights[:, :-1].T + weights[:, -1], labels) + strength / 2 * (weights[:, :-1] ** 2).sum()

    best, rng = loss(place), np.random.default_rng(1)
    for _ in range(50):
        step = rng.standard_normal(place.shape)
        assert loss(place + 1e-2 * step) > best
        assert abs(loss(place + 1e-4 * step) - loss(place - 1e-4 * step)) < 1e-7


@pytest.mark.parametrize("factor", [0.3, 1.0, 4.0])
def test_a_temperature_undoes_what_was_too_sure_or_too_timid(factor: float) -> None:
    vectors, labels = drawn(20_000, 3)
    scores = 3.0 * vectors @ np.random.default_rng(99).standard_normal((8, 3))
    assert inverse_temperature(scores * factor, labels) == pytest.approx(1 / factor, rel=0.08)


def test_a_head_s_probabilities_hold_on_other_texts() -> None:
    some, others = drawn(1500, 4), drawn(20_000, 5)
    head = fit(1, (some[0][:1000], some[0][1000:]), (some[1][:1000], some[1][1000:]), 3)
    labels, shares = surest(head.scores(others[0]))
    for low in (0.4, 0.6, 0.8):
        at = (shares >= low) & (shares < low + 0.2)
        assert (labels[at] == others[1][at]).mean() == pytest.approx(shares[at].mean(), abs=0.05)


def test_a_row_s_scores_have_the_same_bits_alone() -> None:
    rng = np.random.default_rng(0)
    head = Head(1, rng.standard_normal((5, 384)).astype(np.float32), rng.standard_normal(5).astype(np.float32))
    vectors = rng.standard_normal((70, 384)).astype(np.float32)
    together = head.scores(vectors)
    for number in range(70):
        np.testing.assert_array_equal(head.scores(vectors[number : number + 1])[0], together[number])
    labels, shares = surest(together)
    np.testing.assert_array_equal(shares[3:4], surest(together[3:4])[1])
    assert labels.tolist() == together.argmax(axis=1).tolist()


def test_a_column_that_never_changes_changes_nothing() -> None:
    vectors, labels = drawn(200, 6)
    vectors[:, 3] = 0.25
    head = fit(1, (vectors[:150], vectors[150:]), (labels[:150], labels[150:]), 3)
    assert np.isfinite(head.weights).all()
    np.testing.assert_allclose(head.weights[:, 3], 0, atol=1e-12)
