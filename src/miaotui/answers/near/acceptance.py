"""How similar is similar enough: learned for every kept answer from whether it was right before, within an error bound.

The idea is vCache's (Schroeder et al. 2025, arXiv 2502.03771): every kept answer has a threshold of its own, a logistic
curve over the similarity is fitted to what was observed of it, and an answer is served only within a bound δ on the
share of wrong ones. Three things differ (docs/decisions/0019): the bound holds for each hit and not on average over all
requests, so that nothing is served by lot; answers of which little is known lean on what was observed of all others,
instead of starting from nothing; the curve also sees how differently the two questions are worded.

The model: P(right) = σ(x·θₑ), x = (1, 3 + log₁₀(1.001 − similarity), distance), θₑ = θ + uₑ, θ the population's,
u ~ N(0, V) of entry e. Observations of an entry count as one Gaussian site on θ (Laplace's approximation, u integrated
out); what is known of θ without it is the entry's prior (expectation propagation's cavity), so none counts twice.
Up to a similarity at which an answer was wrong it is not served again, whatever the curve says.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]
MAX_OBSERVATIONS: Final = 64  # the latest of an entry; older ones say little that these do not
_NEWTON_STEPS: Final = 30
_GRID: Final = np.unique(np.concatenate([np.linspace(0.0, 0.8, 17), np.linspace(0.8, 1.0, 101)]))
_NODES: Final = np.linspace(-6.0, 6.0, 41)
_NODE_WEIGHTS: Final = np.exp(-0.5 * _NODES**2) / np.exp(-0.5 * _NODES**2).sum()


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a decision rests on. similarity: the embeddings' cosine; distance: share of words only one question has."""

    similarity: float
    distance: float = 0.0

    @property
    def features(self) -> Array:
        """x of the model."""
        return np.asarray(_features(np.array([self.similarity]), self.distance)[0])


@dataclass(frozen=True, slots=True)
class Prior:
    """What is believed before anything was observed, of questions in these languages.

    num_pairs: labelled pairs it was fitted to, 0 for none. languages: in others the embedding model's similarities say
    nothing (all-MiniLM-L6-v2 reads most Chinese characters as one and the same unknown sign).
    """

    mean: tuple[float, float, float]
    covariance: tuple[tuple[float, float, float], ...]
    entry_variance: tuple[float, float, float]
    num_pairs: int = 0
    languages: tuple[str, ...] = ("en",)


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether to serve. p: that the answer is right; tau: how often vCache would ask the model instead, 0 to 1;
    threshold: the similarity from which on this answer is served to a question worded like this one, None for never."""

    accepted: bool
    p: float
    tau: float
    threshold: float | None
    num_observations: int
    why: str


@dataclass(slots=True)
class _Entry:
    evidence: list[Array] = field(default_factory=list)
    right: list[float] = field(default_factory=list)
    wrong_at: float = -1.0  # the highest similarity at which it was wrong: up to there it is never served again
    precision: Array = field(default_factory=lambda: np.zeros((3, 3)))  # its site on the population
    information: Array = field(default_factory=lambda: np.zeros(3))


class Acceptance:
    """One tenant's experience. delta: the probability of a wrong answer that each hit may have, above 0, below 1."""

    def __init__(self, prior: Prior, delta: float) -> None:
        if not 0.0 < delta < 1.0:
            raise ValueError(f"the error bound is above 0 and below 1, not {delta}")
        self.delta = delta
        covariance = np.array(prior.covariance)
        self._precision: Array = np.linalg.inv(covariance)
        self._information: Array = self._precision @ np.array(prior.mean)
        self._entry_variance: Array = np.diag(prior.entry_variance)
        self._entries: dict[bytes, _Entry] = {}

    def observe(self, entry: bytes, evidence: Evidence, *, right: bool) -> None:
        """Learn whether the entry's answer was right for a question."""
        state = self._entries.setdefault(entry, _Entry())
        state.evidence.append(evidence.features)
        state.right.append(float(right))
        state.wrong_at = max(state.wrong_at, -1.0 if right else evidence.similarity)
        del state.evidence[:-MAX_OBSERVATIONS], state.right[:-MAX_OBSERVATIONS]
        self._refit(state)

    def settle(self, sweeps: int = 3) -> None:
        """Fit every entry again beside all others, so that the order in which they were observed does not matter."""
        for _ in range(sweeps):
            for state in self._entries.values():
                self._refit(state)

    def _refit(self, state: _Entry) -> None:
        self._precision -= state.precision
        self._information -= state.information
        mean, covariance = self._prior_of(None)
        mode, curvature, gradient = _fit(mean, covariance, np.array(state.evidence), np.array(state.right))
        spread = np.linalg.inv(np.eye(3) + curvature @ self._entry_variance)
        precision = spread @ curvature
        weight = _weight_of_outlier(mode - mean, covariance)
        state.precision = weight * (precision + precision.T) / 2
        state.information = weight * (spread @ (curvature @ mode + gradient))
        self._precision += state.precision
        self._information += state.information

    def forget(self, entry: bytes) -> None:
        """Drop an entry's own curve; what it taught about all others stays."""
        self._entries.pop(entry, None)

    def decide(self, entry: bytes, evidence: Evidence) -> Decision:
        """Whether the entry's answer may be served on this evidence."""
        state = self._entries.get(entry)
        mean, covariance = self._posterior(state)
        p = float(_probability(mean, covariance, evidence.features[None])[0])
        threshold = self._threshold(mean, covariance, evidence.distance)
        count = len(state.right) if state else 0
        if state is not None and evidence.similarity <= state.wrong_at:
            above = None if state.wrong_at >= 1.0 else max(threshold or 1.0, state.wrong_at)
            why = f"this answer was wrong at a similarity of {state.wrong_at:.4f} before"
            return Decision(False, p, 1.0, above, count, why)
        tau = max(0.0, 1.0 - self.delta / max(1.0 - p, 1e-300))
        why = f"right with probability {p:.4f}, wanted {1 - self.delta:.4f}; {count} observations of this answer"
        return Decision(1.0 - p <= self.delta, p, tau, threshold, count, why)

    def population(self) -> tuple[Array, Array]:
        """Mean and covariance of θ, as a `Prior` for others."""
        covariance = np.linalg.inv(self._precision)
        return covariance @ self._information, covariance

    def _prior_of(self, state: _Entry | None) -> tuple[Array, Array]:
        """Of an entry's θ, from the prior and all other entries."""
        precision, information = self._precision, self._information
        if state is not None:
            precision, information = precision - state.precision, information - state.information
        covariance = np.linalg.inv(precision)
        return covariance @ information, covariance + self._entry_variance

    def _posterior(self, state: _Entry | None) -> tuple[Array, Array]:
        mean, covariance = self._prior_of(state)
        if state is None:
            return mean, covariance
        mode, curvature, _ = _fit(mean, covariance, np.array(state.evidence), np.array(state.right))
        return mode, np.linalg.inv(np.linalg.inv(covariance) + curvature)

    def _threshold(self, mean: Array, covariance: Array, distance: float) -> float | None:
        p = _probability(mean, covariance, _features(_GRID, distance))
        refused = np.flatnonzero(1.0 - p > self.delta)
        if refused.size == 0:
            return 0.0
        return None if refused[-1] == len(_GRID) - 1 else float(_GRID[refused[-1] + 1])


