"""Convolutions as a filter for each input channel alone (depthwise), then a matrix over the channels (pointwise).

For each input channel c the weights W[:, c, taps] [out, taps] are replaced by the nearest matrix of rank r: r filters
over the taps, and what each output takes of them. After Jaderberg et al. (arXiv:1405.3866, section 2) and network
decoupling (arXiv:1808.05517, section 3.2); r = 1 is MobileNet's form (arXiv:1704.04861).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from miaotui.compress.calibration import InputStatistics
from miaotui.errors import ConfigError

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]

_RIDGE = 1e-6
"""Of the mean diagonal: added to what is inverted, as inputs may never use some direction."""


@dataclass(frozen=True, slots=True)
class Separated:
    """depthwise: [rank, *taps, in]; pointwise: [out, rank * in], the columns of the first term first.

    error: ‖y - y′‖ / ‖y‖ of the outputs, as far as the statistics tell them; of the weights where there are none.
    """

    depthwise: Floats
    pointwise: Floats
    error: float

    @property
    def rank(self) -> int:
        """Filters of each channel."""
        rank: int = self.depthwise.shape[0]
        return rank

    def weight(self) -> Floats:
        """The convolution [out, in, *taps] that it computes."""
        rank, channels = self.depthwise.shape[0], self.depthwise.shape[-1]
        filters = self.depthwise.reshape(rank, -1, channels)
        whole = np.einsum("orc,rtc->oct", self.pointwise.reshape(-1, rank, channels), filters)
        shaped: Floats = whole.reshape(len(whole), channels, *self.depthwise.shape[1:-1])
        return shaped


def multiply_adds(shape: tuple[int, ...], rank: int = 0) -> int:
    """For each place of the output, of a convolution [out, in, *taps]: whole (rank 0), or separable."""
    out, channels, taps = shape[0], shape[1], math.prod(shape[2:])
    return rank * channels * (taps + out) if rank else out * channels * taps


def largest_rank(shape: tuple[int, ...]) -> int:
    """The largest rank with which a convolution [out, in, *taps] takes fewer multiply-adds than whole; 0: none."""
    out, taps = shape[0], math.prod(shape[2:])
    return (out * taps - 1) // (out + taps)


def rank_for(weight: Floats, error: float, statistics: InputStatistics | None = None) -> int:
    """The least rank whose error is at most that; 0 where none of these is cheaper than the whole convolution."""
    for rank in range(1, largest_rank(weight.shape) + 1):
        if decompose(weight, rank, statistics).error <= error:
            return rank
    return 0


def decompose(weight: Floats, rank: int, statistics: InputStatistics | None = None) -> Separated:
    """The nearest separable convolution to a whole one [out, in, *taps], one or two axes of taps.

    statistics: of the inputs' windows, columns as `windows` lays them out: [*taps, in]. With moments, a tap's error
    counts as much as its input is large. With a Hessian, errors count as the outputs feel them; the pointwise matrix is
    then fitted to these outputs, so that channels make good what others lack. Raises ConfigError for a rank beyond
    1 … min(out, taps), where it is exact, and for statistics of other inputs.
    """
    out, channels, taps = weight.shape[0], weight.shape[1], math.prod(weight.shape[2:])
    if not 1 <= rank <= min(out, taps):
        raise ConfigError(f"a convolution of shape {weight.shape} has ranks 1 to {min(out, taps)}, not {rank}.")
    whole = weight.reshape(out, channels, taps).transpose(1, 0, 2).astype(np.float64)  # [in, out, taps]
    hessian = _hessian(statistics, channels, taps)
    filters, mix = _nearest(whole, rank, _correlations(statistics, hessian, channels, taps))
    if hessian is not None:
        mix = _fitted(whole, filters, hessian)
    left = whole - mix @ filters
    lost, all_of_it = (_energy(part, statistics, hessian) for part in (left, whole))
    depthwise = filters.transpose(1, 2, 0).reshape(rank, *weight.shape[2:], channels)
    pointwise = mix.transpose(1, 2, 0).reshape(out, rank * channels)
    error = math.sqrt(max(lost, 0.0) / all_of_it) if all_of_it > 0 else 0.0
    return Separated(_float32(depthwise), _float32(pointwise), error)


def _nearest(whole: Doubles, rank: int, correlations: Doubles | None) -> tuple[Doubles, Doubles]:
    """Filters [in, rank, taps] and mix [in, out, rank]: for each channel the least ‖(W - mix · filters) L‖, L Lᵀ = S.

    The right singular vectors of W L are the eigenvectors of LᵀWᵀWL, which is small.
    """
    factor = None if correlations is None else np.linalg.cholesky(correlations)
    seen = whole if factor is None else whole @ factor
    _, vectors = np.linalg.eigh(seen.transpose(0, 2, 1) @ seen)
    top = vectors[:, :, ::-1][:, :, :rank]  # [in, taps, rank]
    mix = seen @ top
    filters = top.transpose(0, 2, 1)
    return (filters if factor is None else filters @ np.linalg.inv(factor)), mix


def _fitted(whole: Doubles, filters: Doubles, hessian: Doubles) -> Doubles:
    """The mix [in, out, rank] with the least mean ‖Wx - mix · filters x‖², for these filters: least squares."""
    channels, out, taps = whole.shape
    rank = filters.shape[1]
    width = channels * rank
    blocks = hessian.reshape(taps, channels, taps, channels)
    half = np.einsum("tcud,dru->tcdr", blocks, filters, optimize=True)  # E[x zᵀ] with z = filters x
    inner = np.einsum("crt,tcds->crds", filters, half, optimize=True).reshape(width, width)
    outer = whole.transpose(1, 2, 0).reshape(out, -1) @ half.reshape(-1, width)
    inner[np.diag_indices(width)] += _RIDGE * np.trace(inner) / width
    return np.linalg.solve(inner, outer.T).reshape(channels, rank, out).transpose(0, 2, 1)


def _hessian(statistics: InputStatistics | None, channels: int, taps: int) -> Doubles | None:
    if statistics is None:
        return None
    if statistics.moments.shape != (taps * channels,):
        raise ConfigError(
            f"the calibration has {statistics.moments.size} columns, but the convolution sees {taps * channels}; "
            "calibrate with this model, before it is made separable."
        )
    if statistics.hessian is None:
        return None
    hessian: Doubles = statistics.hessian().astype(np.float64)
    return hessian


def _correlations(
    statistics: InputStatistics | None, hessian: Doubles | None, channels: int, taps: int
) -> Doubles | None:
    """S [in, taps, taps]: the mean of x_t x_u within a channel, as far as it is known; never singular."""
    if statistics is None:
        return None
    if hessian is not None:
        blocks = hessian.reshape(taps, channels, taps, channels)
        found: Doubles = np.einsum("tcuc->ctu", blocks).copy()
    else:
        found = np.zeros((channels, taps, taps))
        found[:, range(taps), range(taps)] = statistics.moments.reshape(taps, channels).T
    ridge = _RIDGE * np.einsum("ctt->c", found) / taps
    found[:, range(taps), range(taps)] += np.where(ridge > 0, ridge, 1.0)[:, None]
    return found


def _energy(part: Doubles, statistics: InputStatistics | None, hessian: Doubles | None) -> float:
    """The mean square of what weights [in, out, taps] make of the inputs; of the weights where these are not known."""
    rows = part.transpose(1, 2, 0).reshape(part.shape[1], -1)
    if hessian is not None:
        return float(np.einsum("oi,oi->", rows @ hessian, rows))
    return float((rows**2 @ statistics.moments).sum() if statistics is not None else (rows**2).sum())


def _float32(values: Doubles) -> Floats:
    return np.ascontiguousarray(values, np.float32)
