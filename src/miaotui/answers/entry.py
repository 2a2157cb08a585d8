"""A kept answer, and the row that it is kept as."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from miaotui.answers.near.starts import plain_start
from miaotui.answers.question import Question
from miaotui.answers.row import Row, payload_of
from miaotui.core import Receipt

_QUESTION_MARK = re.compile(r"(?<=[\w)\"'”’])(?:[?？]+|[.。])$")
Origin = Literal["generated", "curated"]
_ORIGINS = ("generated", "curated")
CURATED = hashlib.sha256(b"miaotui curated answers").digest()
"""The group of curated answers: they hold whatever model, parameters and system prompt are asked with."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One question and its answer.

    answer: as the model wrote it, reasoning included. request_id: whom it was computed for. cost_s: how long that took,
    which a hit saves. prompt_tail: the prompt's last token ids, which say how to read the answer. output_tokens: a
    request that allows fewer has no use for it.
    """

    key: bytes
    group: bytes
    tenant: str
    model: str
    question: str
    answer: str
    created_s: float
    origin: Origin = "generated"
    expires_s: float | None = None
    tags: tuple[str, ...] = ()
    request_id: str = ""
    cost_s: float = 0.0
    prompt_tokens: int = 0
    output_tokens: int = 0
    prompt_tail: tuple[int, ...] = ()
    seed: int = 0
    stop_reason: str | int | None = None
    vector: bytes = b""

    @property
    def id(self) -> str:
        """What people and clients call it."""
        return self.key.hex()

    def row(self) -> Row:
        """As a store keeps it, not sealed yet."""
        fields = {
            "question": self.question,
            "answer": self.answer,
            "origin": self.origin,
            "request_id": self.request_id,
            "cost_s": self.cost_s,
            "prompt_tokens": self.prompt_tokens,
            "output_tokens": self.output_tokens,
            "prompt_tail": list(self.prompt_tail),
            "seed": self.seed,
            "stop_reason": self.stop_reason,
        }
        return Row(
            kind="answer",
            tenant=self.tenant,
            key=self.key,
            payload=payload_of(fields),
            created_s=self.created_s,
            group=self.group,
            model=self.model,
            text=f"{self.question}\n{self.answer}",
            vector=self.vector,
            expires_s=self.expires_s,
            tags=self.tags,
        )


def entry_of(row: Row) -> Entry:
    """A row that was sealed by us, read. Raises ValueError for one that holds something else."""
    try:
        fields = row.fields
        if fields["origin"] not in _ORIGINS:
            raise ValueError(f"an answer of the origin {fields['origin']!r}")
        return Entry(
            key=row.key,
            group=row.group,
            tenant=row.tenant,
            model=row.model,
            question=str(fields["question"]),
            answer=str(fields["answer"]),
            created_s=row.created_s,
            origin=fields["origin"],
            expires_s=row.expires_s,
            tags=row.tags,
            request_id=str(fields["request_id"]),
            cost_s=float(fields["cost_s"]),
            prompt_tokens=int(fields["prompt_tokens"]),
            output_tokens=int(fields["output_tokens"]),
            prompt_tail=tuple(int(token) for token in fields["prompt_tail"]),
            seed=int(fields["seed"]),
            stop_reason=fields["stop_reason"],
            vector=row.vector,
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"a row is no answer: {error!r}") from None


def generated(question: Question, answer: str, **facts: Any) -> Entry:
    """A model's answer to a question."""
    return Entry(
        question.key,
        question.group,
        question.tenant,
        question.model,
        question.shown,
        answer,
        created_s=time.time(),
        **facts,
    )


def computed(question: Question, answer: str, receipt: Receipt, **facts: Any) -> Entry:
    """The same, with what it cost to compute."""
    return generated(
        question,
        answer,
        cost_s=receipt.prefill_s + receipt.decode_s,
        prompt_tokens=receipt.prompt_tokens,
        output_tokens=receipt.output_tokens,
        seed=receipt.seed,
        **facts,
    )


def curated(tenant: str, question: str, answer: str, *, tags: Sequence[str] = ()) -> Entry:
    """Somebody's own answer to a question."""
    return Entry(
        curated_key(tenant, question), CURATED, tenant, "", question, answer, time.time(), "curated", tags=tuple(tags)
    )


def curated_key(tenant: str, question: str) -> bytes:
    """The same for questions that differ in white space, in a question mark or full stop at the end, and in the first
    letter's case where no name can begin: "Polish hams" are not "polish hams", nor is 5! 5."""
    plain = _QUESTION_MARK.sub("", " ".join(question.split()))
    first, space, rest = plain.partition(" ")
    plain = plain_start(first, rest) + space + rest
    digest = hashlib.sha256(CURATED)
    for part in (tenant, plain):
        raw = part.encode("utf-8", "surrogatepass")
        digest.update(len(raw).to_bytes(8, "little") + raw)
    return digest.digest()
