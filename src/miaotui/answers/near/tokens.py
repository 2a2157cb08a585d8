"""Text cut into words, numbers and signs, the same for every language. Nothing but white space is dropped."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import Final

# In order of precedence. Dots inside initials belong to the word (U.S.); any other character is a sign of its own.
_TOKEN: Final = re.compile(
    r"""
    (?P<han>[\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff])
  | (?P<number>\d+(?:[.,]\d+)*)
  | (?P<word>(?:[^\W\d_]\.){2,}(?:[^\W\d_](?![^\W_]))?
        |[^\W\d_](?:(?![\u3400-\u9fff])[^\W_]|[\u0300-\u036f]|'(?=[^\W\d_]))*)
  | (?P<sign>\S)
    """,
    re.VERBOSE,
)
_GROUPED: Final = re.compile(r"[1-9][0-9]{0,2}(?:,[0-9]{3})+(?:\.[0-9]+)?")
# Full-width letters, digits and signs are the plain ones; no other folding, which would make 52 of 5².
_FOLDED: Final = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)} | {0x3000: 0x20}
_APOSTROPHES: Final = dict.fromkeys(map(ord, "’‘‛ʼ"), "'")


@dataclass(frozen=True, slots=True)
class Token:
    """A word, number or sign, as it is written. starts: whether a sentence begins with it; apart: whether white space
    stands before it.

    A sign's text begins with a space where it belongs to what follows ("x -y") and not to both ("x - y", "x-y").
    """

    kind: str
    text: str
    starts: bool = False
    apart: bool = True


def folded(raw: str) -> str:
    """Composed characters (NFC), full-width ones plain, one kind of apostrophe."""
    return unicodedata.normalize("NFC", raw).translate(_FOLDED).translate(_APOSTROPHES)


def tokenize(raw: str) -> list[Token]:
    """The tokens of a text, in order, without question marks or one full stop at its end."""
    text = folded(raw)
    tokens: list[Token] = []
    starts = True
    for match in _TOKEN.finditer(text):
        kind, piece = str(match.lastgroup), match.group()
        apart = match.start() == 0 or text[match.start() - 1].isspace()
        if kind == "number" and _GROUPED.fullmatch(piece):
            piece = piece.replace(",", "")
        if kind == "sign" and apart and not text[match.end() :][:1].isspace():
            piece = " " + piece
        tokens.append(Token(kind, piece, starts, apart))
        starts = piece in (".", "?", "!", "。")
    return _without_end(tokens)


def _without_end(tokens: list[Token]) -> list[Token]:
    """ "!" stays: 5! is not 5. So does a mark that stands alone: it may be an operator that is asked about."""
    end = len(tokens)
    while end > 1 and tokens[end - 1].text == "?":
        end -= 1
    if end > 1 and tokens[end - 1].text in (".", "。"):
        end -= 1
    behind_word = end < len(tokens) and not tokens[end].apart and tokens[end - 1].kind != "sign"
    closed = end < len(tokens) and not tokens[end].apart and tokens[end - 1].text in (")", "]", '"', "”", "'")
    return tokens[:end] if behind_word or closed else tokens
