"""Recipes: options of `miaotui compress` under a name, or in a TOML file."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path

from miaotui.errors import ConfigError

RECIPES: Mapping[str, Mapping[str, str | int | float | bool]] = {
    "small": {"method": "gptq", "mix": "q4_0,iq4_nl,q4_1,q5_0,q5_1,q6_k,q8_0", "max-kl": 0.1},
    "balanced": {"method": "gptq", "mix": "iq4_nl,q4_1,q5_0,q5_1,q6_k,q8_0", "max-kl": 0.03},
    "fast": {"method": "gptq", "mix": "q4_0,iq4_nl,q4_1,q5_0,q6_k,q8_0", "max-kl": 0.1, "prefer": "speed"},
}
"""small: the fewest bytes that lose at most 0.1 nats a token; balanced: 0.03; fast: the most tokens/s at 0.1."""
IN_FILES = frozenset({
    "type", "method", "tokens", "mix", "budget-mb", "max-kl", "min-speedup", "prefer", "fold", "rotate", "low-rank",
    "rank-correction", "adapter", "prune-layers", "prune-width", "keep-kv-heads", "mask", "separable",
})  # fmt: skip
"""What a file may decide. It may come from somebody else, so it names no files and overwrites nothing."""
MAX_FILE_BYTES = 64 << 10

Options = Mapping[str, str | int | float | bool]


def read_recipe(name: str) -> Options:
    """Options by name, without dashes in front. Raises ConfigError for what is neither a recipe nor a file of one."""
    if name in RECIPES:
        return RECIPES[name]
    path = Path(name)
    if path.suffix != ".toml":
        raise ConfigError(f"{name!r:.60} is no recipe; choose {', '.join(RECIPES)}, or give a .toml file of options.")
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise ConfigError(f"{path}: is no recipe: more than {MAX_FILE_BYTES} bytes.")
        found = tomllib.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f'{path}: cannot be read as TOML ({error}); write lines as `method = "gptq"`.') from None
    for key, value in found.items():
        if key not in IN_FILES:
            raise ConfigError(
                f"{path}: {key!r:.60} is not for a recipe to say; give it on the command line. "
                f"A recipe has {', '.join(sorted(IN_FILES))}."
            )
        if not isinstance(value, str | int | float | bool):
            raise ConfigError(f"{path}: {key!r:.60} is no option: a text, a number, true or false belongs behind it.")
    return found


def arguments_of(options: Options) -> list[str]:
    """The same as words of a command line."""
    words: list[str] = []
    for name, value in options.items():
        if value is False:
            continue
        words.append(f"--{name}" if value is True else f"--{name}={value}")
    return words
