"""What one step does, in the numbers that its time depends on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from miaotui.engine.scheduler import Slice

ATTENTION_UNIT = 1024
"""Pairs of tokens are counted in thousands."""


@dataclass(frozen=True, slots=True)
class StepWork:
    """Tokens that a step reads, of how many of them logits are wanted, and what attention has to look at.

    num_answers: sequences of which it reads one token. num_drafted: tokens that were guessed. num_prompt_tokens: all
    others. num_pairs: over all tokens, how many tokens each looks back at, in units of 1,024. num_draftable: of the
    answers, those for which tokens may be guessed. num_said: tokens that came of the answers. Where a grammar decides
    what comes, an answer says one token and is none that may be guessed for: others follow without having been read.
    drafting_s: seconds that guessing took, before the step.
    """

    num_answers: int
    num_prompt_tokens: int = 0
    num_drafted: int = 0
    num_logit_rows: int = 0
    num_pairs: float = 0.0
    num_draftable: int = 0
    num_said: float = 0.0
    drafting_s: float = 0.0

    @property
    def num_tokens(self) -> int:
        """All that the step reads."""
        return self.num_answers + self.num_prompt_tokens + self.num_drafted


def work_of_step(slices: Iterable[Slice], num_said: int = 0, drafting_s: float = 0.0) -> StepWork:
    """The work of a step whose sequences have gone on already by what it read.

    num_said: tokens of those that no grammar decides about. drafting_s: see `Scheduler.drafting_s`.
    """
    num_answers = num_prompt_tokens = num_drafted = num_logit_rows = num_pairs = num_draftable = 0
    for part in slices:
        num_read, end = part.num_read, part.sequence.num_computed_tokens
        if num_read == 1:
            num_answers += 1
            if part.sequence.constraint is not None:
                num_said += 1
            else:
                num_draftable += part.sequence.may_draft and part.sequence.request.sampling.drafting
        else:
            num_prompt_tokens += num_read
        num_drafted += len(part.draft)
        num_logit_rows += part.num_logit_rows
        num_pairs += part.num_tokens * (2 * end - part.num_tokens)
    pairs = num_pairs / (2 * ATTENTION_UNIT)
    return StepWork(
        num_answers,
        num_prompt_tokens,
        num_drafted,
        num_logit_rows,
        pairs,
        num_draftable,
        float(num_said),
        drafting_s,
    )
