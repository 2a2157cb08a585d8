"""What each model answers to the user's prompts, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from miaotui.compress.compare.candidate import Candidate, Step, Written


@dataclass(frozen=True, slots=True)
class Answer:
    """One model's answer. agrees: characters that it has in common with the first model's, from the beginning."""

    text: str
    has_ended: bool
    agrees: int
    is_same: bool


def answers_of(
    candidates: Sequence[Candidate], prompts: Sequence[str], *, most: int, step: Step = lambda name, done, total: None
) -> list[list[Answer]]:
    """For each prompt, each candidate's most likely answer of at most so many tokens."""
    written: list[list[Written]] = []
    for at, candidate in enumerate(candidates):
        step(candidate.name, at, len(candidates))
        with candidate.open() as model:
            written.append(model.write([model.ask(prompt) for prompt in prompts], most=most))
    step("", len(candidates), len(candidates))
    return [[_answer(own[at], written[0][at]) for own in written] for at in range(len(prompts))]


def _answer(own: Written, first: Written) -> Answer:
    same = own.text == first.text and own.has_ended == first.has_ended
    return Answer(own.text, own.has_ended, common_prefix(own.text, first.text), same)


def common_prefix(a: str, b: str) -> int:
    """Characters that both begin with."""
    at = 0
    for x, y in zip(a, b, strict=False):
        if x != y:
            break
        at += 1
    return at
