"""Whole matrices as two factors of low rank, each as narrow as a common budget allows.

The decomposition is SVD-LLM's (arXiv:2403.07378): truncation by what is lost of the outputs. Ranks differ by tensor: of
all choices that keep to the budget, the one that loses the least share of the linears' output energy.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from miaotui.compress.calibration import Calibration, InputStatistics, inputs_of
from miaotui.compress.changed_inputs import with_inputs
from miaotui.compress.factors import Factors, factorize, spectrum
from miaotui.compress.source import Change, Changed, Source
from miaotui.errors import ConfigError
from miaotui.formats.gguf_write import encode_field

Floats = NDArray[np.float32]

STEP = 32
"""Ranks are multiples of this, so that the factors' rows are whole blocks."""
_HALVINGS = 60

Told = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Narrowed:
    """A matrix that two factors stand for, and the share of its outputs' energy that they lose."""

    name: str
    shape: tuple[int, int]
    rank: int
    loss: float

    @property
    def saved_weights(self) -> int:
        """How many weights fewer."""
        return self.shape[0] * self.shape[1] - self.rank * sum(self.shape)


@dataclass(frozen=True, slots=True)
class LowRank:
    """The changed source, statistics of its matrices' inputs, and what was narrowed."""

    source: Source
    calibration: Calibration | None
    narrowed: tuple[Narrowed, ...]


def low_rank(
    source: Source, calibration: Calibration | None, keep: float, *, step: int = STEP, told: Told | None = None
) -> LowRank:
    """Keep that share (0 to 1) of the weights of the layers' matrices.

    Reads every matrix twice, one at a time. A matrix stays whole where no rank r < rows columns / (rows + columns)
    loses little enough. Raises ConfigError for a budget that the lowest ranks do not meet.
    """
    if not 0 < keep <= 1:
        raise ConfigError(f"a low-rank budget is the share of weights to keep, above 0 to 1, not {keep}.")
    names = [
        t.name
        for t in source.tensors.values()
        if t.name.startswith("blk.") and ".lora_" not in t.name and len(t.shape) == 2
    ]
    energies: dict[str, Floats] = {}
    for done, name in enumerate(names):
        if told is not None:
            told(name, done, len(names))
        energies[name] = spectrum(source.floats(name), inputs_of(calibration, name))
        source.release(name)
    curves = [_options(name, source.tensors[name].shape, energies[name], step) for name in names]
    saved = (1 - keep) * sum(math.prod(source.tensors[name].shape) for name in names)
    return _changed(source, calibration, _chosen(curves, saved) if saved else [], energies)


def _options(name: str, shape: tuple[int, ...], energies: Floats, step: int) -> list[Narrowed]:
    """Every rank that saves weights."""
    total = float(energies.sum(dtype=np.float64)) or 1.0
    lost = 1 - np.cumsum(energies, dtype=np.float64) / total
    rows, columns = shape
    most = rows * columns // (rows + columns)
    return [Narrowed(name, (rows, columns), rank, max(float(lost[rank - 1]), 0.0)) for rank in range(step, most, step)]


def _chosen(curves: list[list[Narrowed]], saved: float) -> list[Narrowed]:
    """The least loss that saves so many weights: a price per weight, found by halving, at which each chooses alone."""

    def at(price: float) -> list[Narrowed]:
        best = (max(options, key=lambda o: price * o.saved_weights - o.loss) for options in curves if options)
        return [o for o in best if price * o.saved_weights > o.loss]

    def enough(options: list[Narrowed]) -> bool:
        return sum(o.saved_weights for o in options) >= saved

    low, high = 1e-30, 1.0  # at a price of 1 any weight saved outweighs any loss
    if not enough(at(high)):
        raise ConfigError("no ranks keep to that share of the weights; ask for a larger one.")
    for _ in range(_HALVINGS):
        middle = math.sqrt(low * high)
        low, high = (low, middle) if enough(at(middle)) else (middle, high)
    return at(high)


def _changed(
    source: Source, calibration: Calibration | None, narrowed: list[Narrowed], energies: Mapping[str, Floats]
) -> LowRank:
    changes: dict[str, Change | None] = {}
    inputs: dict[str, InputStatistics] = {}
    latest = _Latest(source, calibration)
    for one in narrowed:
        (rows, columns), name = one.shape, one.name
        changes[name] = None
        changes[f"{name}.lora_a"] = Change((one.rank, columns), partial(latest.right, one))
        changes[f"{name}.lora_b"] = Change((rows, one.rank), partial(latest.left, one))
        if (known := inputs_of(calibration, name)) is not None:
            inputs[f"{name}.lora_a"] = known
            outputs = energies[name][: one.rank]  # of the first factor: uncorrelated, with these mean squares
            inputs[f"{name}.lora_b"] = InputStatistics(known.tokens, outputs, hessian=partial(np.diag, outputs))
    kept = None if calibration is None else with_inputs(calibration, inputs)
    share = encode_field(f"{len(narrowed)} matrices")
    fields = {"miaotui.compress.low_rank": share} if narrowed else None
    return LowRank(Changed(source, changes, fields=fields), kept, tuple(narrowed))


class _Latest:
    """The factors of the matrix that was asked for last: both are written one after the other."""

    def __init__(self, source: Source, calibration: Calibration | None) -> None:
        self._source, self._calibration = source, calibration
        self._name = ""
        self._factors: Factors | None = None

    def right(self, one: Narrowed, first: int, last: int) -> Floats:
        """Rows of the factor that is applied first."""
        return self._of(one).right[first:last]

    def left(self, one: Narrowed, first: int, last: int) -> Floats:
        """Rows of the factor that is applied second."""
        return self._of(one).left[first:last]

    def _of(self, one: Narrowed) -> Factors:
        if self._factors is None or self._name != one.name:
            self._factors = None  # before the next one is made
            statistics = inputs_of(self._calibration, one.name)
            self._factors = factorize(self._source.floats(one.name), statistics, one.rank)
            self._name = one.name
            self._source.release(one.name)
        return self._factors
