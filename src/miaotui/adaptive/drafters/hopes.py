"""What guesses for a text are expected to be worth: how many come, for how long, and what they owe for reading it."""

from __future__ import annotations

from dataclasses import dataclass
from weakref import WeakKeyDictionary

from miaotui.adaptive.answer_length import AnswerLengths
from miaotui.adaptive.drafters.candidate import Candidate
from miaotui.adaptive.shares import LEAST_CHANCE
from miaotui.engine.sequence import Sequence

FIRST_HOPE = 0.65
"""Share of guesses that are taken to come, before any was made."""
OWN_GAIN, COMMON_GAIN = 0.15, 0.03
"""Share of a guess in what is expected of the next one, of the same text and of texts to come."""
LEAST_LEFT = 16
"""An answer that is longer than others were is taken to have so many tokens left."""


@dataclass(slots=True)
class _Hope:
    share: float
    debt: float = 0.0


class Hopes:
    """Of all texts of an engine."""

    def __init__(self) -> None:
        self._common = FIRST_HOPE
        self._lengths = AnswerLengths()
        self._hopes: WeakKeyDictionary[Sequence, _Hope] = WeakKeyDictionary()

    def share(self, sequence: Sequence) -> float:
        """Of its guesses, how many are expected to come."""
        return self._of(sequence).share

    def promise(self, one: Candidate, count: int) -> list[float]:
        """How likely so many guesses are to come, each with all before it, as far as that is likely enough."""
        share = self.share(one.sequence)
        return [share**at for at in range(1, count + 1) if share**at >= LEAST_CHANCE]

    def num_left(self, one: Candidate) -> int:
        """Tokens that its answer is expected to go on for."""
        sequence = one.sequence
        expected = self._lengths.expect(sequence.request.tenant, sequence.max_tokens)
        return min(max(expected - sequence.num_output_tokens, LEAST_LEFT), sequence.num_draftable_tokens)

    def learn(self, sequence: Sequence, chance: float) -> None:
        """A guess was made that is so likely to come."""
        hope = self._of(sequence)
        hope.share += OWN_GAIN * (chance - hope.share)
        self._common += COMMON_GAIN * (chance - self._common)

    def owe(self, sequence: Sequence, cost: float) -> float:
        """Reading it took so long; what it owes by now."""
        hope = self._of(sequence)
        hope.debt += cost
        return hope.debt

    def write_off(self, sequence: Sequence) -> float:
        """Guesses will not earn what it owes."""
        hope = self._of(sequence)
        lost, hope.debt = hope.debt, 0.0
        return lost

    def repay(self, one: Candidate) -> float:
        """What guesses of one step have to earn of what reading cost, which is spread over the rest of the answer."""
        hope = self._of(one.sequence)
        part = hope.debt / max(self.num_left(one) / (1 + hope.share), 1.0)
        hope.debt -= part
        return part

    def ended(self, sequence: Sequence) -> float:
        """What was never earned of reading a text that has ended."""
        if sequence.finish_reason in ("stop", "length", "repetition"):
            self._lengths.observe(sequence.request.tenant, sequence.max_tokens, sequence.num_output_tokens)
        hope = self._hopes.pop(sequence, None)
        return 0.0 if hope is None else hope.debt

    def _of(self, sequence: Sequence) -> _Hope:
        hope = self._hopes.get(sequence)
        if hope is None:
            self._hopes[sequence] = hope = _Hope(self._common)
        return hope
