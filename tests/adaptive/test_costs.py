"""Prices are found again under noise and hiccups, sums follow them, and what lasts is followed."""

from __future__ import annotations

import itertools
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from miaotui.adaptive.answer_length import FIRST_TOKENS, AnswerLengths
from miaotui.adaptive.costs import CostModel
from miaotui.adaptive.drift import Drift
from miaotui.adaptive.energy import Consumption, EnergyUse
from miaotui.adaptive.robust_fit import RobustFit
from miaotui.adaptive.step_time import PRIOR_MS, StepTime
from miaotui.adaptive.typical import Typical
from miaotui.core import Plan, Receipt
from miaotui.energy import find_energy
from miaotui.engine.prospect import Load, Prospect
from miaotui.engine.step_work import StepWork

TRUE_MS = (7.0, 0.8, 2.1, 1.3, 0.2, 0.35)


def works(dice: random.Random, number: int) -> list[StepWork]:
    """Steps as a busy server makes them: mostly answers alone, some with a prompt's part beside them."""
    found = []
    for _ in range(number):
        answers = dice.randint(0, 12)
        prompt = 0 if answers and dice.random() < 0.6 else dice.choice((2, 17, 64, 200, 512))
        pairs = (answers + prompt) * dice.uniform(0, 1500) / 1024
        found.append(StepWork(answers, prompt, 0, answers + (prompt > 0), pairs))
    return found


def true_ms(work: StepWork) -> float:
    tokens = work.num_tokens
    few, some, many = min(tokens, 4), min(max(tokens - 4, 0), 28), max(tokens - 32, 0)
    features = (1.0, few, some, many, work.num_logit_rows, work.num_pairs)
    return sum(price * feature for price, feature in zip(TRUE_MS, features, strict=True))


