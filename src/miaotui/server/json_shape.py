"""How deep JSON is nested and how much it holds, found without building what it says."""

from __future__ import annotations

import numpy as np

MAX_DEPTH = 64
MAX_PARTS = 200_000
"""Arrays, objects and names together. Whatever builds them holds all of Python up, some 0.1 s for so many."""

_STEPS = np.zeros(256, np.int8)
_STEPS[[ord("["), ord("{")]] = 1
_STEPS[[ord("]"), ord("}")]] = -1
_BEGINS = np.zeros(256, np.bool_)
_BEGINS[[ord("["), ord("{"), ord(":")]] = True


def why_too_costly(body: bytes) -> str | None:
    """What a body does that would make reading it cost too much; None: nothing. What is no JSON may be judged so, too.

    It is nested more than MAX_DEPTH deep, or holds more than MAX_PARTS. Linear in the length: 10 MiB of brackets take
    some tenths of a second, most of it without the GIL, an ordinary request some microseconds.
    """
    num_begun = body.count(b"[") + body.count(b"{")
    if num_begun <= MAX_DEPTH and num_begun + body.count(b":") <= MAX_PARTS:
        return None
    if b"\\" in body:  # what is escaped neither begins nor ends a string
        body = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    raw = np.frombuffer(body, np.uint8)
    inside_string = np.cumsum(raw == ord('"'), dtype=np.uint8) & 1
    plain = raw[inside_string == 0]
    if np.count_nonzero(_BEGINS[plain]) > MAX_PARTS:
        return f"holds more than {MAX_PARTS} arrays, objects and names"
    if np.cumsum(_STEPS[plain], dtype=np.int32).max(initial=0) > MAX_DEPTH:
        return f"is nested more than {MAX_DEPTH} deep"
    return None
