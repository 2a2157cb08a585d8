"""Questions in a language whose words are not known here: all of them count, in their order, as they are written."""

from __future__ import annotations

from miaotui.answers.near.text import Text
from miaotui.answers.near.tokens import Token


def analyse(raw: str, tokens: list[Token], language: str) -> Text:
    """Only white space and the mark at the end may differ: in German a capital makes another word."""
    terms = tuple(token.text for token in tokens)
    numbers = tuple(token.text for token in tokens if token.kind == "number")
    return Text(
        raw, language, terms, tuple(token.text.lower() for token in tokens if token.kind != "sign"), numbers=numbers
    )
