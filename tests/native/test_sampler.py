"""The native sampler against its plain NumPy oracle."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from miaotui import _native
from miaotui.errors import ModelFileError
from native.sampling_oracle import Oracle, philox, uniform


def make(vocab_size: int, prompt: Any = (), **options: Any) -> _native.Sampler:
    return _native.Sampler(vocab_size, prompt=np.array(prompt, np.int32), **options)


def logits_row(seed: int, vocab_size: int, spread: float, *, ties: bool = False) -> np.ndarray:
    values = np.random.default_rng(seed).standard_normal((1, vocab_size)) * spread
    return (np.round(values) if ties else values).astype(np.float32)


shapes = st.fixed_dictionaries(
    {
        "temperature": st.sampled_from([0.0, 0.2, 0.7, 1.0, 1.7]),
        "top_k": st.sampled_from([0, 1, 2, 7, 50, 1023, 1500, 10**6]),
        "top_p": st.sampled_from([1.0, 0.999, 0.9, 0.5, 1e-6]),
        "min_p": st.sampled_from([0.0, 1e-4, 0.05, 0.5, 1.0]),
        "seed": st.integers(0, 2**64 - 1),
        "stream": st.integers(0, 7),
    }
)
penalties = st.fixed_dictionaries(
    {
        "repetition_penalty": st.sampled_from([1.0, 1.3, 0.8]),
        "presence_penalty": st.sampled_from([0.0, 1.5, -2.0]),
        "frequency_penalty": st.sampled_from([0.0, 0.5, -0.7]),
        "min_tokens": st.integers(0, 4),
        "masked_ids": st.lists(st.integers(0, 39), max_size=3),
        "logit_bias": st.dictionaries(st.integers(0, 39), st.floats(-100, 100, width=32), max_size=4).map(
            lambda d: list(d.items())
        ),
    }
)


@given(
    shapes,
    st.sampled_from([3, 17, 300, 2048, 5000]),
    st.sampled_from([0.01, 1.0, 4.0, 30.0]),
    st.booleans(),
    st.integers(0, 10**6),
)
def test_kept_tokens_and_draw_equal_the_oracle(
    options: dict[str, Any], vocab_size: int, spread: float, ties: bool, seed: int
) -> None:
    logits = logits_row(seed, vocab_size, spread, ties=ties)
    sampler, oracle = make(vocab_size, **options), Oracle(vocab_size, **options)
    ids, probabilities, clear = oracle.kept(logits[0])
    assume(clear)
    native = sampler.distribution(logits, 0)
    assert [token for token, _ in native] == ids.tolist()
    np.testing.assert_allclose([p for _, p in native], probabilities, rtol=2e-5, atol=1e-9)
    token, clear = oracle.sample(logits[0])
    assume(clear)
    assert sampler.sample(logits, 0) == token


@given(
    penalties,
    shapes,
    st.lists(st.integers(0, 39), max_size=12),
    st.lists(st.integers(0, 39), max_size=6),
    st.integers(0, 10**6),
)
def test_history_changes_logits_as_in_the_oracle(
    options: dict[str, Any], shape: dict[str, Any], prompt: list[int], output: list[int], seed: int
) -> None:
    options = shape | options
    logits = logits_row(seed, 40, 3.0)
    sampler, oracle = make(40, prompt, **options), Oracle(40, prompt=prompt, **options)
    for token in output:
        sampler.accept(token)
        oracle.output.append(token)
    ids, probabilities, clear = oracle.kept(logits[0])
    assume(clear)
    native = sampler.distribution(logits, 0)
    assert [token for token, _ in native] == ids.tolist()
    np.testing.assert_allclose([p for _, p in native], probabilities, rtol=1e-4, atol=1e-9)
    token, clear = oracle.sample(logits[0])
    assume(clear)
    assert sampler.sample(logits, 0) == token


@pytest.mark.parametrize("vocab_size", [1, 15, 16, 17, 49152, 151936])
def test_greedy_takes_the_lowest_of_equal_maxima(vocab_size: int) -> None:
    sampler = make(vocab_size, temperature=0.0)
    rng = np.random.default_rng(vocab_size)
    for _ in range(20):
        logits = np.round(rng.standard_normal((1, vocab_size)) * 2).astype(np.float32)
        assert sampler.sample(logits, 0) == int(np.argmax(logits[0]))


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("position", [0, 5, 31, 32, 40])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_logits_that_are_no_numbers_are_a_typed_error(temperature: float, position: int, bad: float) -> None:
    logits = np.zeros((1, 41), np.float32)
    logits[0, position] = bad
    with pytest.raises(ModelFileError, match="logits"):
        make(41, temperature=temperature).sample(logits, 0)


def test_masked_logits_alone_are_a_typed_error_and_never_drawn_otherwise() -> None:
    logits = np.full((1, 20), -np.inf, np.float32)
    with pytest.raises(ModelFileError, match="not finite"):
        make(20).sample(logits, 0)
    logits[0, 13] = -50.0
    assert {make(20, seed=seed).sample(logits, 0) for seed in range(50)} == {13}


def test_rows_and_ids_outside_their_range_are_refused() -> None:
    logits = np.zeros((2, 10), np.float32)
    sampler = make(10)
    for row in (-1, 2):
        with pytest.raises(ModelFileError, match="row"):
            sampler.sample(logits, row)
    with pytest.raises(ModelFileError, match="vocabulary"):
        make(11).sample(logits, 0)
    for bad in ({"masked_ids": [10]}, {"logit_bias": [(-1, 1.0)]}, {"prompt": [10]}):
        with pytest.raises(ModelFileError, match="outside the vocabulary"):
            make(10, **bad)
    with pytest.raises(ModelFileError, match="outside the vocabulary"):
        sampler.accept(10)


def test_philox_gives_the_published_vectors() -> None:
    """Known answers of the authors' Random123, for the oracle that the native draws are compared with."""
    assert philox((0, 0, 0, 0), 0) == (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)
    ones = 0xFFFFFFFF
    assert philox((ones,) * 4, ones << 32 | ones) == (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)
    assert uniform(0, 0, 0) == (0x6627E8D5E169C58D >> 11) / 2**53


