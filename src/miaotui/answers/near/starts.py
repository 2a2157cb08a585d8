"""Which capitals at the beginning of a sentence are there for the sentence's sake alone."""

from __future__ import annotations

from typing import Final

from miaotui.answers.near.vocabulary import words

# No names, and no others of their letters; all others ("Rust", "Polish", "Turkey") may be names there as elsewhere.
_STARTERS: Final = words(
    """
        what which who whom whose where when why how is are am was were do does did has have had can could would should
        shall must if whether the an in on at for from to by with of and or but not no please explain describe convert
        translate write give list tell define compare calculate compute find there these those my your our their
        what's who's where's when's why's how's whats whos wheres hows there's
        isn't aren't wasn't weren't don't doesn't didn't hasn't haven't hadn't can't couldn't wouldn't shouldn't
        isnt arent wasnt dont doesnt didnt hasnt havent couldnt wouldnt shouldnt
        """
)
_NAMES_TOO: Final = words("will may")  # "Will Smith"


def plain_start(word: str, behind: str) -> str:
    """The first word of a sentence in small letters where that is the same word. behind: the word after it, or ""."""
    small = word.lower()
    if word != small.capitalize():
        return word
    return small if small in _STARTERS or (small in _NAMES_TOO and behind[:1].islower()) else word
