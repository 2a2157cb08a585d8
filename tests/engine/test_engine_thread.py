"""What the engine's thread does while nobody asks for anything."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import cast

import pytest

from engine.fakes import make_engine
from miaotui.engine import engine_thread
from miaotui.engine.engine import Engine
from miaotui.engine.engine_thread import EngineThread
from miaotui.engine.heartbeat import Heartbeat
from miaotui.engine.step_turns import StepTurns
from miaotui.engine.tuner import Tuner


class Pauses(Heartbeat):
    """Counts how often the thread begins to wait."""

    num_rests = 0

    def rest(self) -> None:
        self.num_rests += 1
        super().rest()


class EndlessTuner:
    """Measures until it is called away."""

    is_done = False

    def __init__(self) -> None:
        self.begun, self.ended = threading.Event(), threading.Event()

    def go_on(self, budget_s: float, may_go_on: Callable[[], bool]) -> None:
        self.begun.set()
        while may_go_on():
            time.sleep(0.001)
        self.is_done = True
        self.ended.set()


def test_measuring_gives_way_to_the_step_of_another_engine_and_to_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_thread, "QUIET_S", 0.01)
    turns = StepTurns()
    for end in (False, True):
        engine, _ = make_engine()
        tuner = EndlessTuner()
        engine.tuners.append(cast(Tuner, tuner))
        thread = EngineThread(engine, Pauses(), lambda step: None, lambda error: None, turns)
        assert tuner.begun.wait(60)
        assert not tuner.ended.wait(0.01)
        if not end:
            with turns:
                assert tuner.is_done
        assert thread.close(60)
        assert tuner.is_done


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