@pytest.mark.parametrize("options", [{}, {"top_k": 8}, {"top_p": 0.8}, {"min_p": 0.02}], ids=str)
def test_draws_follow_the_distribution(options: dict[str, Any]) -> None:
    """Chi-square with a fixed seed over 20,000 positions; the bound is the 99.99 % quantile."""
    logits = logits_row(7, 24, 1.5)
    num_draws = 20_000
    sampler = make(24, seed=99, **options)
    expected = dict(sampler.distribution(logits, 0))
    counts = dict.fromkeys(expected, 0)
    for _ in range(num_draws):
        token = sampler.sample(logits, 0)
        counts[token] += 1
        sampler.accept(token)
    statistic = sum((counts[t] - num_draws * p) ** 2 / (num_draws * p) for t, p in expected.items())
    freedom = len(expected) - 1
    quantile = freedom * (1 - 2 / (9 * freedom) + 3.719 * math.sqrt(2 / (9 * freedom))) ** 3  # Wilson and Hilferty 1931
    assert statistic < quantile


def test_draws_differ_by_seed_stream_and_position_and_repeat_otherwise() -> None:
    logits = np.zeros((1, 1000), np.float32)

    def text(seed: int, stream: int) -> list[int]:
        sampler = make(1000, seed=seed, stream=stream)
        tokens = []
        for _ in range(10):
            tokens.append(sampler.sample(logits, 0))
            sampler.accept(tokens[-1])
        return tokens

    assert text(1, 0) == text(1, 0)
    assert len({tuple(text(seed, stream)) for seed in range(5) for stream in range(5)}) == 25
    assert len(set(text(1, 0))) > 5


@given(st.integers(0, 10**6), st.sampled_from([1, 5, 255, 256, 257, 3000]), st.sampled_from([0.1, 3.0, 40.0]))
def test_log_probabilities_equal_the_oracle(seed: int, vocab_size: int, spread: float) -> None:
    logits = np.concatenate([logits_row(seed + i, vocab_size, spread) for i in range(3)])
    tokens = np.random.default_rng(seed).integers(0, vocab_size, 2).astype(np.int32)
    exact = logits.astype(np.float64)
    exact -= np.log(np.exp(exact - exact.max(1, keepdims=True)).sum(1, keepdims=True)) + exact.max(1, keepdims=True)
    np.testing.assert_allclose(
        _native.log_probabilities(logits, 1, tokens), [exact[1, tokens[0]], exact[2, tokens[1]]], rtol=1e-6, atol=2e-6
    )
    count = min(20, vocab_size)
    top = _native.top_log_probabilities(logits, 2, 20)
    order = np.lexsort((np.arange(vocab_size), -logits[2]))[:count]
    assert [token for token, _ in top] == order.tolist()
    np.testing.assert_allclose([value for _, value in top], exact[2, order], rtol=1e-5, atol=1e-5)


def test_log_probabilities_check_their_rows_and_tokens() -> None:
    logits = np.zeros((2, 10), np.float32)
    with pytest.raises(ModelFileError, match="row"):
        _native.log_probabilities(logits, 1, np.zeros(2, np.int32))
    with pytest.raises(ModelFileError, match="outside the vocabulary"):
        _native.log_probabilities(logits, 0, np.array([10], np.int32))
    assert _native.top_log_probabilities(logits, 0, 0) == []


@given(shapes, penalties, st.sets(st.integers(0, 39), min_size=1), st.integers(0, 10**6))
def test_only_allowed_tokens_are_drawn_as_if_the_others_had_no_weight(
    options: dict[str, Any], more: dict[str, Any], allowed: set[int], seed: int
) -> None:
    more = more | {"masked_ids": [], "min_tokens": 0}
    logits = logits_row(seed, 40, 4.0)
    mask = np.zeros(2, np.uint32)
    for token in allowed:
        mask[token // 32] |= np.uint32(1 << (token % 32))
    lowered = logits.copy()
    lowered[0, [token for token in range(40) if token not in allowed]] = -1e30
    masked, other = make(40, **options, **more), make(40, **options, **more)
    assert masked.sample(logits, 0, mask) == other.sample(lowered, 0)
    assert masked.sample(logits, 0, mask) in allowed
    assert masked.distribution(logits, 0, mask) == [
        (token, p) for token, p in other.distribution(lowered, 0) if token in allowed
    ]


def test_a_mask_of_another_width_is_refused() -> None:
    with pytest.raises(ModelFileError, match="a mask of 1 words for a vocabulary of 40"):
        make(40).sample(logits_row(0, 40, 1.0), 0, np.zeros(1, np.uint32))
