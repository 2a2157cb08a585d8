"""What must hold before one question's answer may be given to another: each guard asks for one thing.

A guard is given the question asked and the question kept, both taken apart, and says why they differ, or None. All of
them must pass. `words` alone lets nothing through that the others would stop; they are there to say what is wrong, and
because a wrong answer is worse than the time for a second look.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from miaotui.answers.near.guards.code import same_code
from miaotui.answers.near.guards.dates import same_dates
from miaotui.answers.near.guards.language import same_language
from miaotui.answers.near.guards.names import same_names
from miaotui.answers.near.guards.negation import same_negation
from miaotui.answers.near.guards.numbers import same_numbers
from miaotui.answers.near.guards.order import same_order
from miaotui.answers.near.guards.question import same_question
from miaotui.answers.near.guards.units import same_units
from miaotui.answers.near.guards.words import same_words
from miaotui.answers.near.text import Text

Guard = Callable[[Text, Text], str | None]
Verdicts = Mapping[str, str | None]
"""What each guard said: a reason to refuse, or None."""

GUARDS: Final[Mapping[str, Guard]] = {
    "language": same_language,
    "code": same_code,
    "numbers": same_numbers,
    "units": same_units,
    "dates": same_dates,
    "names": same_names,
    "negation": same_negation,
    "question": same_question,
    "order": same_order,
    "words": same_words,
}


def verdicts(asked: Text, kept: Text, guards: Mapping[str, Guard] = GUARDS) -> dict[str, str | None]:
    """What every guard says; all are asked, so that a refusal can be explained fully."""
    return {name: guard(asked, kept) for name, guard in guards.items()}
