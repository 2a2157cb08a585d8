"""What is asked in a simulation: a trace's arrivals and lengths, some asked before, and the truth about each."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

DRAFT_GAINS: Mapping[str, float] = {
    "extraction": 1.92, "translation": 1.67, "rag": 1.59, "summarization": 1.44, "roleplay": 1.22, "math": 1.10,
    "reasoning": 1.10, "stem": 1.10, "coding": 1.12, "qa": 1.12, "writing": 1.12, "humanities": 1.07,
}  # fmt: skip
"""How many times as fast drafts make one answer by Spec-Bench's categories, measured with SmolLM2 (decision 0024)."""
GAIN_SPREAD = 0.08
"""Of single prompts around that, as a standard deviation of logarithms."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """A request of a trace: seconds since its first one, and lengths in tokens."""

    arrival_s: float
    prompt_tokens: int
    output_tokens: int


@dataclass(frozen=True, slots=True)
class Question:
    """A request and the truth about it, of which a policy sees the first four fields alone.

    text: equal ones are the same question. meaning: equal ones would do with the same answer. near_passes: whether
    the guards let an answer to another question of that meaning pass. draft_gain: how many times as fast drafts make
    it on an idle machine. noise: how many times the expected time everything about it takes.
    """

    number: int
    arrival_s: float
    prompt_tokens: int
    output_tokens: int
    text: int
    meaning: int
    near_passes: bool = False
    draft_gain: float = 1.0
    noise: float = 1.0


@dataclass(frozen=True, slots=True)
class Mix:
    """Shares of what is asked again in the same words, and in others; how many of the latter the guards let pass;
    categories by weight; and the spread of times that nothing explains, as a standard deviation of logarithms."""

    repeated: float = 0.3
    reworded: float = 0.1
    near_passes: float = 0.7
    categories: Mapping[str, float] | None = None
    noise: float = 0.15


def questions_of(arrivals: Sequence[Arrival], mix: Mix, seed: int) -> list[Question]:
    """A trace's requests as questions; the same for the same seed. Who repeats takes the lengths of whom it repeats."""
    dice = random.Random(f"questions {seed}")  # noqa: S311 (a simulation)
    weights = mix.categories or dict.fromkeys(DRAFT_GAINS, 1.0)
    names = list(weights)
    found: list[Question] = []
    for number, one in enumerate(arrivals):
        gain = DRAFT_GAINS.get(dice.choices(names, [weights[name] for name in names])[0], 1.1)
        question = Question(
            number,
            one.arrival_s,
            one.prompt_tokens,
            one.output_tokens,
            text=number,
            meaning=number,
            draft_gain=gain * dice.lognormvariate(0, GAIN_SPREAD),
            noise=dice.lognormvariate(0, mix.noise),
        )
        fate, earlier, passes = dice.random(), dice.random(), dice.random() < mix.near_passes
        if found and fate < mix.repeated + mix.reworded:
            model = found[int(earlier * len(found))]
            question = replace(
                question,
                prompt_tokens=model.prompt_tokens,
                output_tokens=model.output_tokens,
                meaning=model.meaning,
                draft_gain=model.draft_gain,
                text=model.text if fate < mix.repeated else number,
                near_passes=model.near_passes if fate < mix.repeated else passes,
            )
        found.append(question)
    return found
