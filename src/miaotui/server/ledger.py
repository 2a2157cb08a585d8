"""What is known of each request while it is answered, and what is written down when it has ended."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from miaotui.adaptive.planner import Planner
from miaotui.engine.results import Completion
from miaotui.engine.step_work import StepWork
from miaotui.engine.watcher import Watcher
from miaotui.server.logs import clean, line_of
from miaotui.server.metrics import Metrics
from miaotui.server.planning import Learner
from miaotui.server.settings import ServerSettings


@dataclass(slots=True)
class Entry:
    """One request. Its answers are added as they end; it is closed when the reply and all of them have."""

    request_id: str
    method: str
    path: str
    tenant: str = ""
    key_name: str | None = None
    route: str = "other"
    status: int = 0
    error: str | None = None
    start_s: float = field(default_factory=time.monotonic)
    first_byte_s: float | None = None
    end_s: float | None = None
    num_open: int = 1  # the reply itself, and each answer that it waits for
    answer_path: str | None = None
    prompt_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    finish_reasons: list[str] = field(default_factory=list)

    def add(self, completion: Completion) -> None:
        """Count an answer's tokens."""
        self.answer_path = completion.receipt.path
        self.prompt_tokens += completion.receipt.prompt_tokens
        self.cached_tokens += completion.receipt.cached_tokens
        for one in (completion, *completion.others):
            self.output_tokens += one.receipt.output_tokens
            self.finish_reasons.append(one.finish_reason)

    def fields(self) -> dict[str, Any]:
        """As a log line shows it; times in milliseconds."""
        end_s = time.monotonic() if self.end_s is None else self.end_s
        first_s = self.first_byte_s
        return {
            "id": self.request_id,
            "tenant": self.tenant or None,
            "key_name": self.key_name,
            "method": clean(self.method, 20),
            "path": clean(self.path),
            "status": self.status,
            "ms": round((end_s - self.start_s) * 1e3, 1),
            "first_byte_ms": None if first_s is None else round((first_s - self.start_s) * 1e3, 1),
            "answer": self.answer_path,
            "prompt_tokens": self.prompt_tokens,
            "cached_tokens": self.cached_tokens,
            "output_tokens": self.output_tokens,
            "finish": ",".join(dict.fromkeys(self.finish_reasons)) or None,
            "error": self.error,
        }


current: ContextVar[Entry | None] = ContextVar("miaotui_entry", default=None)
"""The request that is being answered, in its task and those it starts."""


class Ledger(Watcher):
    """Opens and closes entries; tells the metrics, whoever spends tokens, and the log.

    write: takes each finished line. spend: takes a tenant and the tokens of one of its requests. planner: learns from
    steps, and from what came of the requests it planned.
    """

    def __init__(
        self,
        settings: ServerSettings,
        metrics: Metrics,
        write: Callable[[str], None] | None = None,
        spend: Callable[[str, int], None] | None = None,
        planner: Planner | None = None,
    ) -> None:
        self.metrics = metrics
        self._format = settings.log_format
        self._write = write
        self._spend = spend
        self._planner = planner
        self._learner = None if planner is None else Learner(planner)

    def open(self, method: str, path: str, wanted_id: str) -> Entry:
        """A request begins. wanted_id: what the client wants it to be called; followed if it is harmless."""
        harmless = re.fullmatch(r"[A-Za-z0-9._-]{1,128}", wanted_id)
        entry = Entry(wanted_id if harmless else uuid.uuid4().hex, method, path)
        current.set(entry)
        return entry

    def close(self, entry: Entry) -> None:
        """Its reply has ended, one way or the other."""
        entry.end_s = time.monotonic()
        self.metrics.replied(entry.route, entry.status)
        self._release(entry)

    def refused(self, entry: Entry | None, status: int, reason: str) -> None:
        """A connection has answered so itself, for want of patience, room or sense. entry: of a request that had begun,
        which is closed as all are; else it is written down here."""
        self.metrics.rejected.labels(reason).inc()
        ended = Entry("none", "-", "-") if entry is None else entry
        ended.status, ended.error = status, f"refused: {reason}"
        if entry is None:
            self.close(ended)

    def asked(self) -> None:
        """The entry stays open until this answer has ended."""
        entry = current.get()
        if entry is not None:
            entry.num_open += 1

    def stepped(self, seconds: float, num_sequences: int) -> None:
        """Count a step."""
        self.metrics.stepped(seconds, num_sequences)

    def worked(self, work: StepWork, seconds: float) -> None:
        """Learn what steps cost."""
        if self._learner is not None:
            self._learner.worked(work, seconds)

    def gap(self, seconds: float) -> None:
        """Count the time between two tokens."""
        self.metrics.gap(seconds)

    def ended(self, completion: Completion | None, error: Exception | None) -> None:
        """Count an answer, and charge it to whoever asked."""
        entry = current.get()
        if completion is not None:
            self.metrics.observe(completion)
            self._planned(completion, "" if entry is None else entry.tenant)
        if entry is None:
            return
        if completion is not None:
            self._charge(entry, completion)
        if error is not None:
            entry.error = entry.error or type(error).__name__
        self._release(entry)

    def shared(self) -> None:
        """Count an answer that is computed for another request anyway."""
        self.metrics.shared()

    def found(self, completion: Completion) -> None:
        """Count an answer that was not computed for this request; it is charged to nobody."""
        entry = current.get()
        self.metrics.found(completion.receipt)
        self._planned(completion, "" if entry is None else entry.tenant)
        if entry is not None:
            entry.add(completion)

    def cascaded(self, completion: Completion) -> None:
        """Count an answer that a small model gave, and charge it to whoever asked."""
        entry = current.get()
        self.metrics.observe(completion)
        self._planned(completion, "" if entry is None else entry.tenant)
        if entry is not None:
            self._charge(entry, completion)

    def tried(self, completion: Completion) -> None:
        """Charge an answer of a small model that did not suffice: it was computed all the same."""
        entry = current.get()
        if entry is not None and self._spend is not None:
            self._spend(entry.tenant, completion.receipt.prompt_tokens + completion.receipt.output_tokens)

    def embedded(self, num_texts: int, num_tokens: int) -> None:
        """Count texts that were turned into vectors, and charge them to whoever asked."""
        self.metrics.embedded(num_texts, num_tokens)
        entry = current.get()
        if entry is not None:
            entry.prompt_tokens += num_tokens
            if self._spend is not None:
                self._spend(entry.tenant, num_tokens)

    def _charge(self, entry: Entry, completion: Completion) -> None:
        entry.add(completion)
        if self._spend is not None:
            tokens = sum(one.receipt.output_tokens for one in (completion, *completion.others))
            self._spend(entry.tenant, completion.receipt.prompt_tokens + tokens)

    def _planned(self, completion: Completion, tenant: str) -> None:
        """Compare what was expected with what came; what was left says nothing of what it would have taken."""
        every = (completion, *completion.others)
        reasons = {one.finish_reason for one in every}
        receipt = max((one.receipt for one in every), key=lambda one: one.whole_s)  # all are there with the last one
        plan = completion.receipt.plan
        if plan is None or not reasons <= {"stop", "length", "repetition", "deadline"}:
            return
        self.metrics.planned(plan, receipt.whole_s, was_cut="deadline" in reasons)
        if self._planner is not None:
            learn = self._planner.cut if "deadline" in reasons else self._planner.learn
            learn(plan, receipt, tenant)

    def _release(self, entry: Entry) -> None:
        entry.num_open -= 1
        if entry.num_open == 0 and self._write is not None and self._format != "none":
            self._write(line_of(entry.fields(), self._format))
