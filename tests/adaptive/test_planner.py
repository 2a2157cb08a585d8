"""What is cheapest is chosen, by the formula, of what is allowed and in time; chances and trials keep their bounds."""

from __future__ import annotations

import random
from statistics import fmean
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptive.test_costs import taught
from miaotui.adaptive.chances import Chances
from miaotui.adaptive.costs import CostModel
from miaotui.adaptive.exploration import Exploration
from miaotui.adaptive.paths import Facts, Path, Policy, kept_paths, paths_of
from miaotui.adaptive.planner import TOO_LATE, TRIED_AFTER, Planner, expected, regret_ms
from miaotui.core import Candidate, Plan, Receipt
from miaotui.engine.prospect import Load, Prospect
from miaotui.errors import DeadlineError, InvalidRequestError

LARGE = Path("large", 1000.0)
COSTS = st.floats(0.01, 1e5)


def planner(**options: Any) -> Planner:
    options.setdefault("exploration", Exploration(share=0.0))
    return Planner(CostModel(taught(1, 300, outliers=0.0)), **options)


@given(p=st.floats(0, 0.999), optimal=COSTS, costs=st.lists(COSTS, min_size=1, max_size=5))
def test_expectation_is_the_formula(p: float, optimal: float, costs: list[float]) -> None:
    assert expected(p, optimal, costs) == pytest.approx(p * optimal + (1 - p) * fmean(costs))


def test_what_always_suffices_costs_what_it_costs() -> None:
    assert expected(1.0, 7.0, [100.0]) == expected(0.3, 7.0, []) == 7.0


@pytest.mark.parametrize(
    ("chance", "look_ms", "wasted_ms", "chosen"),
    [
        (0.5, 10.0, 10.0, "gamble"),
        (0.02, 10.0, 10.0, "gamble"),  # 0.02 * 10 + 0.98 * 1010 = 990
        (0.005, 10.0, 10.0, "large"),
        (0.4, 10.0, 700.0, "large"),
        (0.9, 400.0, 700.0, "gamble"),
    ],
)
def test_a_gamble_is_taken_where_its_expectation_is_less(
    chance: float, look_ms: float, wasted_ms: float, chosen: str
) -> None:
    plan = planner().choose([Path("gamble", look_ms, chance, wasted_ms), LARGE])
    assert plan.path == chosen
    by_name = {one.path: one.expected_ms for one in plan.candidates}
    assert by_name["gamble"] == pytest.approx(chance * look_ms + (1 - chance) * (wasted_ms + 1000))
    assert plan.predicted_ms == min(by_name.values())


def test_a_failed_gamble_is_followed_by_any_of_the_sure_paths() -> None:
    paths = [Path("gamble", 10.0, 0.5, 20.0), Path("one", 100.0), Path("other", 300.0), Path("forbidden", 9000.0)]
    plan = planner().choose(paths, Policy(frozenset({"gamble", "one", "other"})))
    assert plan.candidates[0].expected_ms == pytest.approx(0.5 * 10 + 0.5 * (20 + 200))


def test_a_cascade_s_small_model_is_one_more_path() -> None:
    small = Path("small", 150.0, chance=0.8, wasted_ms=160.0, quality=0.97)
    assert planner().choose([small, LARGE], Policy(floor=0.95)).path == "small"
    plan = planner().choose([small, LARGE], Policy(floor=0.99))
    assert plan.path == "large"
    assert plan.candidates[0].refused == "below the quality floor of 0.99"


def test_no_path_is_taken_that_the_policy_forbids() -> None:
    paths = [Path("kept", 1.0, 0.9, 1.0), Path("drafted", 500.0), LARGE]
    for names in (["large"], ["drafted", "large"], ["kept", "large"]):
        assert planner().choose(paths, Policy(frozenset(names))).path in names
    with pytest.raises(InvalidRequestError, match="no path"):
        planner().choose(paths, Policy(frozenset()))


def test_a_fixed_planner_takes_the_first_path_that_is_open_and_still_predicts() -> None:
    paths = [Path("near", 10.0, 0.001, 500.0), LARGE]
    plan = planner(adaptive=False).choose(paths)
    assert (plan.path, len(plan.candidates)) == ("near", 2)
    assert planner(adaptive=False).choose(paths, Policy(frozenset({"large"}))).path == "large"


def ask(tokens: int = 200, prompt: int = 100, **facts: Any) -> Prospect:
    return Prospect(prompt, 0, tokens, Load(), will_fill=True, **facts)


