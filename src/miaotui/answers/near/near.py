"""Near hits: the answer of a question that was asked in other words, if every guard and the evidence allow it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from miaotui.answers.cases import observation_row
from miaotui.answers.near.acceptance import Acceptance, Decision, Evidence, Prior
from miaotui.answers.near.guards import GUARDS, Guard, Verdicts, verdicts
from miaotui.answers.near.index import NearIndex
from miaotui.answers.near.reading import read
from miaotui.answers.near.shelf import Found
from miaotui.answers.near.text import Text
from miaotui.answers.near.vectors import codes_of, unpacked
from miaotui.answers.row import Row
from miaotui.answers.store import Filter, Name, Store

MAX_CHARACTERS: Final = 1000  # embeddings read about so much; a guard needs 10 ms at most for it, whatever it is
_PAGE: Final = 1000

Reader = Callable[[Name], Awaitable[Row | None]]
"""Fetches a row that may be served: there, not expired, its seal intact."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A kept question beside the one asked: how close, what each guard said, what experience says."""

    key: bytes
    question: str
    similarity: float
    distance: float
    verdicts: Verdicts
    decision: Decision | None  # None where a guard refused
    accepted: bool
    why: str

    def as_fields(self) -> dict[str, Any]:
        """For decision rows and replies: JSON's types only."""
        fields: dict[str, Any] = {
            "entry": self.key.hex(),
            "matched": self.question,
            "similarity": round(self.similarity, 4),
            "distance": round(self.distance, 4),
            "guards": {name: reason or "passed" for name, reason in self.verdicts.items()},
            "accepted": self.accepted,
            "why": self.why,
        }
        if self.decision is not None:
            fields |= {
                "p": round(self.decision.p, 5),
                "tau": round(self.decision.tau, 5),
                "threshold": self.decision.threshold,
                "observations": self.decision.num_observations,
            }
        return fields


@dataclass(frozen=True, slots=True)
class Near:
    """What was found for a question. row: the answer to serve, None for none; best: the candidate it is about (the one
    served, else the closest); candidates: all that were looked at, closest first."""

    row: Row | None
    best: Candidate
    candidates: tuple[Candidate, ...]

    @property
    def accepted(self) -> bool:
        """Whether there is an answer to serve."""
        return self.row is not None

    @property
    def similarity(self) -> float:
        """Of the best candidate."""
        return self.best.similarity

    @property
    def verdicts(self) -> Verdicts:
        """What the guards said of the best candidate."""
        return self.best.verdicts

    @property
    def why(self) -> str:
        """One sentence."""
        return self.best.why


