"""What one model said to one prompt, and how sure it was of each thing it said."""

from __future__ import annotations

import math
from collections.abc import Sequence as Row
from dataclasses import dataclass

from miaotui.engine.results import Completion, TokenLogprob


@dataclass(frozen=True, slots=True)
class Position:
    """One token that was decided: its log-probability (nats), and those of the likeliest others."""

    said: float
    others: tuple[float, ...]

    @classmethod
    def of(cls, entry: TokenLogprob) -> Position:
        """A token among those that the model would have said likeliest."""
        others = (logprob for token_id, logprob in entry.top if token_id != entry.token_id)
        return cls(entry.logprob, tuple(others))

    @classmethod
    def among(cls, said: float, others: Row[float]) -> Position:
        """A token among the only ones that were allowed: their probabilities are made to sum to 1."""
        highest = max(said, *others)
        total = highest + math.log(math.fsum(math.exp(one - highest) for one in (said, *others)))
        return cls(said - total, tuple(one - total for one in others))

    @property
    def margin(self) -> float:
        """How much likelier it was than the next, in nats."""
        return self.said - max(self.others, default=-math.inf)

    @property
    def entropy(self) -> float:
        """Of the distribution, in nats; what is not among the likeliest counts as one token."""
        known = [math.exp(one) for one in (self.said, *self.others)]
        known.append(max(1.0 - math.fsum(known), 0.0))
        return -math.fsum(share * math.log(share) for share in known if share > 0.0)


@dataclass(frozen=True, slots=True)
class Answer:
    """positions: of tokens that were decided, in order; none where they were not asked for."""

    completion: Completion
    positions: tuple[Position, ...]

    @property
    def text(self) -> str:
        """What was said."""
        return self.completion.text

    @property
    def seconds(self) -> float:
        """From asking to the last token."""
        return self.completion.receipt.whole_s
