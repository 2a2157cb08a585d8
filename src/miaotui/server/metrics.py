"""What is counted, for Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from miaotui.engine.async_llm import AsyncLLM
from miaotui.engine.results import Completion

_SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
_INTERVALS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)


class Metrics:
    """Counters of one server, in a registry of its own."""

    def __init__(self, llm: AsyncLLM) -> None:
        self._registry = registry = CollectorRegistry()
        pool = llm.llm.loaded.engine.scheduler.pool
        for name, text, value in (
            ("miaotui_requests_running", "sequences that take part in steps", lambda: llm.num_running),
            ("miaotui_requests_waiting", "sequences that wait for a place", lambda: llm.num_waiting),
            ("miaotui_kv_pages", "pages of KV memory", lambda: pool.num_blocks),
            ("miaotui_kv_pages_used", "pages that running sequences use", lambda: pool.num_blocks - pool.num_free),
            ("miaotui_kv_pages_cached", "unused pages with a prefix worth finding", lambda: pool.num_idle),
            ("miaotui_preemptions", "sequences sent back for want of pages", lambda: llm.num_preemptions),
        ):
            Gauge(name, text, registry=registry).set_function(value)
        self.rejected = Counter("miaotui_rejected", "requests refused for overload", registry=registry)
        self.errors = Counter("miaotui_replies", "replies by status", ["status"], registry=registry)
        self._finished = Counter("miaotui_finished", "sequences by how they ended", ["reason"], registry=registry)
        self._prompt = Counter("miaotui_prompt_tokens", "tokens of prompts", registry=registry)
        self._cached = Counter("miaotui_cached_tokens", "of these, found in the prefix cache", registry=registry)
        self._output = Counter("miaotui_output_tokens", "tokens generated", registry=registry)
        self._first = Histogram(
            "miaotui_first_token_seconds", "from asking to the first token", buckets=_SECONDS, registry=registry
        )
        self._interval = Histogram(
            "miaotui_token_interval_seconds",
            "mean time between an answer's tokens",
            buckets=_INTERVALS,
            registry=registry,
        )
        self._whole = Histogram(
            "miaotui_answer_seconds", "from asking to the last token", buckets=_SECONDS, registry=registry
        )

    def observe(self, completion: Completion) -> None:
        """Count a request's sequences."""
        self._prompt.inc(completion.receipt.prompt_tokens)
        self._cached.inc(completion.receipt.cached_tokens)
        for one in (completion, *completion.others):
            receipt = one.receipt
            self._finished.labels(one.finish_reason).inc()
            self._output.inc(receipt.output_tokens)
            self._first.observe(receipt.first_token_s)
            self._whole.observe(receipt.first_token_s + receipt.decode_s)
            if receipt.output_tokens > 1:
                self._interval.observe(receipt.decode_s / (receipt.output_tokens - 1))

    def text(self) -> bytes:
        """All of it, in Prometheus' format."""
        return generate_latest(self._registry)
