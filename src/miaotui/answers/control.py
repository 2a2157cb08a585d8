"""What a request says about answers that are kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from miaotui.errors import InvalidRequestError, brief

Mode = Literal["default", "no-store", "refresh"]
MAX_TAGS = 16
MAX_TAG_CHARACTERS = 64
MAX_AGE_S = 10.0**9


@dataclass(frozen=True, slots=True)
class CacheControl:
    """How one request wants to be answered.

    mode: "default" looks for a kept answer and keeps a new one, "refresh" only keeps, "no-store" does neither.
    max_age_s: a kept answer must be younger; None: of any age. near: whether an answer to a question of the same
    meaning will do; None: as the server is set up. tags: names by which the answer can be invalidated.
    """

    mode: Mode = "default"
    max_age_s: float | None = None
    near: bool | None = None
    tags: tuple[str, ...] = ()

    @classmethod
    def read(cls, wanted: Mapping[str, Any] | None, header: str = "") -> CacheControl:
        """From a request's `cache` object and its Cache-Control header; the object counts where both say something.

        Raises InvalidRequestError.
        """
        if wanted is None:
            return cls._of_header(header)
        unknown = sorted(set(wanted) - {"mode", "max_age_s", "near", "tags"})
        if unknown:
            raise InvalidRequestError(f"cache: unknown field {unknown[0]!r}; it takes mode, max_age_s, near and tags.")
        mode, age, near = wanted.get("mode", "default"), wanted.get("max_age_s"), wanted.get("near")
        if mode not in get_args(Mode):
            raise InvalidRequestError(f"cache: mode must be one of {', '.join(get_args(Mode))}, not {brief(mode)}.")
        if age is not None and (
            isinstance(age, bool) or not isinstance(age, (int, float)) or not 0 <= age <= MAX_AGE_S
        ):
            raise InvalidRequestError(f"cache: max_age_s must be a number of seconds, not {brief(age)}.")
        if near is not None and not isinstance(near, bool):
            raise InvalidRequestError(f"cache: near must be true or false, not {brief(near)}.")
        return cls(mode, age, near, read_tags(wanted.get("tags")))

    @classmethod
    def _of_header(cls, header: str) -> CacheControl:
        """Directives that mean nothing here are passed over, as HTTP wants it."""
        mode: Mode = "default"
        max_age_s: float | None = None
        for directive in header.lower().split(","):
            name, _, value = directive.strip().partition("=")
            if name == "no-store":
                mode = "no-store"
            elif name == "no-cache" and mode == "default":
                mode = "refresh"
            elif name == "max-age" and value.strip('"').isdecimal():
                max_age_s = min(float(value.strip('"')[:12]), MAX_AGE_S)
        return cls(mode, max_age_s)


def read_tags(tags: object) -> tuple[str, ...]:
    """A list of names. Raises InvalidRequestError."""
    if tags is None:
        return ()
    if (
        not isinstance(tags, Sequence)
        or isinstance(tags, str)
        or len(tags) > MAX_TAGS
        or not all(isinstance(tag, str) and 0 < len(tag) <= MAX_TAG_CHARACTERS for tag in tags)
    ):
        raise InvalidRequestError(
            f"cache: tags must be at most {MAX_TAGS} names of 1 to {MAX_TAG_CHARACTERS} characters, not {brief(tags)}."
        )
    return tuple(dict.fromkeys(tags))
