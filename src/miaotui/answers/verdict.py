"""What people say of answers: wrong ones are taken out for good, every word is kept for later training."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from miaotui.answers.cache import AnswerCache
from miaotui.answers.cases import case_key, case_row, observation_row, pair_key
from miaotui.answers.decision import Decision, shortened
from miaotui.answers.entry import Entry
from miaotui.answers.row import Row, payload_of
from miaotui.answers.store import Filter
from miaotui.errors import InvalidRequestError, UnknownRequestError

Rating = Literal["up", "down"]
MAX_WORDS = 16 << 10
"""Characters of a comment or a correction; server/page/feedback.js has the same."""
MAX_ANSWER = 24 << 10
"""Characters of an answer that are kept with what was said of it."""
_ABOUT = ("answer", "conversation", "receipt", "finish_reason", "model", "cut")


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


async def reject(
    cache: AnswerCache,
    tenant: str,
    key: bytes,
    *,
    asked: str = "",
    request_id: str = "",
    comment: str = "",
    correction: str = "",
) -> Entry | None:
    """Take a wrong answer out, and see that it never comes back; the answer, or None where there is none.

    asked: the question it was served to, if that is not its own: the two are never taken for each other again, however
    they are written, and near hits learn from it. Raises StoreError where a store is down.
    """
    entry = await cache.entry(key, tenant)
    if entry is None:
        return None
    facts = {"question": entry.question, "answer": entry.answer, "entry": entry.id, "asked": asked}
    facts |= {"request_id": request_id, "comment": comment[:MAX_WORDS], "correction": correction[:MAX_WORDS]}
    if not asked or asked == entry.question:
        name = case_key(key, entry.answer)
        await cache.put_now([case_row("answer", tenant, name, key, facts, cache.now_s)])
        await cache.delete(Filter("answer", tenant, key=key))
        return entry
    is_known = await cache.parted(tenant, asked, entry.question)
    name = pair_key(asked, entry.question)
    await cache.put_now([case_row("pair", tenant, name, key, facts, cache.now_s)])
    if not is_known:  # said again, it says no more
        await _learn_wrong(cache, tenant, entry, asked, request_id)
    return entry


async def give_feedback(
    cache: AnswerCache, tenant: str, feedback: Feedback, about: Mapping[str, Any] | None = None
) -> None:
    """Keep what was said, in place of what was said of the request before; an answer called wrong is rejected.

    about: what is known of the request and its answer beside what is kept: `path`, `entry`, `question` and _ABOUT.
    Raises UnknownRequestError for a request that is not known, StoreError where a store is down: then nothing is kept.
    """
    name = hashlib.sha256(b"feedback\0" + feedback.request_id.encode("utf-8", "surrogatepass")).digest()
    before = next((row.fields for row in await cache.rows(Filter("feedback", tenant, key=name), limit=1)), None)
    decision = await cache.why(feedback.request_id, tenant)
    if decision is None and about is None:
        raise UnknownRequestError("request_id: no request of that id is known; it may have been too long ago.")
    known = dict(about or before or {})
    path, question = known.get("path"), known.get("question", "")
    key = bytes.fromhex(known.get("entry") or "")
    if decision is not None:
        path, question, key = decision.path, decision.question, bytes.fromhex(decision.entry or "")
    entry = await cache.entry(key, tenant) if key else None
    facts = {
        "request_id": feedback.request_id,
        "rating": feedback.rating,
        "correction": feedback.correction,
        "comment": feedback.comment,
        "question": question,
        "path": path,
        "entry": key.hex() or None,
        "answer": shortened(entry.answer, MAX_ANSWER) if entry else None,
        "model": entry.model if entry else None,
    }
    facts |= {fact: known[fact] for fact in _ABOUT if known.get(fact) is not None}
    row = Row("feedback", tenant, name, payload_of(facts), cache.now_s, group=key, text=question)
    await cache.put_now([row])
    await _act(cache, tenant, feedback, decision, entry, is_first=before is None)


async def _act(
    cache: AnswerCache,
    tenant: str,
    feedback: Feedback,
    decision: Decision | None,
    entry: Entry | None,
    *,
    is_first: bool,
) -> None:
    """Do what feedback asks for: take the answer out, or learn that a near one was right."""
    is_near = decision is not None and decision.path == "near"
    if feedback.rating == "down" and entry is not None:
        said = {"request_id": feedback.request_id, "comment": feedback.comment, "correction": feedback.correction}
        await reject(cache, tenant, entry.key, asked=decision.question if decision and is_near else "", **said)
    elif is_near and is_first and (served := _served(decision)) is not None:
        await cache.learn(tenant, served, right=feedback.rating == "up", source="user")
    await cache.flush()


def _served(decision: Decision | None) -> Mapping[str, Any] | None:
    """The near answer that was served, as it was judged."""
    if decision is None:
        return None
    return next((one for one in decision.candidates if one.get("entry") == decision.entry), None)


async def _learn_wrong(cache: AnswerCache, tenant: str, entry: Entry, asked: str, request_id: str) -> None:
    """Learn that an answer was wrong for a question, where it is known how close that is."""
    seen = _served(await cache.why(request_id, tenant)) if request_id else None
    if seen is None or seen["entry"] != entry.id:
        seen = await cache.nearness(asked, entry)
    if seen is None:
        return
    if cache.has_near:
        await cache.learn(tenant, seen, right=False, source="user")
    else:  # servers over the same store look for it there
        figures = float(seen["similarity"]), float(seen["distance"])
        await cache.put(observation_row(tenant, entry.key, *figures, False, "user", cache.now_s))
    await cache.flush()
