"""Real questions with one thing changed that matters, by rules that know nothing of the guards' word lists."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence

AUXILIARIES = r"\b(is|are|was|were|do|does|did|can|could|will|would|should|have|has)\b"
UNITS = [
    ("km", "miles"),
    ("kg", "pounds"),
    ("hours", "minutes"),
    ("dollars", "rupees"),
    ("years", "months"),
    ("GB", "MB"),
]


def natural_swaps(questions: Sequence[str], seed: int = 5) -> list[tuple[str, str, str]]:
    """(kind, question, changed question), as many as the rules find."""
    dice = random.Random(seed)
    names = sorted({name for question in questions for name in re.findall(r"(?<=[a-z] )[A-Z][a-z]{3,}", question)})
    rules: dict[str, Callable[[str], str | None]] = {
        "negation": lambda text: _first(AUXILIARIES, lambda word: f"{word} not", text),
        "number": lambda text: _first(r"\b\d+\b", lambda word: str(int(word) + dice.choice((-1, 1, 10))), text),
        "entity": lambda text: _first(
            r"(?<=[a-z] )[A-Z][a-z]{3,}", lambda word: dice.choice([name for name in names if name != word]), text
        ),
        "unit": lambda text: _unit(text, dice),
        "order": _turned,
        "direction": _redirected,
    }
    swaps = [(kind, text, rule(text)) for kind, rule in rules.items() for text in questions]
    return [(kind, text, changed) for kind, text, changed in swaps if changed is not None and changed != text]


def _first(pattern: str, change: Callable[[str], str], text: str) -> str | None:
    match = re.search(pattern, text)
    return text[: match.start()] + change(match[0]) + text[match.end() :] if match else None


def _unit(text: str, dice: random.Random) -> str | None:
    for pair in UNITS:
        for one, other in (pair, pair[::-1]):
            if re.search(rf"\b{one}\b", text):
                return re.sub(rf"\b{one}\b", other, text, count=1)
    one, other = dice.choice(UNITS)
    return f"{text.rstrip('?. ')} within 5 {one}?" if text.endswith("10?") else None


def _turned(text: str) -> str | None:
    """Two names, or the words around "than", "to", "or", "from", change places."""
    match = re.search(r"\b([A-Z]\w+)( (?:than|to|or|from|with|over|against|by|before|after|into) )([A-Z]\w+)", text)
    match = match or re.search(r"\b(\w{5,})( (?:than|from|over|against|into|before|after) )(\w{5,})\b", text)
    if match is None or match[1].lower() == match[3].lower() or match[1] in ("How", "What", "Get"):
        return None
    return text[: match.start()] + match[3] + match[2] + match[1] + text[match.end() :]


def _redirected(text: str) -> str | None:
    there = (
        "from",
        "before",
        "up",
        "off",
        "with",
        "more",
        "increase",
        "reduce",
        "best",
        "gain",
        "buy",
        "under",
        "first",
        "old",
    )
    back = (
        "to",
        "after",
        "down",
        "on",
        "without",
        "less",
        "decrease",
        "increase",
        "worst",
        "lose",
        "sell",
        "over",
        "last",
        "new",
    )
    pairs = dict(zip([*there, *back], [*back, *there], strict=True))
    return _first(rf"\b({'|'.join(pairs)})\b", lambda word: pairs[word], text)
