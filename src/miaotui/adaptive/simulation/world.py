"""What things truly cost in a simulation: prices of steps as they were fitted, and what looking for answers takes."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from miaotui.adaptive.costs import answering_ms, reading_ms, tokens_beside
from miaotui.adaptive.step_time import PRIOR_MS, StepTime
from miaotui.errors import ConfigError, brief

BUSY_GAIN = 0.98
"""What drafting gains where eight or more answer; up to there it fades. Measured: 1.09 and 1.02 of eight at once, with
gain control; this is what it may cost at worst (decision 0024)."""
FADED_AT = 8
MOST_BYTES = 1 << 20
"""Of a file of prices; one that is longer is cut, and then no JSON."""


@dataclass(frozen=True, slots=True)
class World:
    """prices_ms: as `step_time.PRIOR_MS`. noise: spread of requests' times that prices don't explain, as a standard
    deviation of logarithms. exact_ms, near_ms: looking for the same question, and for one of the same meaning.
    source: where the figures were measured."""

    prices_ms: tuple[float, ...] = (6.2, 1.2, 1.6, 1.15, 0.3, 0.6)
    noise: float = 0.15
    exact_ms: float = 0.3
    near_ms: float = 12.0
    max_sequences: int = 16
    source: str = "SmolLM2 135M Q4_1 on two cores of a Cascade Lake at 2.5 GHz, about"

    @classmethod
    def read(cls, path: Path) -> World:
        """From a file that `write` wrote. Raises ConfigError."""
        try:
            with path.open("rb") as file:
                given = json.loads(file.read(MOST_BYTES))
        except (OSError, ValueError, RecursionError) as error:
            raise ConfigError(f"{path} cannot be read as prices: {brief(str(error))}") from None
        names = {one.name for one in fields(cls)}
        if not isinstance(given, dict) or not set(given) <= names:
            raise ConfigError(
                f"{path} holds no prices; `miaotui bench plan --fit MODEL --costs FILE` writes such a file"
            )
        prices = given.get("prices_ms")
        if not isinstance(prices, list) or len(prices) != len(PRIOR_MS) or not all(map(_is_price, prices)):
            raise ConfigError(f"{path}: prices_ms must be {len(PRIOR_MS)} numbers that are not negative")
        numbers = [value for name, value in given.items() if name not in ("prices_ms", "source")]
        if not all(map(_is_price, numbers)) or not isinstance(given.get("source", ""), str):
            raise ConfigError(f"{path}: all but source must be numbers that are not negative")
        if not isinstance(given.get("max_sequences", 1), int) or given.get("max_sequences", 1) < 1:
            raise ConfigError(f"{path}: max_sequences must be a whole number, at least 1")
        return cls(**given | {"prices_ms": tuple(prices)})

    def write(self, path: Path) -> None:
        """For another run. Raises OSError."""
        path.write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")


def _is_price(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e9


class Rates:
    """How fast a machine of these prices goes on, by how many answer and whether a prompt is read; remembered."""

    def __init__(self, world: World, position: float) -> None:
        self._steps = StepTime.of_prices(list(world.prices_ms))
        self._position = position
        self._known: dict[tuple[int, bool], tuple[float, float]] = {}

    def step(self, num_answering: int, *, reads: bool) -> tuple[float, float]:
        """Milliseconds of a step, and how many tokens of a prompt it reads.

        A prompt is never read faster because more answers run, as it might be by steps that grow with them: who does
        less work would delay others then, and the oracle be none.
        """
        key = (num_answering, reads)
        if key not in self._known:
            self._known[key] = self._step(num_answering, reads=reads)
        return self._known[key]

    def _step(self, num_answering: int, *, reads: bool) -> tuple[float, float]:
        if not reads:
            return answering_ms(self._steps, num_answering, self._position), 0.0
        num_tokens = float(tokens_beside(self._steps, num_answering))
        ms = reading_ms(self._steps, num_answering, int(num_tokens), self._position)
        if num_answering:
            fewer_ms, fewer_tokens = self.step(num_answering - 1, reads=True)
            ms, num_tokens = (
                max(ms, fewer_ms if num_answering > 1 else 0.0),
                min(num_tokens, ms * fewer_tokens / fewer_ms),
            )
        return ms, num_tokens


def gain_at(draft_gain: float, num_answering: int) -> float:
    """How many times as fast drafts make an answer beside others: less the more there are, for steps are full then."""
    left = max(1.0 - (num_answering - 1) / (FADED_AT - 1), 0.0)
    return max(1.0 + (draft_gain - 1.0) * left, BUSY_GAIN) if left > 0 else BUSY_GAIN
