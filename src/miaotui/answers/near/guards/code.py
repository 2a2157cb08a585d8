"""Code, formulas and quotations: one character changes what they mean, so they must agree in each."""

from __future__ import annotations

import re
from typing import Final

from miaotui.answers.near.text import Text

_CODE: Final = re.compile(
    r"`|[{}<>=]|\w\((?!s\))|\)\.|::|->|;\s*$|\b\w+_\w+\b|\\|\$[A-Za-z]|[|&^~]|https?://", re.MULTILINE
)


def same_code(asked: Text, kept: Text) -> str | None:
    """Refuse any difference but of white space where one of the questions holds code, a formula or an address.

    What both quote must be equal too; what only one puts in quotation marks, the other must say as well.
    """
    if asked.raw.split() == kept.raw.split():
        return None
    if _CODE.search(asked.raw) or _CODE.search(kept.raw):
        return "code, a formula or an address: they must agree in every character"
    for these, others in ((asked, kept), (kept, asked)):
        text = " ".join(others.words)
        for quotation in these.quoted:
            if quotation not in others.quoted and " ".join(_words(quotation)) not in text:
                return f"only one of them quotes {quotation!r}"
    return None


def _words(text: str) -> list[str]:
    return re.findall(r"[^\W_]+(?:'[^\W_]+)*", text)
