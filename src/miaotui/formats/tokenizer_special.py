"""Finding special tokens in text, before anything else: user-defined ones always, control ones on request."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

from miaotui.errors import TokenizerError

MAX_SPECIAL_CHARS = 256


class SpecialTokenFinder:
    """Cuts text at the leftmost, and there the longest, of some token texts.

    The time per character does not depend on the number of tokens (Gemma has 6,400 of them): a regular expression finds
    positions where one might begin, a dictionary of their first two characters tells which lengths are worth a look.
    """

    def __init__(self, ids: Mapping[str, int]) -> None:
        """`ids`: token text → id; empty texts are ignored. Raises TokenizerError for texts of absurd length."""
        self._ids = {text: id for text, id in ids.items() if text}
        if any(len(text) > MAX_SPECIAL_CHARS for text in self._ids):
            raise TokenizerError(
                f"the model's vocabulary is damaged: a special token is longer than {MAX_SPECIAL_CHARS} characters; "
                "download the model again or use another build."
            )
        self._texts = {id: text for text, id in self._ids.items()}
        self._firsts = {text[0] for text in self._ids}
        lengths: dict[str, set[int]] = {}
        for text in self._ids:
            lengths.setdefault(text[:2], set()).add(len(text))
        self._lengths = {prefix: sorted(found, reverse=True) for prefix, found in lengths.items()}
        self._start = _beginnings(lengths) if lengths else None

    def split(self, text: str) -> Iterator[str | int]:
        """Pieces of `text` in order: ids of found tokens, and the non-empty text between them."""
        if self._start is None:
            if text:
                yield text
            return
        done = 0
        position = 0
        while (match := self._start.search(text, position)) is not None:
            position = match.start()
            length = self._longest_at(text, position)
            if not length:
                position += 1
                continue
            if done < position:
                yield text[done:position]
            done = position + length
            yield self._ids[text[position:done]]
            position = done
        if done < len(text):
            yield text[done:]

    def broken_by(self, mark: str, text: str) -> str:
        """`text` without any of the tokens: `mark` stands after the first character of each.

        A text that ends with the beginning of a token gets a mark at its end, lest what is put behind it complete it.
        Tokens of one character cannot be broken and must not be among the tokens.
        """
        pieces = list(self.split(text))
        while any(isinstance(piece, int) for piece in pieces):  # breaking one may uncover another that overlaps it
            whole = (
                (self._texts[piece] if isinstance(piece, int) else piece, isinstance(piece, int)) for piece in pieces
            )
            text = "".join(part[0] + mark + part[1:] if is_token else part for part, is_token in whole)
            pieces = list(self.split(text))
        return text + mark if self._begins_at_end(text) else text

    def _begins_at_end(self, text: str) -> bool:
        for start in range(max(0, len(text) - MAX_SPECIAL_CHARS), len(text)):
            rest = text[start:]
            if text[start] in self._firsts and any(token.startswith(rest) for token in self._ids):
                return True
        return False

    def _longest_at(self, text: str, position: int) -> int:
        """Length of the longest token at `position`; 0 if there is none."""
        for size in (2, 1):
            for length in self._lengths.get(text[position : position + size], ()):
                if text[position : position + length] in self._ids:
                    return length
        return 0


def _beginnings(prefixes: Iterable[str]) -> re.Pattern[str]:
    """Finds positions where one of some prefixes of one or two characters might begin."""
    seconds: dict[str, set[str]] = {}
    for prefix in prefixes:
        seconds.setdefault(prefix[0], set()).add(prefix[1:])
    firsts: dict[str, str] = {}  # second characters → the first characters that they may follow
    for first, found in seconds.items():
        following = "" if "" in found else _one_of(found)
        firsts[following] = firsts.get(following, "") + first
    return re.compile(
        "|".join(_one_of(first) + (f"(?={second})" if second else "") for second, first in firsts.items())
    )


def _one_of(chars: Iterable[str]) -> str:
    return f"[{re.escape(''.join(sorted(chars)))}]"
