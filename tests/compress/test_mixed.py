"""Mixes of types: the best for what they cost, within the limits, or an error that says what would be possible."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from miaotui.compress.mixed import Item, Mix, Option, choose, frontier
from miaotui.errors import ConfigError
from miaotui.formats.weights import TensorType

KINDS = (TensorType.Q4_0, TensorType.Q5_0, TensorType.Q6_K, TensorType.Q8_0)
options = st.builds(
    Option,
    st.sampled_from(KINDS),
    st.integers(1, 60),
    st.floats(0.01, 5, allow_subnormal=False),
    st.floats(0, 1, allow_subnormal=False),
)
problems = st.lists(st.lists(options, min_size=1, max_size=4), min_size=1, max_size=4).map(
    lambda lists: [Item((f"t{k}",), tuple(some)) for k, some in enumerate(lists)]
)


def every_mix(items: list[Item]) -> list[tuple[float, float, float]]:
    combinations = itertools.product(*(item.options for item in items))
    return [
        (sum(o.num_bytes for o in some), math.fsum(o.seconds for o in some), math.fsum(o.loss for o in some))
        for some in combinations
    ]


@given(problems)
def test_no_mix_of_the_same_bytes_loses_less(items: list[Item]) -> None:
    everything = every_mix(items)
    steps = list(frontier(items, lambda o: o.num_bytes))
    for step in steps:
        assert step.loss <= min(loss for size, _, loss in everything if size <= step.num_bytes) + 1e-9
    assert steps[0].num_bytes == min(size for size, _, _ in everything)
    assert steps[-1].loss == pytest.approx(min(loss for _, _, loss in everything))


@given(problems, st.integers(1, 200), st.floats(0.05, 20))
def test_a_choice_keeps_within_every_limit(items: list[Item], max_bytes: int, max_seconds: float) -> None:
    possible = [m for m in every_mix(items) if m[0] <= max_bytes and m[1] <= max_seconds]
    try:
        mix = choose(items, max_bytes=max_bytes, max_seconds=max_seconds)
    except ConfigError:
        return  # sums of weights do not reach every mix between the hull's corners
    assert possible
    assert mix.num_bytes <= max_bytes
    assert mix.seconds <= max_seconds
    assert mix.loss >= min(loss for _, _, loss in possible) - 1e-9


def one_item(*losses: float) -> list[Item]:
    return [
        Item(
            ("a", "b"), tuple(Option(k, 10 + i, 1.0 + i, x) for i, (k, x) in enumerate(zip(KINDS, losses, strict=True)))
        )
    ]


def test_the_smallest_mix_within_a_loss_is_chosen() -> None:
    mix = choose(one_item(0.9, 0.4, 0.2, 0.1), max_loss=0.25)
    assert mix == Mix({"a": TensorType.Q6_K, "b": TensorType.Q6_K}, 12, 3.0, 0.2)


def test_impossible_limits_say_what_is_possible() -> None:
    with pytest.raises(ConfigError, match=r"the least is 0\.1"):
        choose(one_item(0.9, 0.4, 0.2, 0.1), max_loss=0.01)
    with pytest.raises(ConfigError, match="the smallest has 0 MB"):
        choose(one_item(0.9, 0.4, 0.2, 0.1), max_bytes=5)
