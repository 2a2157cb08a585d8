"""What people say of answers: wrong ones are taken out for good, every word is kept for later training."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from miaotui.answers.cache import AnswerCache, case_key, pair_key
from miaotui.answers.entry import Entry
from miaotui.answers.row import Row, payload_of
from miaotui.answers.store import Filter
from miaotui.errors import InvalidRequestError

Rating = Literal["up", "down"]
MAX_WORDS = 16 << 10
"""Characters of a comment or a correction."""


@dataclass(frozen=True, slots=True)
class Feedback:
    """What somebody said of the answer to one request. Raises InvalidRequestError for what cannot be said."""

    request_id: str
    rating: Rating
    correction: str = ""
    comment: str = ""

    def __post_init__(self) -> None:
        if self.rating not in get_args(Rating):
            raise InvalidRequestError('rating must be "up" or "down".')
        for name in ("correction", "comment"):
            if len(getattr(self, name)) > MAX_WORDS:
                raise InvalidRequestError(f"{name} must have at most {MAX_WORDS} characters.")


@dataclass(frozen=True, slots=True)
class Violation:
    """A rejected answer that would be served again."""

    question: str
    answer: str
    why: str


async def reject(
    cache: AnswerCache, tenant: str, key: bytes, *, asked: str = "", request_id: str = "", comment: str = ""
) -> Entry | None:
    """Take a wrong answer out, and see that it never comes back; the answer, or None where there is none.

    asked: the question it was served to, if that is not its own: the two are never taken for each other again.
    """
    entry = await cache.entry(key, tenant)
    if entry is None:
        return None
    facts = {"question": entry.question, "answer": entry.answer, "entry": entry.id}
    facts |= {"asked": asked, "request_id": request_id, "comment": comment[:MAX_WORDS]}
    is_other = bool(asked) and asked != entry.question
    name = pair_key(asked, key) if is_other else case_key(key, entry.answer)
    await cache.put(_row("case", tenant, name, facts | {"kind": "pair" if is_other else "answer"}, cache.now_s, key))
    await cache.flush()
    if not is_other:
        await cache.delete(Filter("answer", tenant, key=key))
    return entry


async def give_feedback(cache: AnswerCache, tenant: str, feedback: Feedback) -> None:
    """Keep what was said; an answer that was called wrong is rejected.

    Raises InvalidRequestError for a request that is not known.
    """
    decision = await cache.why(feedback.request_id, tenant)
    if decision is None:
        raise InvalidRequestError("request_id: no request of that id is known; it may have been too long ago.")
    key = bytes.fromhex(decision.entry or "")
    entry = await cache.entry(key, tenant) if key else None
    facts = {
        "request_id": feedback.request_id,
        "rating": feedback.rating,
        "correction": feedback.correction,
        "comment": feedback.comment,
        "question": decision.question,
        "answer": entry.answer if entry else None,
        "path": decision.path,
        "model": entry.model if entry else None,
    }
    name = hashlib.sha256(b"feedback\0" + os.urandom(32)).digest()
    await cache.put(_row("feedback", tenant, name, facts, cache.now_s, key))
    if decision.path == "near" and decision.candidates:
        served = next((one for one in decision.candidates if one.get("entry") == decision.entry), {})
        await cache.learn(tenant, served, right=feedback.rating == "up", source="user")
    if feedback.rating == "down" and entry is not None:
        asked = decision.question if decision.path == "near" else ""
        await reject(cache, tenant, key, asked=asked, request_id=feedback.request_id, comment=feedback.comment)
    await cache.flush()


async def verify(cache: AnswerCache, tenant: str | None) -> tuple[int, list[Violation]]:
    """Replay every case; how many there are, and those whose answer would be served again. Raises StoreError."""
    violations: list[Violation] = []
    num_cases = 0
    async for row in cache.each_row(Filter("case", tenant)):
        num_cases += 1
        case = row.fields
        entry = await cache.entry(bytes.fromhex(case["entry"]), row.tenant)
        if case["kind"] == "answer" and entry is not None and entry.answer == case["answer"]:
            violations.append(Violation(case["question"], case["answer"], "it is kept again"))
    return num_cases, violations


def _row(kind: Any, tenant: str, key: bytes, facts: Mapping[str, Any], created_s: float, group: bytes) -> Row:
    text = str(facts["question"])
    return Row(kind, tenant, key, payload_of(facts), created_s, group=group, text=text)
