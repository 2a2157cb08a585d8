"""Operators of encoders, in programs, against NumPy."""

from __future__ import annotations

import numpy as np
import pytest

from miaotui import _native
from miaotui.errors import ModelFileError
from native import oracles
from native.budgets import allowed
from native.matrices import Floats, assert_same_bits, assert_within, make_activations
from native.programs import Batch, Bench, Chunk, batch_of, columns, float_matrix, run

rng = np.random.default_rng(0)
WIDTH = 96
X = make_activations(40, 3 * WIDTH, "normal", 1)
TYPES = make_activations(2, WIDTH, "normal", 5)
POSITIONS = make_activations(33, WIDTH, "normal", 4)
LENGTHS = (5, 1, 17, 2)
TOKENS = rng.integers(0, 40, sum(LENGTHS)).tolist()
STARTS = [sum(LENGTHS[:i]) for i in range(len(LENGTHS))]
PARTS = [TOKENS[start : start + length] for start, length in zip(STARTS, LENGTHS, strict=True)]
RAGGED = batch_of(*(Chunk(part, blocks=(0, 0)) for part in PARTS))


def texts(*parts: list[int]) -> Batch:
    return batch_of(*(Chunk(part, blocks=(0,) * 3) for part in parts))


def test_positions_and_the_first_type_are_added() -> None:
    bench = Bench()
    x, out = bench.input(X[:, :WIDTH]), bench.buffer("f32", WIDTH)
    bench.op("add_positions", [x], [out], [float_matrix(POSITIONS).item, float_matrix(TYPES).item])
    want = X[TOKENS, :WIDTH] + (POSITIONS[RAGGED.positions] + TYPES[0])
    assert_same_bits(run(bench.output(out), RAGGED), want)


def test_a_position_past_the_table_is_refused_before_anything_runs() -> None:
    bench = Bench()
    x, out = bench.input(X[:, :WIDTH]), bench.buffer("f32", WIDTH)
    bench.op("add_positions", [x], [out], [float_matrix(POSITIONS[:17]).item, float_matrix(TYPES).item])
    program = bench.output(out)
    run(program, texts([1] * 17))
    with pytest.raises(ModelFileError, match="position 17 is past the 17"):
        run(program, texts([1] * 18))


def attention_program(dtype: str, head_dim: int, max_tokens: int = 80) -> _native.Program:
    bench = Bench(max_tokens=max_tokens)
    whole, out = bench.input(X), bench.buffer(dtype, WIDTH)
    q, k, v = (columns(whole, i * WIDTH, WIDTH) for i in range(3))
    bench.op("self_attention", [q, k, v], [out], head_dim=head_dim, scale=0.25)
    return bench.output(out, dtype)


