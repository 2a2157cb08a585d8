"""Cutting text into words by the patterns of a `PreTokenizer`.

The patterns need Unicode categories (`\\p{L}`), which Python's `re` lacks and `tokenizers` has, at about 2 µs per word.
For text that is plain ASCII the categories are short lists, so `re` does the same cuts ten times as fast, and a process
that meets nothing but ASCII never imports `tokenizers`. A property test holds the two equal.
"""

from __future__ import annotations

import re
from functools import cached_property
from typing import TYPE_CHECKING

from miaotui.formats.pretokenizers import PreTokenizer

if TYPE_CHECKING:
    from tokenizers.pre_tokenizers import PreTokenizer as UnicodePreTokenizer

# Unicode's general categories, cut down to ASCII and written for the inside of a [...] class.
_ASCII_MEMBERS = {
    "L": "A-Za-z",
    "Lu": "A-Z",
    "Ll": "a-z",
    "Lt": "",
    "Lm": "",
    "Lo": "",
    "M": "",
    "N": "0-9",
    "P": r"!\"#%&'()*,\-./:;?@\[\\\]_{}",
    "S": r"$+<=>\^`|~",
}
_PATTERN_PART = re.compile(r"\\p\{(\w+)\}|\\.|.", re.DOTALL)


def ascii_pattern(pattern: str) -> re.Pattern[str]:
    """The same pattern for `re`, right for ASCII text only."""
    parts: list[str] = []
    in_class = False
    for match in _PATTERN_PART.finditer(pattern):
        part, category = match.group(), match.group(1)
        if category is not None:
            members = _ASCII_MEMBERS[category]
            part = members if in_class else f"[{members}]"
        elif part == "[":
            in_class = True
        elif part == "]":
            in_class = False
        parts.append(part)
    return re.compile("".join(parts), re.ASCII)


def split_keeping_gaps(pattern: re.Pattern[str], text: str) -> list[str]:
    """Matches of `pattern` and what lies between them, in order; empty pieces are left out."""
    pieces: list[str] = []
    end = 0
    for match in pattern.finditer(text):
        if end < match.start():
            pieces.append(text[end : match.start()])
        end = match.end()
        if match.start() < end:
            pieces.append(match.group())
    if end < len(text):
        pieces.append(text[end:])
    return pieces


class WordSplitter:
    """Cuts text into the words that are merged separately; their concatenation is the text."""

    def __init__(self, rules: PreTokenizer) -> None:
        self._rules = rules

    def split(self, text: str) -> list[str]:
        """Words of `text`, which must not contain lone surrogates."""
        if text.isascii():
            pieces = [text]
            for pattern in self._ascii_patterns:
                pieces = [word for piece in pieces for word in split_keeping_gaps(pattern, piece)]
            return pieces
        return [word for word, _ in self._unicode.pre_tokenize_str(text)]

    @cached_property
    def _ascii_patterns(self) -> list[re.Pattern[str]]:
        return [ascii_pattern(pattern) for pattern in self._rules.patterns]

    @cached_property
    def _unicode(self) -> UnicodePreTokenizer:
        from tokenizers import Regex
        from tokenizers.pre_tokenizers import Sequence, Split

        return Sequence([Split(Regex(pattern), "isolated") for pattern in self._rules.patterns])