def taught(seed: int, number: int, *, outliers: float, noise: float = 0.08, slower: float = 1.0) -> StepTime:
    dice, steps = random.Random(seed), StepTime()
    for work in works(dice, number):
        ms = true_ms(work) * slower * dice.lognormvariate(0, noise)
        steps.observe(work, ms / 1e3 * (dice.uniform(3, 40) if dice.random() < outliers else 1.0))
    return steps


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32), outliers=st.sampled_from([0.0, 0.03]))
def test_planted_prices_are_found_under_noise_and_hiccups(seed: int, outliers: float) -> None:
    steps = taught(seed, 600, outliers=outliers)
    asked = works(random.Random(seed + 1), 200)
    wrong = sorted(abs(steps.ms(work) / true_ms(work) - 1) for work in asked)
    assert wrong[len(wrong) // 2] < 0.12
    assert wrong[int(0.95 * len(wrong))] < 0.3


@pytest.mark.parametrize("seed", [9, 20, 26, 55, 57])
def test_a_first_step_that_was_slow_is_no_measure_of_the_machine(seed: int) -> None:
    dice, steps = random.Random(seed), StepTime()
    for at, work in enumerate(works(dice, 600)):
        steps.observe(work, true_ms(work) * dice.lognormvariate(0, 0.08) * (40 if at == 0 else 1) / 1e3)
    wrong = sorted(abs(steps.ms(work) / true_ms(work) - 1) for work in works(random.Random(seed + 1), 200))
    assert wrong[int(0.95 * len(wrong))] < 0.3


def test_one_hiccup_does_not_ruin_what_was_learned() -> None:
    steps = taught(5, 400, outliers=0.0)
    work = StepWork(1, 0, 0, 1, 0.1)
    before = steps.ms(work)
    steps.observe(work, 100 * before / 1e3)
    assert steps.ms(work) < 1.1 * before


def test_a_machine_that_became_slower_is_followed() -> None:
    steps, dice = taught(6, 400, outliers=0.0), random.Random(7)
    for work in works(dice, 60):
        steps.observe(work, 2 * true_ms(work) / 1e3)
    work = StepWork(4, 0, 0, 4, 1.0)
    assert 1.6 * true_ms(work) < steps.ms(work) < 2.4 * true_ms(work)


def test_prices_are_never_negative_and_more_work_never_costs_less() -> None:
    steps = taught(8, 300, outliers=0.1, noise=0.3)
    assert min(steps.prices_ms) >= 0
    sizes = [steps.ms(StepWork(1, number, 0, 1)) for number in (0, 1, 3, 8, 31, 32, 64, 512)]
    assert all(one <= more for one, more in itertools.pairwise(sizes))


def test_no_price_becomes_negative_where_more_seems_to_cost_less() -> None:
    fit = RobustFit([1.0, 1.0])
    for number in range(200):
        amount = float(number % 10)
        fit.observe([1.0, amount], 10.0 - 0.9 * amount)
    assert min(fit.coefficients) >= 0


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
def test_nothing_is_learned_of_what_is_no_cost(value: float) -> None:
    fit = RobustFit(PRIOR_MS)
    fit.observe([1.0] * 6, value)
    drift = Drift()
    drift.observe(1.0, value)
    drift.observe(0.0, 1.0)
    assert (fit.num_seen, drift.num_seen, drift.factor) == (0, 0, 1.0)


def prospect(prompt: int = 100, cached: int = 0, tokens: int = 50, **load: int) -> Prospect:
    return Prospect(prompt, cached, tokens, Load(**load), will_fill=True)


@pytest.fixture(scope="module")
def model() -> CostModel:
    return CostModel(taught(9, 600, outliers=0.0))


@pytest.mark.parametrize(
    ("cheaper", "dearer"),
    [
        (prospect(100), prospect(200)),
        (prospect(400, cached=320), prospect(400)),
        (prospect(tokens=10), prospect(tokens=20)),
        (prospect(), prospect(num_answering=4)),
        (prospect(num_answering=15), prospect(num_answering=16)),
        (prospect(num_answering=16, num_waiting=1), prospect(num_answering=16, num_waiting=9)),
    ],
    ids=["prompt", "prefix", "answer", "company", "no place", "others wait"],
)
def test_more_to_do_takes_longer(model: CostModel, cheaper: Prospect, dearer: Prospect) -> None:
    assert model.forecast(cheaper, "").ms < model.forecast(dearer, "").ms


def test_an_idle_machine_s_forecast_is_its_steps_added_up(model: CostModel) -> None:
    forecast = model.forecast(prospect(600, tokens=3), "")
    reading = [StepWork(0, part, 0, 0, part * 300 / 1024) for part in (512, 88)]
    assert forecast.read_ms == pytest.approx(sum(map(true_ms, reading)), rel=0.2)
    assert forecast.ms == forecast.queue_ms + forecast.read_ms + 2 * forecast.token_ms
    assert forecast.tokens_within(forecast.ms) in (2, 3)
    assert forecast.tokens_within(forecast.read_ms / 2) == 0


def ended(plan: Plan, slower: float) -> Receipt:
    tokens = 11
    decode_ms = plan.token_ms * (tokens - 1) * slower
    return Receipt(
        "model", "", 9, 0, tokens, plan.queue_ms * slower / 1e3, plan.read_ms * slower / 1e3, decode_ms / 1e3, 0,
    )  # fmt: skip


def planned(model: CostModel, asked: Prospect, path: str = "model", gain: float = 1.0) -> Plan:
    f = model.forecast(asked, "").sped_up(gain)
    return Plan(
        path, f.ms, "", queue_ms=f.queue_ms, read_ms=f.read_ms, token_ms=f.token_ms, output_tokens=f.output_tokens,
        num_beside=asked.load.num_unfinished, corrections=f.corrections, draft_gain=gain,
    )  # fmt: skip


def test_what_requests_take_corrects_forecasts_at_that_load_only() -> None:
    model = CostModel(taught(9, 600, outliers=0.0))
    busy, idle = prospect(num_answering=5), prospect()
    first, alone = model.forecast(busy, "").ms, model.forecast(idle, "").ms
    for number in range(40):
        plan = planned(model, busy)
        slower = 30.0 if number == 20 else 1.5 * first / plan.predicted_ms
        model.observe_request(plan, ended(plan, slower))
    assert model.forecast(busy, "").ms == pytest.approx(1.5 * first, rel=0.1)
    assert model.forecast(idle, "").ms == alone


@pytest.mark.parametrize(
    "asked",
    [prospect(num_answering=3), prospect(3000, tokens=2, num_answering=3), prospect(5, tokens=1, num_answering=16)],
    ids=["answering", "reading", "waiting"],
)
def test_requests_planned_at_once_do_not_correct_the_same_thing_again_and_again(asked: Prospect) -> None:
    model = CostModel(taught(9, 600, outliers=0.0))
    model._residence_s = Typical(1000.0)  # which waiting follows from; what is seen of it is no matter here
    model._residence_s.observe = lambda value: None  # type: ignore[method-assign]
    plans = [planned(model, asked) for _ in range(60)]
    for plan in plans:
        model.observe_request(plan, ended(plan, 1.4))
    assert planned(model, asked).predicted_ms == pytest.approx(1.4 * plans[0].predicted_ms, rel=0.05)


def test_a_drafter_s_gain_is_what_came_of_its_steps_at_that_load() -> None:
    model = CostModel(taught(9, 600, outliers=0.0))
    for answers, said, drafted in ((1, 2.0, 2), (8, 9.0, 8)):
        for _ in range(1500):
            work = StepWork(answers, 0, drafted, answers + drafted, 0.1, num_draftable=answers, num_said=said)
            model.observe_step(work, true_ms(work) / 1e3)
            model.observe_step(StepWork(answers, 9, 0, answers, 0.1, answers, float(answers)), true_ms(work) / 1e3)
    plain, with_drafts = true_ms(StepWork(1, 0, 0, 1, 0.1)), true_ms(StepWork(1, 0, 2, 3, 0.1))
    assert model.draft_gain(Load()) == pytest.approx(2 * plain / with_drafts, rel=0.1)
    assert model.draft_gain(Load(num_answering=7)) < 1.0


def test_answers_that_nobody_drafts_say_nothing_of_what_drafts_gain() -> None:
    model = CostModel()
    first = model.draft_gain(Load())
    for _ in range(100):
        model.observe_step(StepWork(1, 0, 0, 1, 0.1, num_draftable=0, num_said=1.0), 0.01)
    assert model.draft_gain(Load()) == first > 1.0


def test_lengths_are_a_tenant_s_own() -> None:
    lengths = AnswerLengths()
    for _ in range(5):
        lengths.observe("a", 500, 20)
    assert lengths.expect("a", 500) == lengths.expect("a", 9000) == 20
    assert lengths.expect("a", 7) == 7
    assert lengths.expect("b", 500) == FIRST_TOKENS


def zone(folder: Path, name: str, kind: str, energy_uj: int) -> Path:
    path = folder / name
    path.mkdir()
    for file, text in (("name", kind), ("energy_uj", str(energy_uj)), ("max_energy_range_uj", "1000000")):
        (path / file).write_text(text + "\n")
    return path


def test_joules_are_counted_over_packages_and_past_their_range(tmp_path: Path) -> None:
    first = zone(tmp_path, "intel-rapl:0", "package-0", 900_000)
    zone(tmp_path, "intel-rapl:0:0", "core", 5)
    zone(tmp_path, "intel-rapl:1", "psys", 5)
    use = EnergyUse(find_energy(tmp_path)[0])
    before = use.total()
    (first / "energy_uj").write_text("100000\n")
    assert use.unit == "J"
    assert use.total() - before == pytest.approx(0.2)


def test_without_a_readable_meter_it_is_processor_time_and_called_so() -> None:
    use = EnergyUse(None, lambda: 3.5)
    assert (use.unit, use.total()) == ("CPU-s", 3.5)


def test_energy_is_learned_while_steps_take_most_of_the_time() -> None:
    now = used = 0.0
    consumption = Consumption(EnergyUse(None, lambda: used), lambda: now)
    for pause in (0.0, 0.0, 9.0, 0.0):
        now, used = now + 0.6 + pause, used + 1.2 + 0.1 * pause
        consumption.observe(0.6)
    assert consumption.per_busy_s == pytest.approx(2.0)
