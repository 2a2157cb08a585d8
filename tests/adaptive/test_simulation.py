"""A replay is the same every time, loses nothing on the way, and its oracle is one."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from miaotui.adaptive.simulation.box import Box, Job
from miaotui.adaptive.simulation.policies import Oracle, Policy, policies
from miaotui.adaptive.simulation.questions import Arrival, Mix, Question, questions_of
from miaotui.adaptive.simulation.regret import compare, quantile
from miaotui.adaptive.simulation.replay import Replay
from miaotui.adaptive.simulation.world import World, gain_at
from miaotui.errors import ConfigError

WORLD = World()


def asked(
    seed: int, number: int = 60, *, per_s: float = 1.0, mix: Mix | None = None, most_tokens: int = 120
) -> list[Question]:
    dice, now_s, arrivals = random.Random(seed), 0.0, []
    for _ in range(number):
        now_s += dice.expovariate(per_s)
        arrivals.append(Arrival(now_s, dice.randint(5, 600), dice.randint(1, most_tokens)))
    return questions_of(arrivals, mix or Mix(), seed)


def names_of(makers: list[Callable[[], Policy]]) -> list[str]:
    return [make().name for make in makers]


@cache
def compared(seed: int = 3, per_s: float = 1.0) -> dict[str, Any]:
    return compare(asked(seed, 150, per_s=per_s), WORLD, seed)


def test_a_seed_decides_everything() -> None:
    assert asked(5) == asked(5)
    assert asked(5) != asked(6)
    assert compare(asked(7), WORLD, 7) == compare(asked(7), WORLD, 7)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), per_s=st.sampled_from([0.1, 1.0, 4.0]))
def test_no_policy_does_better_than_the_oracle(seed: int, per_s: float) -> None:
    rows = compare(asked(seed, 80, per_s=per_s), World(exact_ms=0.0, near_ms=0.0), seed)["policies"]
    assert [row["name"] for row in rows] == names_of(policies(seed))
    for row in rows:
        assert row["mean_ms"] >= rows[0]["mean_ms"] * (1 - 1e-9), row["name"]


def test_who_lets_a_shorter_request_overtake_while_it_looks_may_win_a_little() -> None:
    rows = {row["name"]: row["mean_ms"] for row in compare(asked(297, 80), WORLD, 297)["policies"]}
    assert 0.999 * rows["oracle"] < rows["planner"] < rows["oracle"]


@pytest.mark.parametrize("per_s", [0.2, 3.0])
def test_regret_is_what_each_request_lost_added_up(per_s: float) -> None:
    rows = compared(per_s=per_s)["policies"]
    oracle = rows[0]
    assert oracle["regret"] == oracle["regret_ms"] == 0.0
    for row in rows:
        assert row["regret_ms"] == pytest.approx(150 * (row["mean_ms"] - oracle["mean_ms"]), abs=1e-6)
        assert row["regret"] == pytest.approx(row["mean_ms"] / oracle["mean_ms"] - 1)
        assert row["curves"]["lost"][-1] == [150.0, pytest.approx(row["regret_ms"] / 1e3)]


def test_every_question_is_answered_on_one_path() -> None:
    for row in compared()["policies"]:
        assert sum(row["paths"].values()) == 150
        assert all(math.isfinite(second) for second, _ in row["curves"]["took"])


def test_only_who_looks_finds_and_only_who_may_drafts() -> None:
    paths = {row["name"]: row["paths"] for row in compared()["policies"]}
    assert set(paths["always the model"]) == {"model"}
    assert set(paths["always drafting"]) == {"drafted"}
    assert "near" not in paths["kept answers first"]
    assert paths["kept answers first"]["kept"] > 0
    assert paths["near answers too"]["near"] > 0


def test_a_machine_s_work_is_the_sum_of_its_questions_when_they_come_one_by_one() -> None:
    question = Question(0, 0.0, 100, 11, 0, 0, noise=1.0)
    box = Box(WORLD, 0.0)
    job = Job(question, drafts=False, begin_ms=0.0)
    box.add(job)
    ended: list[Job] = []
    while not ended:
        ended = box.advance(math.inf)
    read_ms, _ = box._rates.step(0, reads=True)
    answer_ms, _ = box._rates.step(1, reads=False)
    assert job.read_ms == pytest.approx(read_ms * 100 / 512)
    assert job.end_ms - job.read_ms == pytest.approx(10 * answer_ms)
    assert box.busy_ms == pytest.approx(job.end_ms)
    assert box.load.num_unfinished == 0


def test_places_are_given_in_the_order_of_arrival() -> None:
    box = Box(World(max_sequences=1), 0.0)
    jobs = [Job(Question(number, 0.0, 20, 5, number, number), False, 0.0) for number in range(3)]
    for job in jobs:
        box.add(job)
    ended: list[Job] = []
    while len(ended) < 3:
        ended += box.advance(math.inf)
    assert ended == jobs
    assert jobs[0].end_ms <= jobs[1].placed_ms


def test_drafts_gain_less_the_more_answers_run() -> None:
    gains = [gain_at(1.6, number) for number in range(1, 12)]
    assert gains[0] == 1.6
    assert gains == sorted(gains, reverse=True)
    assert gains[-1] < 1.0


def test_repeats_take_the_lengths_of_what_they_repeat() -> None:
    questions = asked(9, 400, mix=Mix(repeated=0.5, reworded=0.2))
    by_text: dict[int, set[tuple[int, int]]] = {}
    for one in questions:
        by_text.setdefault(one.text, set()).add((one.prompt_tokens, one.output_tokens))
    assert all(len(lengths) == 1 for lengths in by_text.values())
    assert 0.4 < 1 - len(by_text) / 400 < 0.6
    assert any(one.near_passes for one in questions)
    assert len({one.meaning for one in questions}) < len(by_text)


def test_the_oracle_looks_only_where_there_is_something() -> None:
    outcome = Replay(asked(2, 100, mix=Mix(0.0, 0.0)), WORLD, Oracle(), 2).run()
    assert set(outcome.paths) == {"drafted"}


@cache
def worlds(seed: int) -> dict[str, dict[str, Any]]:
    """Where another fixed path is best each time."""
    usual = asked(seed, 600, per_s=0.7)
    short = asked(seed, 600, per_s=0.7, mix=Mix(repeated=0.3, reworded=0.02), most_tokens=16)
    return {
        "usual": compare(usual, WORLD, seed),
        "looks are dear": compare(short, World(near_ms=80.0), seed),
        "drafts lose": compare([replace(one, draft_gain=0.9) for one in usual], WORLD, seed),
    }


@pytest.mark.parametrize("world", ["usual", "looks are dear", "drafts lose"])
@pytest.mark.parametrize("seed", [1, 2, 4])
def test_the_planner_loses_little_to_the_oracle_and_to_the_best_fixed_path(seed: int, world: str) -> None:
    report = worlds(seed)[world]
    assert report["planner_regret"] < 0.10
    assert report["planner_to_best_fixed"] < 1.03
    assert report["error_p50"] < 0.20


def test_no_fixed_path_is_as_good_everywhere_as_the_planner() -> None:
    assert len({report["best_fixed"] for report in worlds(1).values()}) == 3
    worst: dict[str, float] = {}
    for report in worlds(1).values():
        for row in report["policies"]:
            worst[row["name"]] = max(worst.get(row["name"], 0.0), row["regret"])
    assert worst["planner"] < 0.03
    assert all(worst[name] > 0.12 for name in worst if name not in ("planner", "oracle"))


def test_prices_are_read_as_they_were_written(tmp_path: Any) -> None:
    path = tmp_path / "prices.json"
    world = World(tuple(range(1, 7)), 0.2, source="here")
    world.write(path)
    assert World.read(path) == world


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"prices_ms": [1]}', '{"prices_ms": [1,1,1,1,1,-1]}', '{"x": 1}',
             '{"prices_ms": [1,1,1,1,1,1], "max_sequences": 0}', '{"prices_ms": [1,1,1,1,1,1], "max_sequences": 0.5}',
             '{"prices_ms": [1,1,1,1,1,1], "noise": true}', '{"prices_ms": [1,1,1,1,1,1], "source": 5}']
)  # fmt: skip
def test_what_are_no_prices_is_refused(tmp_path: Any, text: str) -> None:
    path = tmp_path / "prices.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match="prices"):
        World.read(path)


def test_quantiles_are_numpy_s() -> None:
    assert [quantile([1.0, 2.0, 4.0], share) for share in (0.0, 0.25, 0.5, 1.0)] == [1.0, 1.5, 2.0, 4.0]
