"""How fast models read and write, measured in turns, so that a machine that slows down slows all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from miaotui.compress.compare.candidate import Candidate, Step
from miaotui.energy import EnergyMeter

READ_TOKENS = 512
WRITE_TOKENS = 64


@dataclass(frozen=True, slots=True)
class Spread:
    """Median of several rounds, and the lowest and highest."""

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Of one value a round, one at least."""
        return cls(median(values), min(values), max(values))


@dataclass(frozen=True, slots=True)
class Speed:
    """Tokens a second of one model, and how many times those of the first, round by round.

    read_j, write_j: joules a token, of the whole processor package; None where they cannot be read.
    """

    read: Spread
    write: Spread
    read_ratio: Spread
    write_ratio: Spread
    read_j: float | None
    write_j: float | None


@dataclass(frozen=True, slots=True)
class _Round:
    read_s: float
    token_s: float
    read_j: float | None
    write_j: float | None


def measure_speed(
    candidates: Sequence[Candidate],
    rounds: int,
    *,
    energy: EnergyMeter | None = None,
    read_tokens: int = READ_TOKENS,
    write_tokens: int = WRITE_TOKENS,
    step: Step = lambda name, done, total: None,
) -> list[Speed]:
    """All candidates in turn, `rounds` times, every second time backwards.

    Each has read and written once before it counts, whenever it came into memory.
    """
    taken: list[list[_Round]] = [[] for _ in candidates]
    order = list(range(len(candidates)))
    total, done = rounds * len(candidates), 0
    for turn in range(rounds):
        for at in order if turn % 2 == 0 else reversed(order):
            step(candidates[at].name, done, total)
            taken[at].append(_one(candidates[at], turn, energy, read_tokens, write_tokens))
            done += 1
    step("", total, total)
    return [_speed(own, taken[0], read_tokens, write_tokens) for own in taken]


def _one(candidate: Candidate, turn: int, energy: EnergyMeter | None, read_tokens: int, write_tokens: int) -> _Round:
    with candidate.open() as model:
        model.token_s(2, 2 * turn + 1)  # touches every weight, whoever used the caches before
        before = energy.read() if energy else None
        read_s = model.read_s(read_tokens, 2 * turn)
        between = energy.read() if energy else None
        token_s = model.token_s(write_tokens, 2 * turn + 1)
        after = energy.read() if energy else None
    if energy is None or before is None or between is None or after is None:
        return _Round(read_s, token_s, None, None)
    return _Round(read_s, token_s, energy.joules(before, between), energy.joules(between, after))


def _speed(own: Sequence[_Round], first: Sequence[_Round], read_tokens: int, write_tokens: int) -> Speed:
    return Speed(
        Spread.of([read_tokens / one.read_s for one in own]),
        Spread.of([1 / one.token_s for one in own]),
        Spread.of([its.read_s / mine.read_s for mine, its in zip(own, first, strict=True)]),
        Spread.of([its.token_s / mine.token_s for mine, its in zip(own, first, strict=True)]),
        _median([one.read_j / read_tokens for one in own if one.read_j is not None]),
        _median([one.write_j / write_tokens for one in own if one.write_j is not None]),
    )


def _median(values: Sequence[float]) -> float | None:
    return median(values) if values else None
