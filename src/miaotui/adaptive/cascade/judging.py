"""Whether an answer is the one that was wanted."""

from __future__ import annotations

import unicodedata


def normalized(text: str) -> str:
    """A text without what changes no answer: case, spaces around and between, quotes, the final full stop."""
    plain = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(plain.split()).strip(" \"'`*.!。")


def is_right(said: str, wanted: str) -> bool:
    """Whether both say the same."""
    return normalized(said) == normalized(wanted)
