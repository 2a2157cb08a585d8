"""Engines that take turns: never two at once, nobody twice while another one waits."""

from __future__ import annotations

import threading

import pytest

from miaotui.engine.heartbeat import Heartbeat
from miaotui.engine.step_turns import StepTurns


def test_two_take_turns_and_are_never_there_together() -> None:
    turns, order, inside = StepTurns(), list[str](), list[str]()
    both = threading.Barrier(2)
    overlaps: list[tuple[str, ...]] = []

    def run(name: str) -> None:
        both.wait()
        for _ in range(200):
            with turns:
                inside.append(name)
                if len(inside) > 1:
                    overlaps.append(tuple(inside))
                order.append(name)
                sum(range(200))  # for the other one to ask for its turn meanwhile
                inside.remove(name)

    threads = [threading.Thread(target=run, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not overlaps
    assert sorted(order) == ["a"] * 200 + ["b"] * 200


def test_who_waits_comes_before_who_comes_again() -> None:
    turns, order = StepTurns(), list[str]()
    asked = threading.Event()

    def other() -> None:
        asked.set()
        with turns:
            order.append("other")

    with turns:
        assert not turns.is_wanted
        thread = threading.Thread(target=other)
        thread.start()
        asked.wait()
        while not turns.is_wanted:  # until it has asked for its turn
            pass
        thread.join(0.05)
        assert not order, "it is not there yet"
    with turns:
        order.append("again")
    thread.join()
    assert order == ["other", "again"]
    assert not turns.is_wanted


def test_a_turn_ends_with_an_error_as_well() -> None:
    turns = StepTurns()
    with pytest.raises(ValueError, match="of a step"), turns:
        raise ValueError("of a step")
    with turns:  # or it would never be anybody's
        pass


def test_waiting_for_a_turn_is_no_stall() -> None:
    now = [0.0]
    beat = Heartbeat(lambda: now[0])
    beat.begin()
    beat.wait_for_turn()
    now[0] = 100.0
    beat.begin()  # as more work comes
    assert beat.stalled_s == 0
    beat.have_turn()
    now[0] = 103.0
    assert beat.stalled_s == 3.0


def test_what_went_on_before_waiting_still_counts() -> None:
    now = [0.0]
    beat = Heartbeat(lambda: now[0])
    beat.begin()
    for turn in range(1, 4):  # steps that do nothing, each after others' turns
        now[0] += 1.0
        beat.wait_for_turn()
        now[0] += 50.0
        beat.have_turn()
        assert beat.stalled_s == turn
