"""What a latency run measures is written down, gaps and all."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import server_latency


@contextmanager
def ready(model: Path, home: str) -> Iterator[tuple[str, float]]:
    yield "http://127.0.0.1:1", 0.5


def test_file_holds_every_run_and_every_gap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gaps = [0.01] * 99 + [0.03]
    monkeypatch.setattr(server_latency, "ready", ready)
    monkeypatch.setattr(server_latency, "resolve", Path)
    monkeypatch.setattr(server_latency, "without_text", lambda model: {})
    monkeypatch.setattr(
        server_latency, "first_token_s", lambda url, seed, question: 2.0 if "about" in question else 0.1
    )
    monkeypatch.setattr(server_latency, "gaps_s", lambda url, num, seed, beside, bias: list(gaps))
    out = tmp_path / "out.json"
    monkeypatch.setattr(sys, "argv", ["server_latency.py", "--runs", "3", "--out", str(out), "model.gguf"])
    server_latency.main()
    record = json.loads(out.read_text())
    assert record["figures"]["the same tokens after a restart, share of that"]["samples"] == [0.05] * 3
    assert record["figures"]["4 streams beside 4,000 tokens: gap p99, times the median alone"]["median"] == 3.0
    assert record["gaps_s"]["1 streams beside 4,000 tokens"] == [gaps] * 3
    assert record["gaps_s"]["4 streams alone"] == [gaps * 2] * 3
    assert record["model"] == "model.gguf"
