"""Sampling parameters refuse what is out of range, whatever it is."""

from __future__ import annotations

import math
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from miaotui.core import Receipt, SamplingParams
from miaotui.errors import InvalidRequestError

NUMBERS = ("temperature", "top_p", "min_p", "repetition_penalty", "presence_penalty", "frequency_penalty")
INTEGERS = ("top_k", "seed", "min_tokens", "max_tokens", "n", "logprobs", "prompt_logprobs")


@pytest.mark.parametrize("name", NUMBERS + INTEGERS)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -1e30, 1e30, 2**80, "1", [1], b"1", True, 1j, {}])
def test_no_number_accepts_what_is_not_finite_or_no_number(name: str, value: Any) -> None:
    with pytest.raises(InvalidRequestError, match=name):
        SamplingParams(**{name: value})


@pytest.mark.parametrize(
    ("name", "least", "most"),
    [
        ("temperature", 0.0, 100.0),
        ("top_p", 1e-9, 1.0),
        ("min_p", 0.0, 1.0),
        ("repetition_penalty", 0.01, 10.0),
        ("presence_penalty", -2.0, 2.0),
        ("frequency_penalty", -2.0, 2.0),
        ("top_k", -1, 2**31 - 1),
        ("seed", -(2**63), 2**64 - 1),
        ("max_tokens", 0, 2**31 - 1),
        ("n", 1, 8),
        ("logprobs", 0, 20),
        ("prompt_logprobs", 0, 20),
    ],
)
def test_ranges_include_their_ends_and_nothing_beyond(name: str, least: float, most: float) -> None:
    for value in (least, most):
        assert getattr(SamplingParams(**{name: value}), name) == value
    step = 1 if name in INTEGERS else 1e-6
    for value in (least - step, most + step):
        with pytest.raises(InvalidRequestError, match=name):
            SamplingParams(**{name: value})


def test_top_p_must_be_greater_than_zero() -> None:
    with pytest.raises(InvalidRequestError, match="top_p must be greater than 0"):
        SamplingParams(top_p=0.0)


@pytest.mark.parametrize("name", ["temperature", "top_k", "n", "min_tokens", "ignore_eos", "min_p"])
def test_only_optional_parameters_may_be_none(name: str) -> None:
    with pytest.raises(InvalidRequestError, match=name):
        SamplingParams(**{name: None})
    assert SamplingParams(seed=None, max_tokens=None, logprobs=None, prompt_logprobs=None).max_tokens is None


def test_numpy_scalars_become_plain_numbers() -> None:
    params = SamplingParams(temperature=np.float32(0.5), top_k=np.int64(3), stop_token_ids=[np.int32(7)])
    assert (type(params.temperature), type(params.top_k), params.stop_token_ids) == (float, int, (7,))


def test_stop_accepts_one_string_or_several_within_bounds() -> None:
    assert SamplingParams(stop="x").stop == ("x",)
    assert SamplingParams(stop=["x", "yy"]).stop == ("x", "yy")
    assert SamplingParams(stop=None).stop == ()
    for bad in (["x"] * 17, [""], ["x" * 1025], [1], 5, [None], {"x": 1}):
        with pytest.raises(InvalidRequestError, match="stop"):
            SamplingParams(stop=bad)


@pytest.mark.parametrize("bad", [[-1], [2**40], ["5"], [1.0], [True], "12", 5, list(range(300))], ids=str)
def test_stop_token_ids_must_be_few_token_ids(bad: Any) -> None:
    with pytest.raises(InvalidRequestError, match="stop_token_ids"):
        SamplingParams(stop_token_ids=bad)


@pytest.mark.parametrize(
    "bad", [{-1: 1.0}, {1: 101.0}, {1: math.nan}, {"1": 1.0}, [(1, 1.0)], dict.fromkeys(range(1025), 0.0)], ids=repr
)
def test_logit_bias_must_map_few_token_ids_to_bounded_numbers(bad: Any) -> None:
    with pytest.raises(InvalidRequestError, match="logit_bias"):
        SamplingParams(logit_bias=bad)


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        ({"max_pattern_size": 4}, "must have max_pattern_size and min_count"),
        ({"max_pattern_size": 4, "min_count": 2, "size": 1}, "must be an object of"),
        ({"max_pattern_size": 4, "min_count": 1}, "min_count must be a whole number from 2"),
        ({"max_pattern_size": 0, "min_count": 2}, "max_pattern_size must be a whole number from 1 to 1024"),
        ({"max_pattern_size": 1025, "min_count": 2}, "max_pattern_size must be a whole number from 1 to 1024"),
        ({"max_pattern_size": 4, "min_count": 2, "min_pattern_size": 5}, "min_pattern_size .5. is more than"),
        ([4, 2], "must be an object of"),
        ("4,2", "must be an object of"),
    ],
)
def test_circles_are_described_in_whole_numbers_within_bounds(bad: Any, why: str) -> None:
    with pytest.raises(InvalidRequestError, match=f"repetition_detection.*{why}"):
        SamplingParams(repetition_detection=bad)


def test_minimum_above_maximum_is_refused() -> None:
    with pytest.raises(InvalidRequestError, match=r"min_tokens \(5\) is more than max_tokens \(4\)"):
        SamplingParams(min_tokens=5, max_tokens=4)
    assert SamplingParams(min_tokens=5, max_tokens=None).min_tokens == 5


def test_changed_copies_and_checks_and_names_unknown_parameters() -> None:
    params = SamplingParams(temperature=0.3)
    assert params.changed(top_k=4) == SamplingParams(temperature=0.3, top_k=4)
    assert params.top_k == 0
    with pytest.raises(InvalidRequestError, match="top_k"):
        params.changed(top_k=-5)
    with pytest.raises(InvalidRequestError, match=r"unknown parameter max_token;.*max_tokens"):
        params.changed(max_token=4)


@given(
    st.dictionaries(
        st.sampled_from(NUMBERS + INTEGERS + ("stop", "stop_token_ids", "logit_bias", "ignore_eos")),
        st.one_of(
            st.none(),
            st.booleans(),
            st.integers(),
            st.floats(),
            st.text(max_size=3),
            st.lists(st.integers() | st.text(max_size=2), max_size=3),
            st.dictionaries(st.integers(), st.floats(), max_size=3),
        ),
        max_size=4,
    )
)
def test_anything_is_accepted_or_refused_with_the_typed_error(values: dict[str, Any]) -> None:
    try:
        params = SamplingParams(**values)
    except InvalidRequestError:
        return
    assert all(math.isfinite(getattr(params, name)) for name in NUMBERS)


def test_receipt_derives_latency_and_rate() -> None:
    receipt = Receipt("model", "", 10, 0, 5, queue_s=1.0, prefill_s=2.0, decode_s=2.0, seed=0)
    assert receipt.first_token_s == 3.0
    assert receipt.tokens_per_s == 2.0
    assert Receipt("model", "", 10, 0, 1, queue_s=1.0, prefill_s=2.0, decode_s=0.0, seed=0).tokens_per_s is None


def test_core_imports_nothing_beyond_the_standard_library() -> None:
    code = "import sys, miaotui.core; print(*(n.partition('.')[0] for n in sys.modules))"
    names = set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())
    assert "miaotui" in names
    assert not names & {"numpy", "tokenizers", "jinja2", "torch", "transformers", "huggingface_hub"}
