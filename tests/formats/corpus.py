"""More than 2,000 lines of text, the same on every machine, that tokenizers find hard."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path

SEEDS: dict[str, list[str]] = json.loads(Path(__file__).with_name("corpus_seeds.json").read_text("utf-8"))
_MARKS = ["!", "?!", "...", "'s", "“", "，", "_", "/", "\\"]
_RANGES = [(0, 0x7F), (0x80, 0x24F), (0x250, 0x1FFF), (0x2000, 0x2BFF), (0x3000, 0x9FFF), (0xA000, 0xD7FF)]
_RANGES.append((0xE000, 0x1FFFF))


def _numbers(rng: random.Random) -> str:
    kind = rng.randrange(5)
    if kind == 0:
        return "".join(rng.choices("0123456789", k=rng.randrange(1, 25)))
    if kind == 1:
        return f"{rng.randrange(10**9):,} {rng.random():.6g} -{rng.random() * 1e9:.3e}"
    if kind == 2:
        return f"20{rng.randrange(99):02}-{rng.randrange(12):02}-{rng.randrange(31):02}T{rng.randrange(24)}:59:59.123Z"
    if kind == 3:
        return f"0x{rng.randrange(2**40):X} 1/{rng.randrange(99)} {rng.randrange(100)}% v{rng.randrange(9)}.1"
    return "".join(rng.choices("0123456789٠١٢३४५零一二１２３²½Ⅷ ", k=12))


def _soup(rng: random.Random) -> str:
    """Fragments of everything, joined by odd white space."""
    pools = [*(SEEDS[name] for name in ("words", "emoji", "special", "spaces", "strange")), [_numbers(rng)], _MARKS]
    chosen = [rng.choice(rng.choice(pools)) for _ in range(rng.randrange(1, 14))]
    return "".join(piece + rng.choice(["", "", " ", " ", rng.choice(SEEDS["spaces"])]) for piece in chosen)


def _characters(rng: random.Random) -> str:
    """Characters of any assigned or unassigned code point except surrogates."""
    return "".join(chr(rng.randint(*rng.choice(_RANGES))) for _ in range(rng.randrange(1, 30)))


def wikitext_file() -> Path:
    """Where WikiText-2 would be: in MIAOTUI_DATA or ../shared/data beside the repository."""
    folder = os.environ.get("MIAOTUI_DATA", Path(__file__).resolve().parents[2].parent / "shared" / "data")
    return Path(folder) / "wikitext2-test.raw"


def make_corpus(*, with_wikitext: bool = False) -> list[str]:
    """At least 2,000 texts, mostly of one line; 1,000 lines of WikiText-2 more on request, if the file is at hand."""
    rng = random.Random(20261121)
    lines = ["", " ", "a", *(seed for seeds in SEEDS.values() for seed in seeds)]
    sources = [SEEDS[name] for name in ("english", "chinese", "other_scripts", "code")]
    spaces, words = SEEDS["spaces"], SEEDS["words"]
    for _ in range(350):
        source = rng.choice(sources)
        parts = rng.choice(source).split(" ") if rng.random() < 0.5 else list(rng.choice(source))
        start = rng.randrange(len(parts))
        lines.append((" " if len(parts) < 40 else "").join(parts[start : start + rng.randrange(1, 30)]))
    seeds = [seed for source in sources for seed in source]
    lines += [rng.choice(seeds) + rng.choice(spaces) + rng.choice(seeds) for _ in range(350)]
    lines += [_numbers(rng) for _ in range(300)]
    lines += [_soup(rng) for _ in range(700)]
    lines += [_characters(rng) for _ in range(350)]
    lines += [rng.choice(spaces) * rng.randrange(1, 40) + rng.choice(words) for _ in range(100)]
    if with_wikitext and wikitext_file().is_file():
        lines += wikitext_file().read_text("utf-8").split("\n")[:1000]
    return lines
