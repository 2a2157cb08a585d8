"""Where a text has named one of some choices, found as the text comes: for answers that are a choice without a grammar.

Models name their choice at the very beginning ("B) Paris", "positive.") or behind words that announce it ("The answer
is (B)", 答案是B). Anywhere else a choice may be thought about rather than chosen, and the text goes on. What announces
a choice, and the brackets around it, follow what evaluations look for (lm-evaluation-harness, simple-evals).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

OPENING = r"[\s:：=*_\"'`(\[{（“‘「<]{0,16}"
ANNOUNCED = re.compile(
    rf"(?P<word>\b(?:answer|choice\s{{1,4}}is)\b|答案|选)(?:\s{{1,4}}is\b|[是为]|择)?{OPENING}", re.IGNORECASE
)
FIRST = re.compile(OPENING)
CLOSING = re.compile(r"[)\]}\"'*_`）”’」>]{0,8}")
NEXT = re.compile(r"[ ,，]{1,8}([^\W_]{0,16})")
LONGEST_ANNOUNCEMENT = 48
"""Signs that announce a choice, blanks and brackets included."""
WORDS_OF_ANNOUNCEMENT = 16
"""Signs of its words: with fewer there, more may turn an "answer" into an "answer is"."""
LONGEST_BEHIND = 48
"""Signs that are looked at behind a choice before it counts."""
MOST_BLANKS = 8
"""Blanks behind a choice that stands alone, before the text ends."""
OTHERS_FOLLOW = frozenset({"or", "and", "nor", "to"})
WORDS = frozenset({"a", "i", "o"})
"""Choices of one letter that are words, too: what stands behind them must be more than a blank."""


@dataclass(frozen=True, slots=True)
class _Named:
    """choice: its number; end: signs from where it was looked for up to its end, closing brackets included."""

    choice: int
    end: int


class ChoiceEnd:
    """Watches a text for the choice that it names.

    Choices of one sign are compared as they are, longer ones whatever their case. A choice counts once no longer one
    can come of it and nothing behind it takes it back ("A or B", "3.5" for "3"); closing brackets and quotes behind it
    belong to the answer.

    Each sign is folded once, and of all places where a choice may stand only the first that is open is looked at again.
    """

    def __init__(self, choices: Sequence[str]) -> None:
        self._wanted: dict[str, list[tuple[int, str]]] = {}  # by first sign, folded; the longest first
        for number, choice in sorted(enumerate(choices), key=lambda one: -len(one[1])):
            folded = _folded(choice)
            self._wanted.setdefault(folded[0], []).append((number, choice if len(choice) == 1 else folded))
        self._texts = {text.casefold() for text in choices}
        longest = max(map(len, choices))
        self._keep = LONGEST_ANNOUNCEMENT + longest + LONGEST_BEHIND
        self._names = tuple(choices)
        self._text = self._folded = ""  # the end of what came
        self._num_before = 0  # signs before it
        self._from = 0  # in `_text`: where an announcement may begin that has not been looked at
        self._is_first = True
        self._undecided = 0
        self._is_over = False
        self.end: int | None = None
        self.reason = ""

    def push(self, text: str) -> int:
        """How many signs at the end of all text so far may turn out to lie behind the end; sets `end` once it is known.

        end: the number of signs of the whole answer; reason: the choice. Nothing may be pushed behind it.
        """
        for begin in range(0, len(text), LONGEST_BEHIND):  # so that all of what is kept has been looked at
            piece = text[begin : begin + LONGEST_BEHIND]
            self._text += piece
            self._folded += _folded(piece)
            self._undecided = self._look()
            if self.end is not None:
                return 0
            self._forget()
        return self._undecided

    def finish(self, *, cut: bool) -> None:
        """What was undecided because more might have come is decided by nothing coming; not where it was cut off."""
        if not cut:
            self._is_over = True
            self._look()

    def _forget(self) -> None:
        """What can no longer be part of an announcement or a choice."""
        cut = max(len(self._text) - self._keep, 0)
        if cut:
            self._text, self._folded = self._text[cut:], self._folded[cut:]
            self._num_before += cut
            self._from = max(self._from - cut, 0)

    def _look(self) -> int:
        """At places where a choice may stand, in order; how many signs are undecided at the first that is."""
        if self._is_first:
            match = FIRST.match(self._text)
            at = match.end() if match else 0
            if at == len(self._text):
                return 0
            named = self._named(at, first=True)
            if named is None:
                self._is_first = False
            else:
                return self._decide(named, at, len(self._text) - at)
        while (found := ANNOUNCED.search(self._text, self._from)) is not None:
            left = len(self._text) - found.end("word")
            named = self._named(found.end(), first=False)
            if named is not None:
                return self._decide(named, found.end(), left)
            if len(self._text) - found.start() < WORDS_OF_ANNOUNCEMENT and not self._is_over:
                return left
            self._from = found.start() + 1
        self._from = max(self._from, len(self._text) - LONGEST_ANNOUNCEMENT)
        return 0

    def _decide(self, named: _Named | int, at: int, left: int) -> int:
        """Take a choice, or say how many signs are left that cannot be told yet."""
        if isinstance(named, int):
            return left
        self.end = self._num_before + at + named.end
        self.reason = self._names[named.choice]
        return 0

    def _named(self, at: int, *, first: bool) -> _Named | int | None:
        """The choice that stands there; 0: it cannot be told yet; None: none does."""
        here, folded = self._text[at:], self._folded[at:]
        if not here:
            return None if self._is_over else 0
        for number, wanted in self._wanted.get(folded[0], ()):
            if (here if len(wanted) == 1 else folded).startswith(wanted):
                told = self._behind(here, self._names[number], first=first)
                if told is not None:
                    return _Named(number, told) if told else 0
            elif len(folded) < len(wanted) and wanted.startswith(folded) and not self._is_over:
                return 0  # and shorter ones have to wait for it
        return None

    def _behind(self, here: str, choice: str, *, first: bool) -> int | None:
        """Where the choice ends that stands at the beginning; 0: it cannot be told yet; None: it is none."""
        size = len(choice)
        closing = CLOSING.match(here, size)
        end = closing.end() if closing else size
        if self._is_over and not here[end:].strip():
            return end
        if end == len(here) and end - size < 8:
            return 0
        sign = here[end : end + 1]
        if end > size:
            quoted = here[end - 1] in "'’_"
            return None if quoted and (sign.isalnum() or sign == "_") else end
        if sign.isalnum() and not _is_apart(choice[-1], sign):
            return None
        if sign in "-/&+%°":
            return None
        if sign in ".,:" and choice[-1].isdigit():
            follows = here[end + 1 : end + 2]
            if not follows and not self._is_over:
                return 0
            if follows.isdigit():
                return None
        if sign not in " ,，":
            return end
        if sign == " " and (first or choice.casefold() in WORDS):
            return None if here[end:].strip() or len(here) - end > MOST_BLANKS else 0
        behind = NEXT.match(here, end)
        if behind is None or (behind.end() == len(here) and len(behind[0]) < 24 and not self._is_over):
            return 0
        word = behind[1].casefold()
        return None if word in OTHERS_FOLLOW or word in self._texts else end


def _folded(text: str) -> str:
    """In small letters, as many signs as before."""
    return "".join(sign.lower() if len(sign.lower()) == 1 else sign for sign in text)


def _is_apart(sign: str, following: str) -> bool:
    """Whether two letters without a blank between are of different scripts: B是, 是B."""
    return sign.isascii() != following.isascii()
