"""Heads from labelled vectors: multinomial logistic regression, and a temperature that makes it calibrated.

The regression is L2-regularized (Hastie, Tibshirani and Friedman, The Elements of Statistical Learning, section 4.4)
and solved by L-BFGS. How strongly, and the temperature (Guo et al., arXiv:1706.04599, section 4.2), are what other
rows than those fitted find likeliest.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from miaotui.adaptive.exits.head import Floats, Head
from miaotui.adaptive.exits.minimize import minimize

STRENGTHS = (1.0, 0.3, 0.1, 0.03)
"""Of the regularization, on columns of unit spread; strongest first, as each begins from the one before."""
GOLDEN = (math.sqrt(5) - 1) / 2
COLDEST, HOTTEST, TEMPERATURE_STEPS = math.log(0.05), math.log(20.0), 40

Ints = NDArray[np.int64]


def fit(layer: int, vectors: Sequence[NDArray[np.float32]], labels: Sequence[Ints], num_labels: int) -> Head:
    """A head from the vectors [rows, columns] and label numbers [rows] of two sets: to fit, and to judge by."""
    fitted, judged = (one.astype(np.float64) for one in vectors)
    mean, spread = fitted.mean(axis=0), fitted.std(axis=0)
    spread[spread == 0] = 1.0
    fitted, judged = (fitted - mean) / spread, (judged - mean) / spread
    place = np.zeros((num_labels, fitted.shape[1] + 1))
    best, best_loss = place, math.inf
    for strength in STRENGTHS:
        place = regress(fitted, labels[0], place, strength)
        scores = judged @ place[:, :-1].T + place[:, -1]
        beta = inverse_temperature(scores, labels[1])
        loss = log_loss(beta * scores, labels[1])
        if loss < best_loss:
            best, best_loss = beta * place, loss
    weights = best[:, :-1] / spread
    return Head(layer, weights.astype(np.float32), (best[:, -1] - weights @ mean).astype(np.float32))


def regress(vectors: Floats, labels: Ints, start: Floats, strength: float) -> Floats:
    """Weights [labels, columns + 1], the last column a constant, that make the labels likeliest.

    What is minimized: the mean of -log p, plus strength / 2 times the weights' squares, the constants' left out.
    """
    rows, wanted = np.arange(len(labels)), labels

    def loss(flat: Floats) -> tuple[float, Floats]:
        weights = flat.reshape(start.shape)
        scores = vectors @ weights[:, :-1].T + weights[:, -1]
        logs = log_shares(scores)
        slope = np.exp(logs)
        slope[rows, wanted] -= 1.0
        slope /= len(rows)
        kept = weights[:, :-1]
        value = -float(logs[rows, wanted].mean()) + strength / 2 * float((kept**2).sum())
        steep = np.column_stack([slope.T @ vectors + strength * kept, slope.sum(axis=0)])
        return value, steep.reshape(-1)

    return minimize(loss, start.reshape(-1)).reshape(start.shape)


def inverse_temperature(scores: Floats, labels: Ints) -> float:
    """What scores are to be multiplied with for the labels to be likeliest, by golden-section search."""
    low, high = -HOTTEST, -COLDEST
    for _ in range(TEMPERATURE_STEPS):
        left, right = high - GOLDEN * (high - low), low + GOLDEN * (high - low)
        if log_loss(math.exp(left) * scores, labels) <= log_loss(math.exp(right) * scores, labels):
            high = right
        else:
            low = left
    return math.exp((low + high) / 2)


def log_loss(scores: Floats, labels: Ints) -> float:
    """The mean of -log p of the labels, in nats."""
    return -float(log_shares(scores)[np.arange(len(labels)), labels].mean())


def log_shares(scores: Floats) -> Floats:
    """Log-probabilities [rows, labels]."""
    apart = scores - scores.max(axis=1, keepdims=True)
    return np.asarray(apart - np.log(np.exp(apart).sum(axis=1, keepdims=True)))
