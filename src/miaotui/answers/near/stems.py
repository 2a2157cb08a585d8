"""English words without the endings that do not change what is asked: plural, possessive and -ing."""

from __future__ import annotations

import re
from typing import Final

from miaotui.answers.near.english_words import IRREGULAR, NO_GERUND, NO_PLURAL

_VOWEL: Final = re.compile("[aeiouy]")
_ONE_SYLLABLE: Final = re.compile("[^aeiouy]*[aeiouy][^aeiouwxy]")
_DOUBLED: Final = re.compile(r".*([bdgmnprt])\1")
# Before -ing these had an e: dancing, solving, queueing aside; changing is left as it is, for hanging.
_HAD_E: Final = re.compile(".*(?:[cvzu]|[bdgkptz]l|[aeiou]s|[nr]s|iz|[^aeiou]at|[aeiou]r?g)")


def stem(word: str) -> str:
    """One form for a word's forms. Past forms keep theirs: "closed" is not "close"."""
    if word in IRREGULAR:
        return IRREGULAR[word]
    if word.endswith("'s"):
        word = word[:-2]
    word = word.rstrip("'")
    if word in NO_PLURAL or len(word) < 4:
        return word
    if word.endswith("s"):
        return _singular(word)
    return _without_ing(word) if word.endswith("ing") and word not in NO_GERUND else word


def _singular(word: str) -> str:
    if word.endswith(("ss", "us", "is")):
        return word
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    if word.endswith(("ches", "shes", "sses", "xes", "zes")):
        return word[:-2]
    return word[:-1]


def _without_ing(word: str) -> str:
    base = word[:-3]
    if not _VOWEL.search(base):
        return word
    if _DOUBLED.fullmatch(base):
        return base[:-1]
    if len(base) > 1 and (_ONE_SYLLABLE.fullmatch(base) or _HAD_E.fullmatch(base)):
        return base + "e"
    return base
