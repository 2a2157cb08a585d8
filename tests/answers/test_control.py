"""What a request may say about kept answers."""

from __future__ import annotations

from typing import Any

import pytest

from miaotui.answers.control import CacheControl
from miaotui.errors import InvalidRequestError


@pytest.mark.parametrize(
    ("header", "mode", "age"),
    [
        ("", "default", None),
        ("no-store", "no-store", None),
        ("No-Cache", "refresh", None),
        ("no-cache, no-store", "no-store", None),
        ("max-age=60, private", "default", 60.0),
        ("max-age=-1", "default", None),
        ("max-age=99999999999999999999", "default", 1e9),
        ("max-age=", "default", None),
        ("max-age=١", "default", 1.0),
    ],
)
def test_the_usual_directives_are_followed_and_others_ignored(header: str, mode: str, age: float | None) -> None:
    control = CacheControl.read(None, header)
    assert (control.mode, control.max_age_s) == (mode, age)


def test_the_body_counts_before_the_header() -> None:
    assert CacheControl.read({"mode": "refresh", "max_age_s": 3}, "no-store") == CacheControl("refresh", 3)


@pytest.mark.parametrize(
    "wanted",
    [
        {"mode": "always"},
        {"mode": 1},
        {"max_age_s": -1},
        {"max_age_s": float("nan")},
        {"max_age_s": True},
        {"near": "yes"},
        {"tags": "a"},
        {"tags": [""]},
        {"tags": ["x"] * 17},
        {"tags": ["x" * 65]},
        {"ttl": 3},
    ],
)
def test_what_means_nothing_is_refused(wanted: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequestError, match="cache"):
        CacheControl.read(wanted)
