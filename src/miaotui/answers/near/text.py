"""A question as the guards see it: what it is about, in one form, and all that could make it another question."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Text:
    """A question taken apart. Two questions with equal parts ask for the same answer.

    terms: what it is about, in order: words in one form, numbers as `#5`, signs; words that say nothing are left out.
    numbers, units, dates: in order. units: those of the numbers ("" for none), then those that stand alone.
    names: terms that are written as names. negations: each with the term behind it. moods: was, will, can, should, ….
    persons: who is spoken of, "i" or "you". questions: the question words, or "whether" for yes and no, in order.
    links: places in terms where of, in, on, at or for stood, in front of the term.
    quoted: what stands in quotation marks, which is meant as it is written.
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
    links: tuple[int, ...] = ()
    quoted: tuple[str, ...] = ()


@dataclass(slots=True)
class Parts:
    """What is collected of a `Text` on the way through a question, in any language."""

    terms: list[str] = field(default_factory=list)
    dates: list[str] = field(default_factory=list)
    names: set[str] = field(default_factory=set)
    questions: list[str] = field(default_factory=list)
    moods: set[str] = field(default_factory=set)
    persons: list[str] = field(default_factory=list)
