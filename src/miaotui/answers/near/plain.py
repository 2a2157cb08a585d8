"""Questions in a language whose words are not known here: all of them count, in their order, as they are written."""

from __future__ import annotations

from miaotui.answers.near.text import Text
from miaotui.answers.near.tokens import Token, quoted


def analyse(raw: str, tokens: list[Token], language: str) -> Text:
    """Nothing is left out, so only case and punctuation may differ."""
    words = tuple(token.text for token in tokens)
    numbers = tuple(token.text for token in tokens if token.kind == "number")
    return Text(raw, language, words, words, numbers=numbers, quoted=quoted(raw))
