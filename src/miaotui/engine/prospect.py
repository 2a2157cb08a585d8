"""What an engine knows of a request before it takes it, and what whoever plans it may ask for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from miaotui.core import Plan, SamplingParams


@dataclass(frozen=True, slots=True)
class Load:
    """What an engine has to do already.

    num_answering: sequences that have a token in every step. num_reading: those with a place whose prompts are being
    read. num_waiting: those without a place. max_sequences: places.
    """

    num_answering: int = 0
    num_reading: int = 0
    num_waiting: int = 0
    max_sequences: int = 16

    @property
    def num_running(self) -> int:
        """Sequences with a place."""
        return self.num_answering + self.num_reading

    @property
    def num_unfinished(self) -> int:
        """All that are there."""
        return self.num_running + self.num_waiting


@dataclass(frozen=True, slots=True)
class Prospect:
    """A request as it stands before an engine.

    num_cached_tokens: of its prompt, in pages that others have filled. max_tokens: that it may say at most, whatever
    it asked for. num_tokens_before: of others' prompts, those that are read before or beside its own, for the shortest
    rest goes first. will_fill: whether nothing but max_tokens ends it. num_sequences: answers that it asks for.
    can_draft: whether tokens are guessed here.
    """

    num_prompt_tokens: int
    num_cached_tokens: int
    max_tokens: int
    load: Load
    num_tokens_before: int = 0
    will_fill: bool = False
    num_sequences: int = 1
    can_draft: bool = False


def fills(params: SamplingParams) -> bool:
    """Whether nothing in a request can end its answer before its tokens are used up."""
    ends = (params.structured_outputs, params.repetition_detection, params.stop_when)
    return params.ignore_eos and not (params.stop or params.stop_token_ids) and all(end is None for end in ends)


@dataclass(frozen=True, slots=True)
class Admission:
    """How a request is to be run. deadline_s: monotonic seconds at which it ends, with what was said by then.

    may_draft: whether tokens of it may be guessed.
    """

    plan: Plan | None = None
    deadline_s: float | None = None
    may_draft: bool = True


Admit = Callable[[Prospect], Admission]
"""Decides on a request between two steps, on the thread that steps; raises what its caller is to be told instead."""
