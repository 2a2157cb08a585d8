"""Fields of JSON that may come from anybody, each checked before it is used."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from miaotui.errors import brief

MAX_FACTS, MAX_FACT_CHARACTERS = 64, 1000


@dataclass(frozen=True, slots=True)
class ToldFields:
    """Checks values of parsed JSON. error: makes what is raised out of what is wrong."""

    error: Callable[[str], Exception]

    def fields(self, value: object, names: set[str], what: str) -> dict[str, Any]:
        """An object of just these fields."""
        if not isinstance(value, dict) or set(value) != names:
            raise self.error(f"{what} must be an object of {', '.join(sorted(names))}")
        return value

    def version(self, fields: Mapping[str, Any], wanted: str, version: int) -> None:
        """Its fields "format" and "version" must be these."""
        if fields["format"] != wanted or type(fields["version"]) is not int or fields["version"] != version:
            raise self.error(f"is not of format {wanted!r}, version {version}")

    def text(self, value: object, name: str) -> str:
        """A text that can be written as UTF-8."""
        if not isinstance(value, str):
            raise self.error(f'"{name}" must be text, not {brief(value)}')
        try:
            value.encode()
        except UnicodeEncodeError:
            raise self.error(f'"{name}" holds half a surrogate pair') from None
        return value

    def texts(self, value: object, name: str, most: int) -> tuple[str, ...]:
        """A list of at most so many of them."""
        if not isinstance(value, list) or len(value) > most:
            raise self.error(f'"{name}" must be a list of at most {most} texts, not {brief(value)}')
        return tuple(self.text(one, name) for one in value)

    def number(self, value: object, name: str) -> float:
        """A number that is none of the largest."""
        if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > 1e300:
            raise self.error(f'"{name}" must be a number, not {brief(value)}')
        return float(value)

    def facts(self, value: object) -> Mapping[str, float | str]:
        """Figures and texts for readers; long texts are cut."""
        if not isinstance(value, dict) or len(value) > MAX_FACTS:
            raise self.error(f'"facts" must be an object of at most {MAX_FACTS} figures and texts')
        return {
            name: self.text(fact, "facts")[:MAX_FACT_CHARACTERS] if isinstance(fact, str) else self.number(fact, name)
            for name, fact in value.items()
        }
