"""What is counted is what happened, and the dashboard asks for nothing that is not counted."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from miaotui.cli.serve_models import Served
from miaotui.server.guard import Guard
from miaotui.server.logs import LogWriter
from miaotui.server.settings import ServerSettings
from server.conftest import Running

DASHBOARD = Path(__file__).resolve().parents[2] / "docs" / "grafana-dashboard.json"
CHAT: dict[str, Any] = {
    "messages": [{"role": "user", "content": "the cat and the other cat"}],
    "max_tokens": 9,
    "ignore_eos": True,
}


class Samples:
    """/metrics as numbers, by name and labels."""

    def __init__(self, running: Running) -> None:
        self.values: dict[tuple[str, ...], float] = {}
        self.labels: dict[str, set[str]] = {}
        for family in text_string_to_metric_families(httpx.get(running.url + "/metrics").text):
            for sample in family.samples:
                self.values[(sample.name, *sample.labels.values())] = sample.value
                self.labels.setdefault(sample.name, set()).update(sample.labels)

    def __call__(self, name: str, *labels: str) -> float:
        return self.values.get((f"miaotui_{name}", *labels), 0.0)


def test_numbers_follow_what_happened(start: Any) -> None:
    with start({"context_length": 1000}) as running:
        before = Samples(running)
        for _ in range(2):
            assert httpx.post(running.url + "/v1/chat/completions", json=CHAT).status_code == 200
        httpx.post(running.url + "/v1/chat/completions", json={})
        httpx.get(running.url + "/v1/models/tiny")
        httpx.get(running.url + "/no/such/route")
        long = {"prompt": "a", "max_tokens": 900, "stream": True, "ignore_eos": True, "logprobs": 5}
        with httpx.stream("POST", running.url + "/v1/completions", json=long) as reply:
            next(reply.iter_lines())
        running.until(lambda: Samples(running)("finished_total", "cancelled") == 1)
        after = Samples(running)

    def gained(name: str, *labels: str) -> float:
        return after(name, *labels) - before(name, *labels)

    assert gained("replies_total", "/v1/chat/completions", "200") == 2
    assert gained("replies_total", "/v1/chat/completions", "400") == 1
    assert gained("replies_total", "/v1/models/{name:path}", "200") == 1
    assert gained("replies_total", "other", "404") == 1
    assert gained("finished_total", "length") == 2
    assert gained("answer_seconds_count") == gained("first_token_seconds_count") == gained("queue_seconds_count") == 2
    assert gained("output_tokens_total") >= 18
    assert gained("prefix_hits_total") == 1
    assert 0 < gained("cached_tokens_total") < gained("prompt_tokens_total")
    assert gained("token_interval_seconds_count") >= 16
    assert gained("step_seconds_count") == gained("step_sequences_count") >= 17
    assert gained("step_sequences_sum") >= gained("step_sequences_count")
    assert after("kv_pages") >= after("kv_pages_cached") > 0
    assert after("requests_running") == after("requests_waiting") == after("engine_restarts_total") == 0
    assert any(key[0] == "miaotui_build_info" and "tiny" in key for key in after.values)


def test_the_dashboard_asks_for_metrics_and_labels_that_exist(start: Any, tiny_bert: Path) -> None:
    with start({"max_sequences": 1, "encoder": tiny_bert}, rate_limit_requests=1) as running:
        assert [httpx.post(running.url + "/v1/chat/completions", json=CHAT).status_code for _ in range(2)] == [200, 429]
        samples = Samples(running)
    panels = json.loads(DASHBOARD.read_text())["panels"]
    asked: set[str] = set()
    for panel in panels:
        for target in panel["targets"]:
            names = re.findall(r"miaotui_[a-z_]+", target["expr"])
            assert names, target
            labels = set(re.findall(r"by \(([a-z, ]+)\)", target["expr"])) | set(
                re.findall(r"{{(\w+)}}", target["legendFormat"])
            )
            for name in names:
                assert name in samples.labels, f"{panel['title']}: {name}"
                assert labels <= samples.labels[name], f"{panel['title']}: {name} {labels}"
            asked |= {re.sub("_(bucket|sum|count)$", "", name) for name in names}
    kept = {re.sub("_(bucket|sum|count)$", "", name) for name in samples.labels}
    assert kept - asked == {"miaotui_build_info", "miaotui_start_time_seconds"}, "what is counted is shown somewhere"
    assert len({panel["id"] for panel in panels}) == len(panels)


def test_log_lines_that_found_no_room_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("miaotui.server.logs.MAX_LINES_WAITING", 3)
    log = LogWriter(io.StringIO())
    app = Served(None, None, "none", None).app(ServerSettings("none"), log)
    counts = [dropped_lines(app)]
    with log._changed:  # nobody takes lines out meanwhile
        for number in range(10):
            log.write(f"line {number}")
    counts.append(dropped_lines(app))
    log.close(60)
    assert counts == [0, 7]


def dropped_lines(app: Guard) -> float:
    families = text_string_to_metric_families(app.ledger.metrics.text().decode())
    (sample,) = [one for family in families for one in family.samples if one.name == "miaotui_log_lines_dropped_total"]
    return sample.value


@pytest.mark.parametrize("path", ["/metrics", "//metrics"])
def test_metrics_are_prometheus_text(running: Running, path: str) -> None:
    reply = httpx.get(running.url + path)
    assert reply.headers["content-type"].startswith("text/plain; version=0.0.4")