class NearHits:
    """Finds, explains and learns. Lives on one event loop; holds the questions and their vectors, never the answers.

    read: fetches a row that may be served. delta: the probability of a wrong answer that one hit may have.
    prior: what is known of the embedding model (`prior.prior_of`). at_least: candidates below that similarity are not
    looked at. guards: all must pass.
    """

    def __init__(
        self,
        read_row: Reader,
        prior: Prior,
        *,
        delta: float = 0.01,
        at_least: float = 0.7,
        num_candidates: int = 8,
        guards: Mapping[str, Guard] = GUARDS,
        index: NearIndex | None = None,
    ) -> None:
        Acceptance(prior, delta)  # says now if delta is no bound
        self._read_row = read_row
        self._prior, self._delta, self._at_least = prior, delta, at_least
        self._num_candidates = num_candidates
        self.guards = guards
        self.index = NearIndex() if index is None else index
        self._experience: dict[str, Acceptance] = {}

    def add(self, row: Row) -> bool:
        """Take an answer's question in; whether it can be found from now on (it has a vector, there was room)."""
        codes = unpacked(row.vector)
        question = question_of(row)
        if row.kind != "answer" or codes is None or not 0 < len(question) <= MAX_CHARACTERS:
            return False
        return self.index.put(row.tenant, row.group, row.key, question, codes, row.created_s)

    def remove(self, tenant: str, group: bytes, key: bytes) -> None:
        """Forget an answer that is gone, and its own experience."""
        self.index.remove(tenant, group, key)
        self._of(tenant).forget(key)

    async def load(self, store: Store, now_s: float) -> int:
        """Take in everything that a store holds, and what was observed of it; how many questions."""
        count = 0
        for kind in ("answer", "observation"):
            behind: Row | None = None
            while page := await store.rows(Filter(kind), now_s=now_s, order="oldest", limit=_PAGE, behind=behind):
                count += sum(self.add(row) for row in page) if kind == "answer" else 0
                for row in page:
                    if kind == "observation":
                        self.learn(row)
                behind = page[-1]
        return count

    async def find(self, question: str, vector: NDArray[np.float32], tenant: str, group: bytes) -> Near | None:
        """The best answer for a question; None where nothing similar is kept.

        Candidates are tried in the order of their similarity; the first that passes all guards and is likely enough to
        be right is served, if its row is still there.
        """
        if not 0 < len(question) <= MAX_CHARACTERS:
            return None
        found = self.index.search(tenant, group, codes_of(vector), self._num_candidates, self._at_least)
        asked = read(question)
        candidates: list[Candidate] = []
        for each in found:
            candidate = self._judged(asked, each, tenant)
            candidates.append(candidate)
            if candidate.accepted:
                row = await self._read_row(("answer", tenant, each.key))
                if row is not None and question_of(row) == each.question and row.group == group:
                    return Near(row, candidate, tuple(candidates))
                self.remove(tenant, group, each.key)
                candidates.pop()
        return Near(None, candidates[0], tuple(candidates)) if candidates else None

    def observation(self, near: Candidate, tenant: str, *, right: bool, source: str, now_s: float) -> Row:
        """Learn whether a candidate's answer was right, and the row that keeps it. source: who says so."""
        return self.observed(tenant, near.key, near.similarity, near.distance, right, source, now_s)

    def observed(
        self, tenant: str, key: bytes, similarity: float, distance: float, right: bool, source: str, now_s: float
    ) -> Row:
        """The same of an answer by its key."""
        row = observation_row(tenant, key, similarity, distance, right, source, now_s)
        self.learn(row)
        return row

    def learn(self, row: Row) -> None:
        """Take an observation in; one that cannot be read is passed over."""
        try:
            fields = row.fields
            evidence = Evidence(float(fields["similarity"]), float(fields["distance"]))
            right = fields["right"]
        except (KeyError, TypeError, ValueError):
            return
        if isinstance(right, bool) and 0.0 <= evidence.similarity <= 1.0 and 0.0 <= evidence.distance <= 1.0:
            self._of(row.tenant).observe(row.group, evidence, right=right)

    def _of(self, tenant: str) -> Acceptance:
        if tenant not in self._experience:
            self._experience[tenant] = Acceptance(self._prior, self._delta)
        return self._experience[tenant]

    def _unreadable(self, asked: Text, kept: Text) -> str | None:
        """Why similarity is no evidence: other words in a language that the embedding model was not measured in."""
        if asked.language in self._prior.languages or (asked.terms == kept.terms and asked.words == kept.words):
            return None
        return (
            f"the embedding model was not measured in this language ({asked.language or 'none'}): only the same words"
        )

    def _judged(self, asked: Text, found: Found, tenant: str) -> Candidate:
        kept = read(found.question)
        said = verdicts(asked, kept, self.guards)
        said["language"] = said.get("language") or self._unreadable(asked, kept)
        distance = wording_distance(asked, kept)
        refused = [reason for reason in said.values() if reason is not None]
        if refused:
            return Candidate(
                found.key, found.question, found.similarity, distance, said, None, False, "; ".join(refused)
            )
        decision = self._of(tenant).decide(found.key, Evidence(found.similarity, distance))
        return Candidate(
            found.key, found.question, found.similarity, distance, said, decision, decision.accepted, decision.why
        )


def question_of(row: Row) -> str:
    """What an answer was given to; empty where the row holds no question."""
    try:
        question = row.fields["question"]
    except (KeyError, ValueError):
        return ""
    return question if isinstance(question, str) else ""


def wording_distance(one: Text, other: Text) -> float:
    """Share of the words that only one of two questions has, 0 to 1."""
    first, second = set(one.words), set(other.words)
    return 1.0 - len(first & second) / len(first | second) if first | second else 0.0
