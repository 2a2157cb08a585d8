"""What the engine's thread does while nobody asks for anything."""

from __future__ import annotations

import threading

import pytest

from engine.fakes import make_engine
from miaotui.engine import engine_thread
from miaotui.engine.engine import Engine
from miaotui.engine.engine_thread import EngineThread
from miaotui.engine.heartbeat import Heartbeat


class Pauses(Heartbeat):
    """Counts how often the thread begins to wait."""

    num_rests = 0

    def rest(self) -> None:
        self.num_rests += 1
        super().rest()


def test_one_pause_is_enough_to_keep_all_pages_and_whoever_comes_goes_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(engine_thread, "QUIET_S", 0.01)
    engine, _ = make_engine()
    came, all_saved = threading.Event(), threading.Event()
    calls: list[str] = []
    pauses = Pauses()

    def save(max_pages: int | None = None) -> bool:
        calls.append("save")
        if len(calls) == 3:
            thread.submit(command)
        if len(calls) == 40:
            all_saved.set()
        return len(calls) >= 40

    def command(engine: Engine) -> None:
        calls.append("command")
        came.set()

    monkeypatch.setattr(engine, "save_prefixes", save)
    thread = EngineThread(engine, pauses, lambda step: None, lambda error: None)
    assert came.wait(60)
    assert all_saved.wait(60)
    assert thread.close(60)
    assert calls[:4] == ["save", "save", "save", "command"]
    assert pauses.num_rests <= 4
