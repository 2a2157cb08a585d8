"""A question as the guards see it: what it says, in one form, and all that could make it another question."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Text:
    """A question taken apart. Two questions with equal terms ask for the same answer; the rest says how others differ.

    terms: all of it, in order: words in one form, numbers as `#5`, units as `~km`, signs. Only what is known to change
    nothing is left out, and only where it changes nothing.
    numbers, units, dates: in order. units: those of the numbers ("" for none), then those that stand alone.
    names: terms that are written as names. negations: each with the term behind it. moods: was, will, can, should, ….
    persons: who is spoken of. questions: the question words, or "whether" for yes and no, in order.
    words: all words as they are written, in small letters; how far they differ is evidence, not a verdict.
    """

    raw: str
    language: str
    terms: tuple[str, ...]
    words: tuple[str, ...] = ()
    numbers: tuple[str, ...] = ()
    units: tuple[str, ...] = ()
    dates: tuple[str, ...] = ()
    names: frozenset[str] = frozenset()
    negations: tuple[str, ...] = ()
    moods: frozenset[str] = frozenset()
    persons: frozenset[str] = frozenset()
    questions: tuple[str, ...] = ()


def negations_of(terms: tuple[str, ...], denying: frozenset[str]) -> tuple[str, ...]:
    """Each word that denies, with the term behind it."""
    ends = (*terms, "")
    return tuple(f"{term} {ends[index + 1]}".strip() for index, term in enumerate(terms) if term in denying)