def test_a_deadline_that_cannot_be_met_is_refused_with_what_would_fit() -> None:
    by = planner()
    plan = by.admit(ask())
    deadline_ms = 0.6 * plan.predicted_ms
    with pytest.raises(DeadlineError, match="max_tokens of") as refused:
        by.admit(ask(), deadline_ms=deadline_ms)
    error = refused.value
    assert (error.predicted_ms, error.deadline_ms) == (plan.predicted_ms, deadline_ms)
    assert 0 < error.fits_tokens < 200
    assert by.admit(ask(error.fits_tokens), deadline_ms=deadline_ms).predicted_ms <= deadline_ms
    with pytest.raises(DeadlineError):
        by.admit(ask(error.fits_tokens + 10), deadline_ms=deadline_ms)


def test_a_deadline_leaves_room_for_the_usual_error() -> None:
    by = planner()
    ms, margin = by.admit(ask()).predicted_ms, by.costs.margin
    assert margin >= 0.1
    with pytest.raises(DeadlineError):
        by.admit(ask(), deadline_ms=ms * (1 + 0.9 * margin))
    assert by.admit(ask(), deadline_ms=ms * (1 + 1.01 * margin)).deadline_ms is not None


def test_trials_under_way_are_on_the_account_before_they_end() -> None:
    by = planner(exploration=Exploration(share=0.01, chance=1.0, seed=2))
    by.exploration.earn(100_000.0)
    tried = sum(by.choose([Path("cheap", 100.0), Path("dear", 400.0)]).explored for _ in range(50))
    assert tried == 3


def test_a_prompt_too_long_for_the_deadline_fits_no_answer_at_all() -> None:
    with pytest.raises(DeadlineError, match="nothing but a kept answer") as refused:
        planner().admit(ask(prompt=5000), deadline_ms=20.0)
    assert refused.value.fits_tokens == 0


def test_nothing_is_refused_before_anything_is_known() -> None:
    assert Planner().admit(ask(), deadline_ms=0.001).path == "model"


def test_a_deadline_is_met_by_a_dearer_path_that_is_sure_to_be_in_time() -> None:
    by = planner()
    by.costs._error.observe(0.0)
    gamble, sure = Path("gamble", 10.0, 0.9, 900.0), Path("sure", 700.0)
    assert by.choose([gamble, sure]).path == "gamble"
    plan = by.choose([gamble, sure], deadline_ms=1000.0)
    assert plan.path == "sure"
    assert plan.candidates[0].refused == TOO_LATE


def test_where_only_a_kept_answer_could_be_in_time_it_is_looked_for() -> None:
    facts = Facts(ask(), exact=None)
    assert planner().look(facts, deadline_ms=5.0).path == "kept"


def test_chances_are_learned_and_never_a_tenant_s_from_another_s() -> None:
    chances = Chances()
    first = chances.of("exact", "a")
    for number in range(300):
        chances.observe("exact", "a", sufficed=number % 5 == 0)
        chances.observe("exact", "b", sufficed=True)
    assert chances.of("exact", "a") == pytest.approx(0.2, abs=0.05)
    assert chances.of("exact", "b") > 0.95
    assert chances.of("exact", "c") == chances.of("exact", "c") == first


def test_chances_stay_bounded_in_number() -> None:
    chances = Chances()
    for number in range(3000):
        chances.observe("near", str(number), sufficed=False)
    assert len(chances._seen) <= 1024


def test_a_path_that_never_pays_is_given_up_and_taken_again_when_it_does() -> None:
    by = planner()
    facts = Facts(ask(tokens=10), exact=None, near=None)
    for _ in range(60):
        by.looked("", 0.1, exact=False, near=False)
    assert by.look(facts).path == "kept"
    for _ in range(60):
        by.looked("", 0.1, exact=False, near=True)
    assert by.look(facts).path == "near"


def test_near_answers_are_as_good_as_the_share_of_them_that_is_right() -> None:
    by = planner()
    facts = Facts(ask(), exact=None, near=None, near_quality=0.99)
    near, kept = kept_paths(facts, by.costs, by.chances)
    assert near.quality == 0.99
    assert kept.quality == 1.0
    assert by.look(facts, Policy(floor=0.995)).path != "near"


@pytest.mark.parametrize("share", [0.0, 0.01, 0.1])
def test_trials_cost_no_more_than_their_share_of_the_time(share: float) -> None:
    dice = random.Random(3)
    by = planner(exploration=Exploration(share, chance=1.0, seed=4))
    longest = 0.0
    for _ in range(3000):
        dear = 1000.0 + dice.uniform(0, 400)
        plan = by.choose([Path("cheap", 1000.0), Path("dear", dear)])
        actual_ms = (1000.0 if plan.path == "cheap" else dear) * dice.uniform(0.8, 1.2)
        longest = max(longest, actual_ms - 1000.0)
        by.learn(plan, Receipt("model", "", 1, 0, 1, 0.0, actual_ms / 1e3, 0.0, 0), "")
    exploration = by.exploration
    assert exploration.spent_ms <= share * exploration.total_ms + longest
    assert (exploration.spent_ms > 0) == (share > 0)


