"""`miaotui why` tells which paths there were, what was expected of each, what was chosen and what came of it."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import pytest

from miaotui.answers.cache import AnswerCache, opened
from miaotui.answers.decision import Decision
from miaotui.answers.setup import open_cache
from miaotui.cli import main
from miaotui.core import Candidate, Plan, Receipt

PLAN = Plan(
    "drafted",
    520.0,
    "the cheapest of 2",
    (
        Candidate("kept", 400.0, 0.3, refused="tried in vain"),
        Candidate("drafted", 520.0),
        Candidate("model", 610.0),
    ),
    deadline_ms=900.0,
    queue_ms=20.0,
    read_ms=100.0,
    token_ms=4.0,
    output_tokens=101.0,
)
SECRET = "a secret of at least sixteen letters"


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MIAOTUI_HOME", str(tmp_path))
    monkeypatch.setenv("MIAOTUI_CACHE_SECRET", SECRET)
    return tmp_path / "answers.sqlite"


def keep(store: Path, plan: dict[str, Any] | None) -> None:
    cache = open_cache([f"sqlite:{store}"], store.parent, memory_bytes=1 << 20, store_bytes=1 << 24, secret=SECRET)

    async def note(cache: AnswerCache) -> None:
        async with opened(cache):
            cache.note(Decision("r1", "", "model", "nobody has asked this before", time.time(), "Is it on?", plan=plan))

    assert cache is not None
    asyncio.run(note(cache))


def test_candidates_predictions_choice_and_outcome_are_told(store: Path, capfd: pytest.CaptureFixture[str]) -> None:
    keep(store, Receipt("model", "", 9, 0, 101, 0.03, 0.1, 0.45, 0, plan=PLAN).planned)
    assert main(["why", "r1", "--store", f"sqlite:{store}"]) == 0
    lines = [" ".join(line.split()) for line in capfd.readouterr().out.splitlines()]
    for line in (
        "chosen path drafted: the cheapest of 2",
        "predicted, took 520.0 ms, 580.0 ms",
        "made of waiting 20.0 ms, reading 100.0 ms, 101 tokens at 4.00 ms",
        "deadline 900.0 ms",
        "path kept 400.0 ms expected, suffices with probability 0.30; not taken: tried in vain",
        "path drafted 520.0 ms expected",
        "path model 610.0 ms expected",
    ):
        assert line in lines
    assert main(["why", "r1", "--store", f"sqlite:{store}", "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["plan"]["actual_ms"] == 580.0


def test_a_request_that_nobody_planned_is_told_without(store: Path, capfd: pytest.CaptureFixture[str]) -> None:
    keep(store, None)
    assert main(["why", "r1", "--store", f"sqlite:{store}"]) == 0
    out = capfd.readouterr().out
    assert "nobody has asked this before" in out
    assert "predicted" not in out
