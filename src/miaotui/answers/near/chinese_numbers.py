"""Numbers in Chinese numerals, read only where they are written out in full."""

from __future__ import annotations

from typing import Final

from miaotui.answers.near.chinese_words import NUMERALS, SCALES

_DIGITS: Final = "零一二三四五六七八九"
_LONGEST: Final = 16  # signs; longer ones are no number that people write


def value_of(numeral: str) -> str | None:
    """ "一百二十" as "120", "二〇一六" as "2016"; None for what can be read in two ways: 三千五, 一万二, 三四, 七八."""
    plain = numeral.replace("两", "二").replace("〇", "零")
    if len(plain) > _LONGEST:
        return None
    if not any(sign in SCALES for sign in plain):
        is_plain = len(plain) == 1 or (len(plain) >= 4 and len(plain) == len(numeral))
        return "".join(str(NUMERALS[sign]) for sign in plain) if is_plain else None
    value = _added(plain)
    whole = "一" + plain if plain.startswith("十") else plain
    return str(value) if _written(value) == whole else None


def _added(numeral: str) -> int:
    total = part = digit = 0
    for sign in numeral:
        if sign in NUMERALS:
            digit = NUMERALS[sign]
        elif SCALES[sign] >= 10**4:
            total, part, digit = (total + part + digit) * SCALES[sign], 0, 0
        else:
            part, digit = part + (digit or 1) * SCALES[sign], 0
    return total + part + digit


def _written(value: int) -> str:
    """The one full way to write a number below a hundred million; empty for others."""
    if value >= 10**8:
        return ""
    high, low = divmod(value, 10**4)
    if high == 0:
        return _section(low)
    gap = "零" if 0 < low < 1000 else ""
    return _section(high) + "万" + gap + _section(low)


def _section(value: int) -> str:
    text, gap = "", False
    for scale, sign in ((1000, "千"), (100, "百"), (10, "十"), (1, "")):
        digit, value = divmod(value, scale)
        if digit:
            text += ("零" if gap else "") + _DIGITS[digit] + sign
        gap = bool(text) and not digit
    return text