def test_nobody_with_a_deadline_is_made_to_try() -> None:
    by = planner(exploration=Exploration(share=1.0, chance=1.0, seed=1))
    by.exploration.earn(1e9)
    paths = [Path("cheap", 10.0), Path("dear", 20.0)]
    assert any(by.choose(paths).explored for _ in range(20))
    assert not any(by.choose(paths, deadline_ms=1e6).explored for _ in range(20))


def test_regret_is_what_was_lost_to_the_cheapest_path_that_was_open() -> None:
    candidates = (Candidate("a", 100.0), Candidate("b", 60.0), Candidate("c", 1.0, refused="not allowed"))
    plan = Plan("a", 100.0, "", candidates)
    assert regret_ms(plan, 130.0) == 70.0
    assert regret_ms(Plan("b", 60.0, "", candidates), 75.0) == 0.0  # the others would have taken longer still
    assert regret_ms(plan, 50.0) == regret_ms(Plan("a", 1.0, ""), 9.0) == 0.0


def test_a_plan_says_what_was_tried_in_vain_before() -> None:
    tried = (Candidate("kept", 5.0, 0.3, refused="tried in vain"),)
    plan = planner().admit(ask(can_draft=True), tried=tried)
    assert [one.path for one in plan.candidates] == ["kept", "drafted", "model"]
    assert plan.num_beside == 0
    told = plan.told()
    assert told["candidates"][0]["refused"] == "tried in vain"
    assert told["predicted_ms"] == pytest.approx(plan.predicted_ms, abs=0.001)


@pytest.mark.parametrize(
    ("best", "other", "tells"),
    [
        ("near", "kept", False),
        ("near", "drafted", False),
        ("kept", "near", True),
        ("drafted", "model", False),
        ("model", "drafted", True),
        ("model", "kept", True),
    ],
)
def test_only_what_tells_something_is_tried(best: str, other: str, *, tells: bool) -> None:
    by = planner()
    paths = paths_of(Facts(ask(can_draft=True), exact=None, near=None), by.costs, by.chances)
    by_name = {path.name: path for path in paths}
    assert by_name[other].tells_more(by_name[best]) is tells
    assert Path("small", 1.0, 0.5).tells_more(LARGE)
    assert not LARGE.tells_more(LARGE)


def test_a_kept_answer_teaches_nothing_of_computing() -> None:
    by = planner()
    before = by.costs.forecast(ask(), "").read_ms
    for _ in range(50):  # people's own answers are found for requests whose answers are never kept, too
        plan = by.found(by.look(Facts(ask())), near=False)
        by.learn(plan, Receipt("curated", "", 10, 10, 20, 0.0, 0.0005, 0.0, 0, plan=plan), "")
    assert by.costs.forecast(ask(), "").read_ms == before
    assert by.costs.margin < 1.0


def test_where_the_model_is_too_late_a_kept_answer_is_looked_for_however_unlikely() -> None:
    by = planner()
    for _ in range(500):
        by.looked("", 0.2, exact=False)
    facts = Facts(ask(), exact=None)
    assert by.look(facts).path == "model", "looking costs more than it is likely to save"
    assert by.look(facts, deadline_ms=1.0).path == "kept"


def test_of_many_refusals_on_end_one_is_let_try() -> None:
    by = planner()
    refused = 0
    for _ in range(2 * TRIED_AFTER):
        try:
            plan = by.admit(ask(), deadline_ms=0.01)
        except DeadlineError:
            refused += 1
        else:
            assert (plan.deadline_ms, plan.explored) == (0.01, False)
            assert "let try" in plan.why
    assert refused == 2 * (TRIED_AFTER - 1)


def test_an_answer_cut_behind_its_expected_length_is_expected_to_be_longer() -> None:
    by = planner()
    unknown = Prospect(100, 0, 400, Load())
    plan = by.admit(unknown, deadline_ms=1e9)
    assert plan.output_tokens < 300
    for _ in range(30):
        by.cut(plan, Receipt("model", "", 10, 0, 300, 0.0, 0.1, 1.0, 0, plan=plan), "")
    assert by.admit(unknown).output_tokens == 300
    for _ in range(30):
        by.cut(plan, Receipt("model", "", 10, 0, 3, 0.0, 0.1, 1.0, 0, plan=plan), "")
    assert by.admit(unknown).output_tokens == 300, "one that was cut early says nothing"
