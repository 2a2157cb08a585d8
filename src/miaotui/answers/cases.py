"""What people said was wrong, as stores keep it: an answer to its question, two questions taken for one, a near hit."""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from collections.abc import Mapping
from typing import Any, Literal

from miaotui.answers.decision import MAX_QUESTION, shortened
from miaotui.answers.row import Row, payload_of

CaseKind = Literal["answer", "pair"]
"""answer: one that is wrong for its question. pair: a question that must not be given another one's answer."""
MAX_ANSWER = 4000
"""Characters that a case keeps of the answer, for people; it is known again by its digest."""

_WORD = re.compile(r"[^\W_]+")


def case_key(key: bytes, answer: str) -> bytes:
    """Under which it is kept that this answer to that question is wrong."""
    return hashlib.sha256(b"case\0" + key + _bytes(answer)).digest()


def pair_key(one: str, other: str) -> bytes:
    """Under which it is kept that two questions are not the same.

    Whichever of them was answered first, and however each is written: letters' case, width, spaces and signs say
    nothing. So more is held apart than somebody said, never less.
    """
    first, second = sorted((_bytes(_plain(one)), _bytes(_plain(other))))
    return hashlib.sha256(b"pair\0" + len(first).to_bytes(8, "little") + first + second).digest()


def case_row(kind: CaseKind, tenant: str, name: bytes, entry: bytes, facts: Mapping[str, Any], created_s: float) -> Row:
    """A case, not sealed yet. entry: the answer's key. facts: question, answer, and whatever else is known."""
    question = shortened(str(facts["question"]), MAX_QUESTION)
    cut = {"kind": kind, "question": question, "answer": shortened(str(facts["answer"]), MAX_ANSWER)}
    return Row("case", tenant, name, payload_of({**facts, **cut}), created_s, group=entry, text=question)


def observation_row(
    tenant: str, entry: bytes, similarity: float, distance: float, right: bool, source: str, created_s: float
) -> Row:
    """That a near answer was right or wrong for a question as close as that, not sealed yet. source: who says so."""
    fields = {"similarity": similarity, "distance": distance, "right": right, "source": source}
    return Row("observation", tenant, os.urandom(16), payload_of(fields), created_s, group=entry)


def _plain(text: str) -> str:
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return " ".join(_WORD.findall(folded)) or " ".join(folded.split())


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
