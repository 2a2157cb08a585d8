"""Whether anything that was called wrong would be served again: every case replayed."""

from __future__ import annotations

from dataclasses import dataclass

from miaotui.answers.cache import AnswerCache
from miaotui.answers.cases import case_key
from miaotui.answers.entry import Entry
from miaotui.answers.near.guards import verdicts
from miaotui.answers.near.near import MAX_CHARACTERS
from miaotui.answers.near.reading import read
from miaotui.answers.store import Filter


@dataclass(frozen=True, slots=True)
class Violation:
    """A rejected answer that would be served again."""

    question: str
    answer: str
    why: str


@dataclass(frozen=True, slots=True)
class Replayed:
    """How many rejected answers and pairs of questions were replayed, and which would be served again."""

    num_answers: int
    num_pairs: int
    violations: list[Violation]


async def verify(cache: AnswerCache, tenant: str | None) -> Replayed:
    """Replay every case. Raises StoreError."""
    num_answers = num_pairs = 0
    violations: list[Violation] = []
    async for row in cache.each_row(Filter("case", tenant)):
        case = row.fields
        entry = await cache.entry(bytes.fromhex(case["entry"]), row.tenant)
        if case["kind"] == "answer":
            num_answers += 1
            if entry is not None and row.key == case_key(entry.key, entry.answer):
                violations.append(Violation(case["question"], case["answer"], "it is kept again"))
            continue
        num_pairs += 1
        if entry is not None and await _would_serve(cache, row.tenant, case["asked"], entry):
            why = f"it would be given to {case['asked']!r}: no guard refuses, and the two are not held apart"
            violations.append(Violation(case["question"], entry.answer, why))
    return Replayed(num_answers, num_pairs, violations)


async def _would_serve(cache: AnswerCache, tenant: str, asked: str, entry: Entry) -> bool:
    """Whether a near look could give an answer to a question, however close their vectors are."""
    if max(len(asked), len(entry.question)) > MAX_CHARACTERS or await cache.parted(tenant, asked, entry.question):
        return False
    return all(reason is None for reason in verdicts(read(asked), read(entry.question)).values())
