"""A row's seal notices every change, and what a row is charged with grows with it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from answers.rows import SECRET, row
from miaotui.answers.row import Row, payload_of

FULL = row("full", group=b"g" * 32, model="m", vector=b"v", expires_s=5.5, tags=("a", "b"), text="text", tenant="t")
CHANGES: dict[str, Any] = {
    "kind": "case", "tenant": "u", "key": b"k", "payload": b"{}", "created_s": 6.5, "group": b"h", "model": "n",
    "text": "Text", "vector": b"w", "expires_s": None, "tags": ("a",), "mac": b"",
}  # fmt: skip
texts = st.text(st.characters(exclude_categories=()), max_size=8)


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_of_any_field_breaks_the_seal(change: str) -> None:
    assert FULL.is_genuine(SECRET)
    assert not replace(FULL, **{change: CHANGES[change]}).is_genuine(SECRET)


def test_another_secret_breaks_the_seal() -> None:
    assert not FULL.is_genuine(b"another secret")
    assert FULL.sealed(b"another secret").is_genuine(b"another secret")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"model": "ab", "text": "c"}, {"model": "a", "text": "bc"}),
        ({"tags": ("ab",)}, {"tags": ("a", "b")}),
        ({"tags": ("a", "b")}, {"tags": ("b", "a")}),
        ({"tags": ("",)}, {"tags": ()}),
        ({"text": "a", "tags": ("b",)}, {"text": "b", "tags": ("a",)}),
        ({"key": b"ab", "group": b""}, {"key": b"a", "group": b"b"}),
        ({"text": "\ud83d\ude00"}, {"text": "\U0001f600"}),
    ],
)
def test_what_moves_between_fields_breaks_the_seal(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert row("x", **one).mac != row("x", **other).mac


@given(texts, texts, st.lists(texts, max_size=3), st.floats(allow_nan=False), st.none() | st.floats(allow_nan=False))
def test_any_row_can_be_sealed(tenant: str, text: str, tags: list[str], created_s: float, ends_s: float | None) -> None:
    kept = row("x", tenant=tenant, text=text, tags=tuple(tags), created_s=created_s, expires_s=ends_s)
    assert kept.is_genuine(SECRET)
    assert not replace(kept, text=text + "\0").is_genuine(SECRET)


def test_whole_seconds_seal_alike_however_they_are_written() -> None:
    assert row("x", created_s=5, expires_s=7).mac == row("x", created_s=5.0, expires_s=7.0).mac


def test_every_part_of_a_row_is_charged() -> None:
    bare = row("", tenant="", payload=b"")
    changes: list[dict[str, Any]] = [{"tags": ("12", "34")}, {"payload": b"1234"}, {"vector": b"1234"}]
    changes += [{field: "1234"} for field in ("tenant", "model", "text")]
    for change in changes:
        assert replace(bare, **change).num_bytes == bare.num_bytes + 4


def test_payloads_are_ascii_objects_and_come_back() -> None:
    fields = {"q": "字 \0 \ud83d", "n": 1.5, "list": [None, True]}
    payload = payload_of(fields)
    assert payload.isascii()
    assert Row("answer", "t", b"k", payload, 0.0).fields == fields
    with pytest.raises(ValueError, match="no object"):
        _ = Row("answer", "t", b"k", b"[]", 0.0).fields
