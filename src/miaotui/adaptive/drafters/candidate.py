"""Who may have guesses of a draft model, and the step that they are for."""

from __future__ import annotations

from collections.abc import Sequence as Row
from dataclasses import dataclass, field

from miaotui.adaptive.shares import Offer, Shares
from miaotui.engine.sequence import Sequence


@dataclass(slots=True, eq=False)
class Candidate:
    """A sequence that may have drafts of so many tokens at `most`.

    free: how likely those are to come that others offer for nothing. num_unread: tokens that the model has to read.
    tokens, classes, chances: as far as it was guessed, each token's class of sureness, and how likely all up to it are
    to come.
    """

    sequence: Sequence
    shares: Shares
    most: int
    free: Row[float] = ()
    num_unread: int = 0
    tokens: list[int] = field(default_factory=list)
    classes: list[int] = field(default_factory=list)
    chances: list[float] = field(default_factory=list)

    @property
    def offer(self) -> Offer | None:
        """What the model says will come, if it was asked."""
        return Offer("model", 0, self.tokens, self.classes) if self.tokens else None


@dataclass(frozen=True, slots=True)
class Moment:
    """A step to come. alone, ratios: see `StepCost`. most: tokens that it may draft.

    base: how many times as many tokens per millisecond there are with what is offered for nothing.
    """

    num_answers: int
    alone: float
    ratios: Row[float]
    most: int
    base: float = 1.0
