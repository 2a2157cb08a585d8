from __future__ import annotations

import json
from typing import Any

import httpx2 as httpx
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from miaotui.server.json_shape import MAX_DEPTH, MAX_PARTS, why_too_costly
from server.conftest import Running

JSON = st.recursive(
    st.one_of(st.none(), st.integers(), st.text(alphabet='[]{}"\\ax\0é', max_size=12)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text('[]{}"\\', max_size=3), inner)),
    max_leaves=30,
)


def depth_of(value: Any) -> int:
    if isinstance(value, dict):
        value = list(value.values())
    return 1 + max(map(depth_of, value), default=0) if isinstance(value, list) else 0


@given(JSON, st.integers(0, 70), st.booleans())
def test_it_is_the_depth_of_what_json_reads(value: Any, around: int, ascii_only: bool) -> None:
    for _ in range(around):
        value = [value, "]"]
    body = json.dumps(value, ensure_ascii=ascii_only).encode()
    is_deep = depth_of(value) > MAX_DEPTH
    assert why_too_costly(body) == (f"is nested more than {MAX_DEPTH} deep" if is_deep else None)


def parts_of(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + len(value) + sum(map(parts_of, value.values()))
    return 1 + sum(map(parts_of, value)) if isinstance(value, list) else 0


@given(JSON, st.integers(0, 40), st.booleans())
@example({str(number): ":[{" for number in range(40)}, 40, True)  # hardly a bracket
def test_it_is_how_much_json_holds(value: Any, most: int, ascii_only: bool) -> None:
    body = json.dumps(value, ensure_ascii=ascii_only).encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("miaotui.server.json_shape.MAX_PARTS", most)
        why = why_too_costly(body) or ""
    if depth_of(value) <= MAX_DEPTH and body.count(b"[") + body.count(b"{") <= MAX_DEPTH:
        assert why == (f"holds more than {most} arrays, objects and names" if parts_of(value) > most else "")


@pytest.mark.parametrize("unit", [b"{}", b"[]", b'{"a": 1}', b'[[{"a": ""}]]'])
def test_bodies_of_countless_parts_are_refused_unread(running: Running, unit: bytes) -> None:
    body = b'{"prompt": "x", "unknown": [' + b",".join([unit] * MAX_PARTS) + b"]}"
    reply = httpx.post(running.url + "/tokenize", content=body)
    assert (reply.status_code, "arrays, objects and names" in reply.text) == (400, True)


def test_countless_names_are_refused_and_a_text_that_looks_like_them_is_read(running: Running) -> None:
    names = b'{"prompt": "x", "unknown": {' + b",".join(b'"%d": 1' % number for number in range(MAX_PARTS)) + b"}}"
    assert httpx.post(running.url + "/tokenize", content=names).status_code == 400
    text = b'{"prompt": "x", "unknown": "' + b"{[:" * MAX_PARTS + b'"}'
    assert httpx.post(running.url + "/tokenize", content=text).status_code == 200


@pytest.mark.parametrize(("levels", "status"), [(MAX_DEPTH - 3, 200), (MAX_DEPTH, 400), (100_000, 400)])
def test_deep_bodies_are_refused_even_in_fields_nobody_knows(running: Running, levels: int, status: int) -> None:
    body = b'{"prompt": "x", "unknown": ' + b"[" * levels + b"]" * levels + b"}"
    assert httpx.post(running.url + "/tokenize", content=body).status_code == status


def test_wide_bodies_are_welcome(running: Running) -> None:
    messages = [{"role": "user", "content": [{"type": "text", "text": "[" * 9}]} for _ in range(100)]
    body = {"messages": messages}
    assert httpx.post(running.url + "/tokenize", json=body).status_code == 200
