"""What is counted, for Prometheus."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterator

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from miaotui import __version__
from miaotui.adaptive.planner import regret_ms
from miaotui.core import Plan, Receipt
from miaotui.engine.async_embedder import AsyncEmbedder
from miaotui.engine.async_llm import AsyncLLM
from miaotui.engine.results import Completion
from miaotui.server.recent import Recent

disable_created_metrics()  # type: ignore[no-untyped-call]  # a line more for each series, which nobody asks for

_SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
_INTERVALS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
_RATIOS = (0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0)
_SEQUENCES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)


class Metrics:
    """Counters of one server, in a registry of its own. Engines come and go; the counters go on."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        self.recent_first, self.recent_gaps, self.recent_tokens = Recent(), Recent(), Recent()

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"miaotui_{name}", text, labels, registry=registry)

        def histogram(name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
            return Histogram(f"miaotui_{name}", text, buckets=buckets, registry=registry)

        self.rejected = counter("rejected", "requests refused before they reached the engine, by reason", "reason")
        self.restarts = counter("engine_restarts", "times the engine was started anew")
        self.hangs = counter("engine_hangs", "times a step was given up")
        self.num_log_lines_dropped: Callable[[], int] = lambda: 0  # or what the log says
        registry.register(_LogLines(self))
        self._replies = counter("replies", "replies by route and status", "route", "status")
        self._finished = counter("finished", "sequences by how they ended", "reason")
        self._prompt = counter("prompt_tokens", "tokens of prompts")
        self._cached = counter("cached_tokens", "of these, found in the prefix cache")
        self._prefix_hits = counter("prefix_hits", "requests whose beginning was found in the prefix cache")
        self._output = counter("output_tokens", "tokens generated")
        self._drafted = counter("drafted_tokens", "tokens guessed ahead")
        self._accepted = counter("accepted_tokens", "of these, those that the model said")
        self._kept = counter("kept_answers", "requests answered without the model, by path", "path")
        for path in ("memory", "store", "curated", "near", "shared"):
            self._kept.labels(path)  # a series that begins at 0, for rates
        self._saved = counter("saved_seconds", "what those answers took to compute")
        self._planned = counter("planned", "requests that were planned, by the path that led to their answer", "path")
        for path in ("kept", "near", "cascade", "drafted", "prefix", "model"):
            self._planned.labels(path)
        self._explored = counter("plans_explored", "of these, chosen to learn, not because they seemed cheapest")
        self._plan_error = histogram("plan_error_ratio", "by what share predictions of time were wrong", _RATIOS)
        self._regret = counter("plan_regret_seconds", "longer than the best other path was expected to take; estimated")
        self._cascaded = counter("cascaded", "requests that a small model was asked first, by its outcome", "outcome")
        for outcome in ("sufficed", "asked_on", "failed"):
            self._cascaded.labels(outcome)
        self._deadlines = counter("deadlines", "requests with a deadline, by what became of it", "outcome")
        for outcome in ("refused", "met", "cut"):
            self._deadlines.labels(outcome)
        self._embedded_texts = Counter("miaotui_embedded_texts", "texts turned into embeddings", registry=None)
        self._embedded_tokens = Counter("miaotui_embedded_tokens", "tokens of these texts", registry=None)
        self._queue = histogram("queue_seconds", "from asking to the first step", _SECONDS)
        self._first = histogram("first_token_seconds", "from asking to the first token", _SECONDS)
        self._gap = histogram("token_interval_seconds", "between an answer's tokens", _INTERVALS)
        self._whole = histogram("answer_seconds", "from asking to the last token", _SECONDS)
        self._step = histogram("step_seconds", "one step of the engine", _INTERVALS)
        self._together = histogram("step_sequences", "sequences that take part in a step", _SEQUENCES)
        start = Gauge("miaotui_start_time_seconds", "when the server started (Unix time)", registry=registry)
        start.set(time.time())

    def describe(self, model_name: str) -> None:
        """Show what runs here."""
        names = ("version", "python", "model")
        build = Gauge("miaotui_build_info", "what runs here", names, registry=self._registry)
        build.labels(__version__, platform.python_version(), model_name).set(1)

    def attach_embedder(self, embedder: AsyncEmbedder) -> None:
        """Show what becomes of texts that are to be turned into vectors."""
        self._registry.register(self._embedded_texts)
        self._registry.register(self._embedded_tokens)
        gauge = Gauge("miaotui_embedding_texts_waiting", "texts that wait for embeddings", registry=self._registry)
        gauge.set_function(lambda: embedder.num_waiting)

    def embedded(self, num_texts: int, num_tokens: int) -> None:
        """Count texts that were turned into vectors."""
        self._embedded_texts.inc(num_texts)
        self._embedded_tokens.inc(num_tokens)

    def attach(self, llm: AsyncLLM) -> None:
        """Show the state of an engine."""
        for name, text, value in (
            ("requests_running", "sequences that take part in steps", lambda: llm.num_running),
            ("requests_waiting", "sequences that wait for a place", lambda: llm.num_waiting),
            ("kv_pages", "pages of KV memory", lambda: llm.pool.num_blocks),
            ("kv_pages_used", "pages that running sequences use", lambda: llm.pool.num_blocks - llm.pool.num_free),
            ("kv_pages_cached", "unused pages with a prefix worth finding", lambda: llm.pool.num_idle),
            (
                "preemptions",
                "sequences sent back for want of pages, or for another's turn",
                lambda: llm.num_preemptions,
            ),
            ("stalled_seconds", "for how long the step under way has been going on", lambda: llm.stalled_s),
        ):
            Gauge(f"miaotui_{name}", text, registry=self._registry).set_function(value)

    def replied(self, route: str, status: int) -> None:
        """Count a reply. route: a pattern of the route table, so that there are few."""
        self._replies.labels(route, str(status)).inc()

    def stepped(self, seconds: float, num_sequences: int) -> None:
        """Count a step."""
        self._step.observe(seconds)
        self._together.observe(num_sequences)

    def gap(self, seconds: float) -> None:
        """Count the time between two tokens of an answer."""
        self._gap.observe(seconds)
        self.recent_gaps.add(seconds)

    def shared(self) -> None:
        """Count a request that reads what is computed for another one."""
        self._kept.labels("shared").inc()

    def found(self, receipt: Receipt) -> None:
        """Count a request that the model was not asked for."""
        self.recent_first.add(receipt.first_token_s)
        self._kept.labels(receipt.path).inc()
        self._saved.inc(receipt.saved_s)

    def observe(self, completion: Completion) -> None:
        """Count a request's sequences; times only of those that had them."""
        self._prompt.inc(completion.receipt.prompt_tokens)
        self._cached.inc(completion.receipt.cached_tokens)
        self._prefix_hits.inc(completion.receipt.cached_tokens > 0)
        for one in (completion, *completion.others):
            receipt = one.receipt
            self._finished.labels(one.finish_reason).inc()
            self._output.inc(receipt.output_tokens)
            self._drafted.inc(receipt.drafted_tokens)
            self._accepted.inc(receipt.accepted_tokens)
            self.recent_tokens.add(receipt.output_tokens)
            if one.finish_reason != "cancelled":
                self.recent_first.add(receipt.first_token_s)
                self._queue.observe(receipt.queue_s)
                self._first.observe(receipt.first_token_s)
                self._whole.observe(receipt.first_token_s + receipt.decode_s)

    def planned(self, plan: Plan, took_s: float, *, was_cut: bool) -> None:
        """Count a request that was planned and has ended, by itself or by its deadline; only the former tells more."""
        self._planned.labels(plan.path).inc()
        self._explored.inc(plan.explored)
        if plan.deadline_ms is not None:
            self._deadlines.labels("cut" if was_cut else "met").inc()
        if not was_cut and took_s > 0:
            self._plan_error.observe(abs(plan.predicted_ms / (took_s * 1e3) - 1.0))
            self._regret.inc(regret_ms(plan, took_s * 1e3) / 1e3)

    def cascaded(self, outcome: str) -> None:
        """Count a request that a small model was asked: that "sufficed", the model was "asked_on", or it "failed"."""
        self._cascaded.labels(outcome).inc()

    def refused_deadline(self) -> None:
        """Count a request that could not be answered in time."""
        self._deadlines.labels("refused").inc()

    def text(self) -> bytes:
        """All of it, in Prometheus' format."""
        return generate_latest(self._registry)


class _LogLines(Collector):
    """Shows what the log counts itself: it knows no metrics."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[CounterMetricFamily]:
        """One series."""
        num_dropped = self._metrics.num_log_lines_dropped()
        yield CounterMetricFamily("miaotui_log_lines_dropped", "log lines that found no room", value=num_dropped)
