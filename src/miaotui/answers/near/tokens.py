"""Text cut into words, numbers and signs, the same for every language; what separates them is dropped."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import Final

# In order of precedence. Dots inside initials belong to the word (U.S., B.Tech), as do signs of names (C++, C#, .NET).
_TOKEN: Final = re.compile(
    r"""
    (?P<han>[\u3400-\u9fff\uf900-\ufaff])
  | (?P<number>(?<!\w)-?\d+(?:,\d{2,3})+(?:\.\d+)?(?!\d)|(?:(?<!\w)-)?\d+(?:\.\d+)?)
  | (?P<word>\.?(?:[^\W\d_]\.){1,3}[^\W\d_]*(?![^\W\d_])|\.[nN][eE][tT]\b
        |[^\W\d_](?:(?![\u3400-\u9fff])[^\W_]|[\u0300-\u036f]|'(?=[^\W\d_]))*(?:\+\+|\#)?)
  | (?P<end>[.?!。？！\n]+)
  | (?P<between>(?<=\d)\s?[-–/:*×÷]\s?(?=\d)|(?<=\s)[-–/*](?=\s))
  | (?P<sign>[^\w\s.,;:?!'"()\[\]{}/\\\-–—…“”‘’«»、，；：（）《》「」【】·`_])
    """,
    re.VERBOSE,
)
_APOSTROPHES: Final = str.maketrans(dict.fromkeys("’‘‛ʼ´`＇", "'"))
_QUOTED: Final = re.compile(r"""[“”"「『《]+([^“”"「」『』《》]+)[“”"」』》]+|(?<!\w)['‘]([^'’]+)['’](?!\w)""")


@dataclass(frozen=True, slots=True)
class Token:
    """A word, number or sign. text: in small letters; as_written: not so; starts: whether a sentence begins with it."""

    kind: str
    text: str
    as_written: str
    starts: bool


def tokenize(raw: str) -> list[Token]:
    """The tokens of a text, in order, after Unicode's compatibility composition (full-width letters become plain)."""
    tokens: list[Token] = []
    starts = True
    composed = unicodedata.normalize("NFKC", raw).translate(_APOSTROPHES)
    for match in _TOKEN.finditer(composed.replace("(s)", "s")):
        kind, text = str(match.lastgroup), match.group().strip()
        if kind == "end":
            starts = True
            continue
        if kind == "word" and "." in text[1:]:
            text = text.replace(".", "")
        tokens.append(Token(kind, text.casefold(), text, starts))
        starts = False
    return tokens


def quoted(raw: str) -> tuple[str, ...]:
    """What a text has in quotation marks, in small letters, sorted."""
    found = (match[1] or match[2] for match in _QUOTED.finditer(unicodedata.normalize("NFKC", raw)))
    return tuple(sorted(" ".join(text.casefold().split()) for text in found))
