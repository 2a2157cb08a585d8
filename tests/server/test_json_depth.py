from __future__ import annotations

import json
from typing import Any

import httpx2 as httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from miaotui.server.json_depth import MAX_DEPTH, is_too_deep
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
    assert is_too_deep(body) == (depth_of(value) > MAX_DEPTH)


@pytest.mark.parametrize(("levels", "status"), [(MAX_DEPTH - 3, 200), (MAX_DEPTH, 400), (100_000, 400)])
def test_deep_bodies_are_refused_even_in_fields_nobody_knows(running: Running, levels: int, status: int) -> None:
    body = b'{"prompt": "x", "unknown": ' + b"[" * levels + b"]" * levels + b"}"
    assert httpx.post(running.url + "/tokenize", content=body).status_code == status


def test_wide_bodies_are_welcome(running: Running) -> None:
    messages = [{"role": "user", "content": [{"type": "text", "text": "[" * 9}]} for _ in range(100)]
    body = {"messages": messages}
    assert httpx.post(running.url + "/tokenize", json=body).status_code == 200
