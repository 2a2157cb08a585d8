"""Runs with fewer threads than there are, and when the pool chooses to have fewer."""

from __future__ import annotations

import random

from miaotui import _native
from native.small_model import python

STEP_S = 0.004
BUSY = (STEP_S, 0.4 * STEP_S)  # a neighbour takes part of one thread's core
FREE = (STEP_S, 0.001 * STEP_S)


def test_a_run_has_the_threads_it_asked_for_in_any_order() -> None:
    counts = random.Random(3).choices([1, 2, 3, 4, 5], k=20_000)
    done = python(
        f"from miaotui import _native; print(_native.exercise_pool({counts}) == {counts})", MIAOTUI_THREADS="5"
    )
    assert done.stdout.strip() == "True", done.stderr


def test_crowded_threads_retreat_and_return_when_there_is_room() -> None:
    assert set(_native.worthwhile_threads(2, [FREE] * 500)) == {2}
    crowded = _native.worthwhile_threads(2, [BUSY] * 20)
    assert crowded[:5] == [2] * 5
    assert crowded[5:] == [1] * 15
    assert _native.worthwhile_threads(2, [BUSY] * 20 + [FREE] * 200)[-1] == 2
    assert set(_native.worthwhile_threads(1, [BUSY] * 500)) == {1}
    a_little = (STEP_S, 0.15 * STEP_S)  # the other thread's help is worth more
    assert set(_native.worthwhile_threads(2, [a_little] * 500)) == {2}
    assert min(_native.worthwhile_threads(8, [a_little] * 500)) < 8


def test_while_the_neighbour_stays_attempts_become_rare() -> None:
    def lost(threads: int) -> tuple[float, float]:
        return BUSY if threads == 2 else FREE

    runs: list[tuple[float, float]] = []
    while len(runs) < 2500:  # what a step loses depends on the threads it got
        runs.append(lost(_native.worthwhile_threads(2, [*runs, FREE])[-1]))
    threads = _native.worthwhile_threads(2, runs)
    assert threads[:1000].count(2) <= 40
    assert threads[1500:].count(2) <= 20
    assert threads[1500:].count(2) >= 5


def test_many_threads_retreat_one_by_one() -> None:
    threads = _native.worthwhile_threads(8, [BUSY] * 40)
    assert threads == sorted(threads, reverse=True)
    assert threads[-1] == 1