def _features(similarity: Array, distance: float) -> Array:
    """x of the model, a row for each similarity. The second is 0 at a similarity of 1, 1 at 0.991, 2 at 0.901."""
    apart = 3.0 + np.log10(1.001 - np.minimum(similarity, 1.0))
    return np.stack([np.ones_like(apart), apart, np.full_like(apart, distance)], axis=1)


def _fit(mean: Array, covariance: Array, x: Array, y: Array) -> tuple[Array, Array, Array]:
    """Mode of a logistic regression under N(mean, covariance); there, the data's curvature and their gradient."""
    precision = np.linalg.inv(covariance)
    theta = mean.copy()
    for _ in range(_NEWTON_STEPS):
        p = _sigmoid(x @ theta)
        gradient = x.T @ (y - p) - precision @ (theta - mean)
        hessian = (x * (p * (1 - p))[:, None]).T @ x + precision
        step = np.linalg.solve(hessian, gradient)
        theta = theta + step / max(1.0, float(np.max(np.abs(step))) / 4.0)  # far steps overshoot
        if np.max(np.abs(step)) < 1e-9:
            break
    p = _sigmoid(x @ theta)
    return theta, (x * (p * (1 - p))[:, None]).T @ x, x.T @ (y - p)


def _weight_of_outlier(difference: Array, covariance: Array) -> float:
    """1 within two deviations, less beyond: one answer that is always wrong says little of all others (Huber 1964)."""
    distance = float(difference @ np.linalg.solve(covariance, difference))
    return min(1.0, 4.0 / distance) if distance > 0.0 else 1.0


def _probability(mean: Array, covariance: Array, x: Array) -> Array:
    """E σ(x·θ) over θ ~ N(mean, covariance): all that is not known of θ counts against the answer."""
    center = x @ mean
    deviation = np.sqrt(np.maximum(np.einsum("ni,ij,nj->n", x, covariance, x), 0.0))
    return np.asarray(_sigmoid(center[:, None] + deviation[:, None] * _NODES) @ _NODE_WEIGHTS)


def _sigmoid(z: Array) -> Array:
    return np.asarray(1.0 / (1.0 + np.exp(-np.clip(z, -500.0, 500.0))))
