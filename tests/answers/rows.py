"""Rows to test with."""

from __future__ import annotations

import hashlib
import time
from typing import Any

from miaotui.answers.row import Row, payload_of

NOW_S = float(int(time.time()))
"""Redis removes what has expired by the real time, so the tests' own is not far from it."""

SECRET = b"a secret"

HOSTILE = {
    "empty": "",
    "quotes": "it's \"quoted\" `so` 'twice'' over",
    "statement": "x'); DROP TABLE answer_row; DROP TABLE miaotui_row; --",
    "placeholders": "? ?1 :name @name $1 %s %(name)s {} {0} \\0 \\x00",
    "nul": "before\0after",
    "only nul": "\0",
    "lone surrogate": "high \ud83d and low \ude00",
    "surrogates apart": "\ud83d\ude00",
    "emoji": "👩‍👩‍👧‍👦 😀 \U0001f1e8\U0001f1f3",
    "operators": 'NEAR(a b) AND c OR NOT d* ^e "f" -g col:h {i} + j',
    "like": "100% _under_ \\ [a-z] *",
    "controls": "\x01\x02\x1b[31m\r\n\t\x7f\u2028\u200b\ufeff",
    "right to left": "\u202eevil\u202c שלום مرحبا",
    "combining": "e\u0301 ﬁ ß İ ǆ \u0300",
    "chinese": "我在北京，天气很好。",
    "lua": "]] return redis.call('FLUSHALL') --[[ {tag} }{",
}


def name_of(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def row(name: str = "one", **changes: Any) -> Row:
    """A sealed answer whose key comes from a name."""
    values: dict[str, Any] = {
        "kind": "answer",
        "tenant": "somebody",
        "key": name_of(name),
        "payload": payload_of({"question": name, "answer": "yes"}),
        "created_s": NOW_S,
        "text": name,
    }
    return Row(**(values | changes)).sealed(SECRET)


def name(of: Row) -> tuple[Any, str, bytes]:
    return of.kind, of.tenant, of.key
