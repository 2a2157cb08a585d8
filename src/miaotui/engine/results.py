"""What comes out: completions, the parts of a stream, log-probabilities, scores."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from miaotui.core import Receipt

FinishReason = Literal["stop", "length", "repetition", "cancelled", "deadline", "error"]


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """Log-probability (nats) of a token in its place, and the most likely tokens there, best first, as (id, logprob).

    It is the model's own distribution: before bias, penalties and temperature.
    """

    token_id: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Completion:
    """One answer.

    text: without the stop string or end token, unless it was asked for; token_ids: all tokens, the ending one included.
    finish_reason: "stop" (end of text, stop string or stop token, or the grammar is complete), "length" (max_tokens),
        "repetition" (it went round in circles, and `repetition_detection` was asked for),
        "cancelled", "deadline" (its time was over), "error" (it could not go on: the grammar became too complex, or the
        logits are no numbers).
    stop_reason: the stop string or stop token id of the request that ended it, what completed it ("json" or the choice,
        with `stop_when`), or what the error was; None for the model's own end of text.
    logprobs: one per token if asked for. prompt_logprobs: one per prompt token, the first None, if asked for.
    others: with n > 1, the further completions of the same prompt.
    """

    text: str
    token_ids: tuple[int, ...]
    finish_reason: FinishReason
    stop_reason: str | int | None
    logprobs: tuple[TokenLogprob, ...] | None
    receipt: Receipt
    prompt_logprobs: tuple[TokenLogprob | None, ...] | None = None
    others: tuple[Completion, ...] = ()


@dataclass(frozen=True, slots=True)
class Delta:
    """What one step added to one completion; `finish_reason` is set on its last part only.

    `text` may lag behind `token_ids`: bytes of an unfinished character and the beginning of a possible stop string
    are held back until they are decided.
    """

    index: int
    text: str
    token_ids: tuple[int, ...]
    finish_reason: FinishReason | None = None
    logprobs: tuple[TokenLogprob, ...] | None = None

    def joined(self, following: Delta) -> Delta:
        """This and the next part of the same completion as one."""
        logprobs = self.logprobs
        if following.logprobs is not None:
            logprobs = (logprobs or ()) + following.logprobs
        text, token_ids = self.text + following.text, self.token_ids + following.token_ids
        return Delta(self.index, text, token_ids, following.finish_reason, logprobs)


@dataclass(frozen=True, slots=True)
class Score:
    """How likely the model finds given tokens: `logprobs[i]` (nats) is that of `token_ids[i]` after all before it.

    is_greedy: whether each is the most likely token in its place; None where that was not asked for.
    """

    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    is_greedy: bool | None = None

    @property
    def total(self) -> float:
        """Log-probability of all tokens together."""
        return math.fsum(self.logprobs)

    @property
    def perplexity(self) -> float:
        """e to the mean negative log-probability."""
        return math.exp(-self.total / len(self.logprobs))