def attended(part: list[int], head_dim: int) -> tuple[Floats, float]:
    rows = X[part].astype(np.float64).reshape(len(part), 3, WIDTH // head_dim, head_dim)
    heads = [oracles.encoder_attention(*rows[:, :, h].transpose(1, 0, 2), 0.25) for h in range(WIDTH // head_dim)]
    return np.concatenate([y for y, _ in heads], axis=1), max(largest for _, largest in heads)


@pytest.mark.parametrize("head_dim", [16, 32, 48])
def test_self_attention_sees_all_of_its_sequence_and_nothing_else(head_dim: int) -> None:
    got = run(attention_program("f32", head_dim), RAGGED)
    for start, part in zip(STARTS, PARTS, strict=True):
        want, largest = attended(part, head_dim)
        bound = allowed("encoder_attention", head_dim, len(part)) * (1 + largest) * np.abs(X).max()
        assert_within(got[start : start + len(part)], want, np.full_like(want, bound))


@pytest.mark.parametrize("dtype", ["q8", "q16"])
def test_self_attention_writes_the_codes_of_its_floats(dtype: str) -> None:
    floats = run(attention_program("f32", 32), RAGGED)
    want = oracles.quantized_rows("scalar", floats, dtype == "q16").values.astype(np.float32)
    np.testing.assert_allclose(run(attention_program(dtype, 32), RAGGED), want, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("dtype", ["f32", "q8"])
def test_a_text_has_the_same_bits_alone_and_in_company(dtype: str) -> None:
    program = attention_program(dtype, 32)
    together = run(program, RAGGED)
    for start, part in zip(STARTS, PARTS, strict=True):
        assert_same_bits(run(program, texts(part)), together[start : start + len(part)])


def test_a_long_text_that_threads_share_has_the_bits_of_one_computed_at_once() -> None:
    part = rng.integers(0, 40, 75).tolist()
    got = run(attention_program("f32", 48), batch_of(Chunk(part, blocks=(0,) * 5)))
    tier = _native.cpu_info()["tier"]
    heads = [np.ascontiguousarray(X[part, a : a + 48]) for a in range(0, 3 * WIDTH, 48)]
    want = [_native.kernel_encoder_attention(tier, heads[h], heads[h + 2], heads[h + 4], 0.25, 0, 75) for h in (0, 1)]
    assert_same_bits(got, np.concatenate(want, axis=1))


def test_mean_pool_takes_the_mean_of_each_wanted_sequence() -> None:
    bench = Bench()
    x, pooled = bench.input(X[:, :WIDTH]), bench.buffer("f32", WIDTH, "logits")
    bench.op("mean_pool", [x], [pooled])
    program = bench.builder.build(bench.arena_bytes)
    wanted = [STARTS[2] + 3, 0, STARTS[3]]  # any token names its sequence
    got = run(program, batch_of(*(Chunk(part, blocks=(0, 0)) for part in PARTS), logit_rows=wanted))
    want = np.array([X[PARTS[i], :WIDTH].astype(np.float64).mean(axis=0) for i in (2, 0, 3)])
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)


def test_a_unit_norm_makes_length_one_and_leaves_zeros() -> None:
    table = X[:, :WIDTH].copy()
    table[3] = 0
    bench = Bench()
    out = bench.buffer("f32", WIDTH)
    bench.op("norm", [bench.input(table)], [out], kind="unit", eps=1e-24, group=WIDTH)
    got = run(bench.output(out), texts([1, 2, 3]))
    np.testing.assert_allclose(np.linalg.norm(got, axis=1), [1, 1, 0], rtol=1e-6)
    np.testing.assert_allclose(got[0], table[1] / np.linalg.norm(table[1]), rtol=1e-5)


@pytest.mark.parametrize("dtype", ["q8", "q16"])
def test_a_norm_to_floats_and_codes_writes_what_two_operators_write(dtype: str) -> None:
    gain, bias = (make_activations(1, WIDTH, "normal", seed)[0] for seed in (7, 8))
    norm = {"kind": "layer", "eps": 1e-5, "group": WIDTH}
    results = []
    for codes_wanted in (True, False):
        bench = Bench()
        x = bench.input(X[:, :WIDTH])
        floats, codes = bench.buffer("f32", WIDTH), bench.buffer(dtype, WIDTH)
        bench.op("norm", [x], [floats, codes], [gain, bias], **norm)
        results.append(run(bench.output(codes, dtype) if codes_wanted else bench.output(floats), RAGGED))
    bench = Bench()
    floats = bench.buffer("f32", WIDTH)
    bench.op("norm", [bench.input(X[:, :WIDTH])], [floats], [gain, bias], **norm)
    assert_same_bits(run(bench.output(bench.quantized(floats, dtype), dtype), RAGGED), results[0])
    bench = Bench()
    floats = bench.buffer("f32", WIDTH)
    bench.op("norm", [bench.input(X[:, :WIDTH])], [floats], [gain, bias], **norm)
    assert_same_bits(run(bench.output(floats), RAGGED), results[1])


@pytest.mark.parametrize("dtype", ["f32", "q8", "q16"])
@pytest.mark.parametrize("activation", ["silu", "gelu_tanh", "gelu", "relu"])
def test_an_activation_alone_writes_floats_or_codes(activation: str, dtype: str) -> None:
    bench = Bench()
    out = bench.buffer(dtype, WIDTH)
    bench.op("activate", [bench.input(X[:, :WIDTH])], [out], activation=activation)
    want = oracles.activate(activation, X[TOKENS, :WIDTH].astype(np.float64)).astype(np.float32)
    if dtype != "f32":
        want = oracles.quantized_rows("scalar", want, dtype == "q16").values.astype(np.float32)
    step = (
        np.abs(X).max() * {"f32": 1e-6, "q8": 1 / 100, "q16": 1 / 100 / 250}[dtype]
    )  # a code, where rounding is a toss-up
    np.testing.assert_allclose(run(bench.output(out, dtype), RAGGED), want, rtol=1e-5, atol=step)


BAD = {
    "a head_dim that does not divide the width": ("self_attention", 3, "f32", {"head_dim": 64, "scale": 1.0}),
    "a head_dim that is no multiple of 16": ("self_attention", 3, "f32", {"head_dim": 24, "scale": 1.0}),
    "codes of heads that are no multiple of 32": ("self_attention", 3, "q8", {"head_dim": 48, "scale": 1.0}),
    "an activation that does not exist": ("activate", 1, "f32", {"activation": "tanh"}),
    "too few inputs": ("self_attention", 2, "f32", {"head_dim": 32, "scale": 1.0}),
    "rows that stay those of tokens": ("mean_pool", 1, "f32", {}),
    "a table that is missing": ("add_positions", 1, "f32", {}),
    "a norm of unknown kind": ("norm", 1, "f32", {"kind": "max", "eps": 1e-5, "group": WIDTH}),
}


@pytest.mark.parametrize("what", BAD)
def test_what_does_not_fit_together_is_refused(what: str) -> None:
    kind, num_inputs, dtype, attrs = BAD[what]
    bench = Bench()
    x, out = bench.input(X), bench.buffer(dtype, WIDTH)
    with pytest.raises(ModelFileError, match=f"operator {kind}"):
        bench.op(kind, [columns(x, 0, WIDTH)] * num_inputs, [out], **attrs)


def test_a_norm_refuses_two_outputs_of_one_kind() -> None:
    bench = Bench()
    x, gain = bench.input(X[:, :WIDTH]), np.ones(WIDTH, np.float32)
    outputs = [bench.buffer("f32", WIDTH) for _ in range(2)]
    with pytest.raises(ModelFileError, match="two outputs are floats and codes"):
        bench.op("norm", [x], outputs, [gain], kind="rms", eps=1e-5, group=WIDTH)
