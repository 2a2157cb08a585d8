"""Typed look-ups in metadata written by strangers; every failure names the key."""

from __future__ import annotations

import math
from collections.abc import Mapping

from miaotui.errors import ModelFileError, brief

MAX_INTEGER = 1 << 40  # far above any hyper-parameter, far below what overflows a float
_REQUIRED = object()


class Fields:
    """Reads typed values from a mapping. A default makes a key optional; None counts as absent (JSON null).

    Raises ModelFileError, naming the source and the key, when a required key is missing or has another type.
    """

    def __init__(self, source: str, values: Mapping[str, object]) -> None:
        self.source = source
        self.values = values

    def __contains__(self, key: str) -> bool:
        return self.values.get(key) is not None

    def is_plain_integer(self, key: str) -> bool:
        """Whether the value is an integer and not a list."""
        return isinstance(self.values.get(key), int)

    def integer(self, key: str, default: object = _REQUIRED) -> int:
        """An integer from 0 to 2^40; an array whose elements are all the same integer counts as that integer."""
        value = self._lookup(key, default)
        if hasattr(value, "tolist"):
            value = value.tolist()
        if isinstance(value, list) and value and all(item == value[0] for item in value):
            value = value[0]
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_INTEGER:
            raise self.wrong(key, value, f"one integer from 0 to {MAX_INTEGER}")
        return value

    def number(self, key: str, default: object = _REQUIRED) -> float:
        """A finite number."""
        value = self._lookup(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not _is_finite(value):
            raise self.wrong(key, value, "a finite number")
        return float(value)

    def optional_number(self, key: str) -> float | None:
        """A finite number, or None when the key is absent."""
        return self.number(key) if key in self else None

    def string(self, key: str, default: object = _REQUIRED) -> str:
        """A string."""
        value = self._lookup(key, default)
        if not isinstance(value, str):
            raise self.wrong(key, value, "a string")
        return value

    def boolean(self, key: str, default: object = _REQUIRED) -> bool:
        """True or false."""
        value = self._lookup(key, default)
        if not isinstance(value, bool):
            raise self.wrong(key, value, "true or false")
        return value

    def section(self, key: str) -> Fields:
        """A nested object; empty when the key is absent."""
        value = self._lookup(key, {})
        if not isinstance(value, dict):
            raise self.wrong(key, value, "an object")
        return Fields(f"{self.source}: {key}", value)

    def items(self, key: str) -> list[object] | None:
        """A list, or None when the key is absent."""
        if key not in self:
            return None
        value = self.values[key]
        if hasattr(value, "tolist"):
            value = value.tolist()
        if not isinstance(value, list):
            raise self.wrong(key, value, "a list")
        return value

    def wrong(self, key: str, value: object, wanted: str) -> ModelFileError:
        """The error for a value of the wrong type or range."""
        return ModelFileError(
            f"{self.source}: '{key}' must be {wanted}, not {brief(value)}; the file is damaged, download it again."
        )

    def _lookup(self, key: str, default: object) -> object:
        value = self.values.get(key)
        if value is not None:
            return value
        if default is _REQUIRED:
            raise ModelFileError(f"{self.source}: the key '{key}' is missing; the file is incomplete.")
        return default


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer beyond the range of floats
        return False
