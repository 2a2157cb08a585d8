"""How long a step may take follows from how long steps took."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from miaotui.engine.heartbeat import Heartbeat


def step(num_tokens: int, behind: int = 0) -> list[Any]:
    return [SimpleNamespace(num_tokens=num_tokens, sequence=SimpleNamespace(num_computed_tokens=behind))]


def test_time_counts_from_the_first_work_and_from_each_beat() -> None:
    now = [10.0]
    heartbeat = Heartbeat(lambda: now[0])
    assert heartbeat.stalled_s == 0
    heartbeat.begin()
    now[0] += 3
    heartbeat.begin()
    assert heartbeat.stalled_s == 3, "more work is no sign of life"
    heartbeat.beat(step(1), 3)
    now[0] += 1
    assert heartbeat.stalled_s == 1
    heartbeat.rest()
    assert heartbeat.stalled_s == 0


@given(st.floats(1e-5, 1), st.integers(1, 64), st.integers(1, 512), st.integers(0, 8192))
def test_a_step_that_takes_as_long_as_its_work_is_never_unexpected(
    per_token_s: float, seen: int, asked: int, behind: int
) -> None:
    heartbeat = Heartbeat()
    assert heartbeat.expected_s(step(asked)) is None
    heartbeat.beat(step(seen), per_token_s * seen)
    expected_s = heartbeat.expected_s(step(asked, behind))
    assert expected_s is not None
    assert 4 * expected_s >= per_token_s * asked * (1 + behind / 1024)


def test_one_disturbed_step_is_forgotten() -> None:
    heartbeat = Heartbeat()
    heartbeat.beat(step(1), 60)
    for _ in range(100):
        heartbeat.beat(step(1), 0.01)
    assert (heartbeat.expected_s(step(1)) or 60) < 0.02
