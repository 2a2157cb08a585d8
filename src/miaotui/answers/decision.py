"""Why a request was answered as it was: what was looked at, what was chosen, what it cost."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from miaotui.answers.row import Row, payload_of

Path = Literal["memory", "store", "curated", "near", "shared", "cascade", "model"]
"""memory, store: kept before, found there. curated: somebody's own answer. near: an answer to a question of the same
meaning. shared: computed for another request that asked the same at the same time. cascade: a small model was asked
first. model: computed for this one."""

KEPT_S = 30 * 86400.0
"""Decisions are of use for so long."""
MAX_QUESTION = 1000
"""Characters that are kept of a question; near hits, whose decisions are learned from, are never longer."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What became of one request.

    why: in a sentence. entry: id of the answer that was served or kept. candidates: near questions that were looked
    at, best first, each with its similarity and what every guard said. times_s: seconds by what they went into. plan:
    which paths there were, what each was expected to cost, and what the chosen one did (`miaotui.core.Plan.told`).
    """

    request_id: str
    tenant: str
    path: Path
    why: str
    created_s: float
    question: str = ""
    entry: str | None = None
    matched: str | None = None
    similarity: float | None = None
    guards: Mapping[str, str] = field(default_factory=dict)
    candidates: Sequence[Mapping[str, Any]] = ()
    times_s: Mapping[str, float] = field(default_factory=dict)
    saved_s: float = 0.0
    plan: Mapping[str, Any] | None = None

    def row(self) -> Row:
        """As a store keeps it, not sealed yet."""
        fields = asdict(self)
        for name in ("tenant", "created_s", "question"):  # which the row has by itself
            del fields[name]
        return Row(
            kind="decision",
            tenant=self.tenant,
            key=decision_key(self.request_id),
            payload=payload_of(fields),
            created_s=self.created_s,
            text=shortened(self.question, MAX_QUESTION),
            expires_s=self.created_s + KEPT_S,
        )


def decision_of(row: Row) -> Decision:
    """A row that was sealed by us, read. Raises ValueError for one that holds something else."""
    try:
        return Decision(tenant=row.tenant, created_s=row.created_s, **({"question": row.text} | row.fields))
    except TypeError as error:
        raise ValueError(f"a row is no decision: {error}") from None


def shortened(text: str, most: int) -> str:
    """A text, or the beginning of a longer one with a sign that says so: at most so many characters and one."""
    return text if len(text) <= most else text[:most] + "…"


def decision_key(request_id: str) -> bytes:
    """Under which a request's decision is kept."""
    return hashlib.sha256(b"decision\0" + request_id.encode("utf-8", "surrogatepass")).digest()
