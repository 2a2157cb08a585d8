"""Figures of given outcomes."""

from __future__ import annotations

import numpy as np
import pytest

from miaotui.errors import ConfigError
from miaotui.load.outcome import Fault, Outcome
from miaotui.load.shapes import Shape
from miaotui.load.statistics import Slo, errors_of, percentile, spread, summarize


def answer(due_s: float, *content_s: float, **more: object) -> Outcome:
    times = {
        "output_tokens": len(content_s),
        "prompt_tokens": 10,
        "end_s": content_s[-1] + 1,
        "content_s": [*content_s],
    }
    return Outcome(Shape(8, 4), due_s, due_s, **(times | more))


def failed(kind: str, detail: str = "") -> Outcome:
    return Outcome(Shape(8, 4), 0, 0, 1, fault=Fault(kind, detail))


def test_percentiles_are_numpys() -> None:
    rng = np.random.default_rng(0)
    for count in (1, 2, 3, 10, 101):
        values = sorted(rng.standard_normal(count).tolist())
        for percent in (0, 1, 50, 90, 99, 100):
            assert percentile(values, percent) == pytest.approx(np.percentile(values, percent), abs=1e-12)


def test_spread_leaves_out_what_was_not_measured() -> None:
    figures = spread([3.0, None, 1.0, 2.0])
    assert figures is not None
    assert (figures["count"], figures["mean"], figures["p50"], figures["max"]) == (3, 2, 2, 3)
    assert spread([None, None]) is None


def test_latencies_of_one_answer() -> None:
    outcome = answer(10, 12, 13, 15, output_tokens=4)
    outcome.sent_s = 11  # late, which the user waits for, too
    assert outcome.first_token_s == 2
    assert outcome.gaps_s == [1, 2]
    assert outcome.token_gap_s == 1  # four tokens in three pieces
    assert outcome.whole_s == 6
    assert answer(0, 1).token_gap_s is None


def test_summary_of_answers_and_failures() -> None:
    outcomes = [
        answer(0, 1, 2, 3),
        answer(1, 2, 4, cached_tokens=6, counted_by="pieces"),
        failed("http_429"),
        failed("timeout"),
    ]
    figures = summarize(outcomes, 10, Slo(ttft=1, itl=1))
    assert (figures["num_requests"], figures["num_ok"], figures["num_rejected"]) == (4, 2, 1)
    assert figures["output_tokens_per_s"] == 0.5
    assert figures["requests_per_s"] == 0.2
    assert figures["goodput_per_s"] == 0.1  # the second has a gap of 2 s
    assert figures["ttft_s"]["count"] == 2
    assert figures["itl_s"]["count"] == 3
    assert figures["itl_s"]["max"] == 2
    assert figures["tokens"]["counted_by"] == {"usage": 1, "pieces": 1}
    assert (figures["tokens"]["prompt"], figures["tokens"]["cached"], figures["tokens"]["output"]) == (10, 6, 2.5)
    assert summarize(outcomes, 10, Slo())["goodput_per_s"] is None


def test_failed_requests_alone_give_figures_too() -> None:
    figures = summarize([failed("timeout")], 0, Slo(ttft=1))
    assert (figures["num_ok"], figures["ttft_s"], figures["goodput_per_s"]) == (0, None, 0)
    assert summarize([], 0, Slo())["num_requests"] == 0


def test_errors_are_counted_by_kind_with_the_first_example() -> None:
    errors = errors_of([failed("a", "one"), failed("b", "x"), failed("b", "y"), answer(0, 1)])
    assert errors == {"b": {"count": 2, "example": "x"}, "a": {"count": 1, "example": "one"}}
    assert list(errors) == ["b", "a"]


@pytest.mark.parametrize(
    ("slo", "is_met"),
    [
        ("ttft=2", True), ("ttft=1.9", False), ("itl=2", True), ("itl=1.9", False), ("tpot=1.5", True),
        ("tpot=1.4", False), ("e2e=6", True), ("e2e=5.9", False), ("ttft=2, e2e=5.9", False),
    ],
)  # fmt: skip
def test_a_limit_of_the_slo_may_be_reached_but_not_passed(slo: str, is_met: bool) -> None:
    assert Slo.parse(slo).is_met(answer(10, 12, 13, 15)) == is_met


@pytest.mark.parametrize(
    "text", ["", "ttft", "ttft=", "ttft=x", "ttft=-1", "ttft=nan", "ttft=inf", "p99=1", "ttft=1;e2e=2"]
)
def test_a_wrong_slo_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ConfigError, match="as in ttft=1"):
        Slo.parse(text)
