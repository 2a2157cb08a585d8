"""Code, formulas and quotations: one character changes what they mean, so they must agree in each."""

from __future__ import annotations

import re
from typing import Final

from miaotui.answers.near.text import Text

_CODE: Final = re.compile(
    r"[`\"“”„«»「」『』]|[{}<>=]|\w\(|\)\.|::|->|;\s*$|\b\w+_\w+\b|\\|\$[A-Za-z]|[|&^~]|https?://", re.MULTILINE
)


def same_code(asked: Text, kept: Text) -> str | None:
    """Refuse any difference where one of the questions holds code, a formula, a quotation or an address.

    White space counts there, too: it is part of strings and of Python.
    """
    if asked.raw.strip() == kept.raw.strip():
        return None
    if _CODE.search(asked.raw) or _CODE.search(kept.raw):
        return "code, a formula, a quotation or an address: they must agree in every character"
    return None
