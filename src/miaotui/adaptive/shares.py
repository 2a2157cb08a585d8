"""How likely drafted tokens are to come: by who drafted them, how many tokens agreed before, and whether the text has
always gone on in the same way behind those.

A draft model's tokens are told apart by the probability that it gives them itself: what that is worth is learned.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from collections.abc import Sequence as Row
from dataclasses import dataclass
from typing import Literal

DrafterName = Literal["request", "past", "model"]
LENGTHS = (1, 2, 4, 8, 16, 32, 64, 128)
"""Of matches that are told apart."""
FIRST_SHARES = (0.4, 0.6, 0.75, 0.87, 0.94, 0.97, 0.98, 0.98)
"""Of tokens behind such matches that are taken to come as long as nothing was seen: what SmolLM2 says to Spec-Bench."""
FIRST_SPLIT_SHARES = (0.18, 0.4, 0.5, 0.5, 0.6, 0.7, 0.8, 0.9)
"""The same behind a match that has gone on in several ways before."""
SURENESS = (0.3, 0.5, 0.7, 0.85, 0.95, 0.99)
"""Borders between classes of a draft model's own probability of a token."""
FIRST_SURE_SHARES = (0.1, 0.25, 0.4, 0.55, 0.7, 0.85, 0.95)
"""Of tokens in these classes that are taken to come as long as nothing was seen."""
FIRST_WEIGHT = 4.0
"""What that counts, in tokens seen."""
FORGETTING = 0.98
"""What an observation still counts with each one behind it."""
LEAST_CHANCE = 0.1
"""Tokens less likely than this to come are not offered."""


@dataclass(slots=True)
class Share:
    """How many of the tokens that were judged came, of late."""

    came: float
    judged: float

    def observe(self, num_judged: int, num_came: int) -> None:
        """So many were judged, and so many of them came."""
        self.came = FORGETTING * self.came + num_came
        self.judged = FORGETTING * self.judged + num_judged

    @property
    def value(self) -> float:
        """The share."""
        return self.came / self.judged


@dataclass(frozen=True, slots=True)
class Offer:
    """Tokens that somebody says will come, behind a match of so many.

    is_settled: whether the match has always gone on in the same way. sureness: of a draft model, which has no match:
    the class of its own probability of each token.
    """

    drafter: DrafterName
    matched: int
    tokens: Row[int]
    sureness: Row[int] = ()
    is_settled: bool = True

    def num_right(self, came: Row[int]) -> int:
        """How many of them came at once, where these tokens did."""
        count = 0
        for guessed, token in zip(self.tokens, came, strict=False):
            if guessed != token:
                break
            count += 1
        return count


class Shares:
    """Shares by drafter and kind of match; each token that comes makes the match longer by one for the next.

    before: what is taken to hold where nothing was seen here; None: FIRST_SHARES.
    """

    def __init__(self, before: Shares | None = None) -> None:
        self._before = before
        self._shares: dict[tuple[DrafterName, int], Share] = {}

    def chances(self, offer: Offer, most: int) -> list[float]:
        """How likely each of its tokens is to come, as far as that is likely enough."""
        chances: list[float] = []
        chance = 1.0
        for kind, count in _runs(offer, min(most, len(offer.tokens))):
            value = self._share(offer.drafter, kind).value
            for _ in range(count):
                chance *= value
                if chance < LEAST_CHANCE:
                    return chances
                chances.append(chance)
        return chances

    def observe(self, offer: Offer, came: Row[int]) -> None:
        """These tokens came where that was offered, and others may follow."""
        num_right = offer.num_right(came)
        has_missed = num_right < min(len(offer.tokens), len(came))
        at = 0
        for kind, count in _runs(offer, num_right + has_missed):
            self._share(offer.drafter, kind).observe(count, min(num_right - at, count))
            at += count

    def of_sureness(self, kind: int) -> float:
        """Of a draft model's tokens of that class, the share that comes."""
        return self._share("model", kind).value

    def _share(self, drafter: DrafterName, kind: int) -> Share:
        share = self._shares.get((drafter, kind))
        if share is None:
            firsts = FIRST_SURE_SHARES if drafter == "model" else FIRST_SHARES + FIRST_SPLIT_SHARES
            first = firsts[kind] if self._before is None else self._before._share(drafter, kind).value
            self._shares[drafter, kind] = share = Share(first * FIRST_WEIGHT, FIRST_WEIGHT)
        return share


def sureness(probability: float) -> int:
    """The class of a draft model's probability; what is no number is in the lowest."""
    return bisect_right(SURENESS, probability) if probability > 0 else 0


def _runs(offer: Offer, count: int) -> Iterator[tuple[int, int]]:
    """The first so many tokens as runs of one kind: which kind, and how many."""
    if offer.drafter == "model":
        yield from ((kind, 1) for kind in offer.sureness[:count])
        return
    matched, end = offer.matched, offer.matched + count
    first = 0 if offer.is_settled else len(LENGTHS)
    while matched < end:
        length = bisect_right(LENGTHS, matched) - 1
        border = LENGTHS[length + 1] if length + 1 < len(LENGTHS) else end
        yield first + length, min(border, end) - matched
        matched = min(border, end)
