"""Operators that treat every row alone, in programs, against NumPy."""

from __future__ import annotations

import numpy as np
import pytest

from miaotui.formats.weights import TensorType
from native import oracles
from native.budgets import FLOOR, U, allowed
from native.matrices import Floats, assert_same_bits, assert_within, make_activations, make_matrix
from native.programs import Bench, Chunk, batch_of, columns, run, tokens

rng = np.random.default_rng(0)
X = make_activations(40, 96, "normal", 1)
RAGGED = batch_of(Chunk([3, 1, 4, 1, 5], 7), Chunk([9], 2), Chunk([2, 6, 5], 0))


def quantized_values(x: Floats, dtype: str) -> Floats:
    """Return x as quantized rows of that type hold it, by the scalar kernel that its own tests hold to NumPy."""
    return x if dtype == "f32" else oracles.quantized_rows("scalar", x, dtype == "q16").values.astype(np.float32)


@pytest.mark.parametrize("scale", [1.0, 0.37])
@pytest.mark.parametrize("kind", list(TensorType), ids=lambda kind: kind.name)
def test_embedding_looks_rows_up_in_the_files_own_bytes(kind: TensorType, scale: float) -> None:
    matrix = make_matrix(kind, 9, 256, "random", 3)
    bench = Bench()
    out = bench.buffer("f32", 256)
    bench.op("embedding", [], [out], [matrix.item], scale=scale)
    ids = [8, 0, 3, 3, 7]
    want = matrix.values.astype(np.float32)[ids]
    assert_same_bits(run(bench.output(out), batch_of(Chunk(ids))), want if scale == 1 else want * np.float32(scale))


def test_embedding_keeps_the_files_bytes_alive() -> None:
    table = make_activations(4, 4096, "normal", 0)
    bench = Bench(max_tokens=4)
    program = bench.output(bench.input(table.copy()))
    del bench
    junk = [np.full_like(table, np.nan) for _ in range(50)]
    assert_same_bits(run(program, tokens(4)), table)
    assert len(junk) == 50


@pytest.mark.parametrize("dtype", ["f32", "q8", "q16"])
@pytest.mark.parametrize("group", [96, 32, 8])
@pytest.mark.parametrize("kind", ["rms", "layer"])
def test_norm_works_on_whole_rows_and_on_groups_of_them(kind: str, group: int, dtype: str) -> None:
    gain = rng.standard_normal(group).astype(np.float32)
    bias = rng.standard_normal(group).astype(np.float32) if kind == "layer" else None
    weights = [gain] if bias is None else [gain, bias]
    bench = Bench()
    out = bench.buffer(dtype, 96)
    bench.op("norm", [bench.input(X)], [out], weights, kind=kind, eps=1e-5, group=group)
    got = run(bench.output(out, dtype), RAGGED)
    x = X[RAGGED.token_ids].astype(np.float64).reshape(-1, 96 // group, group)
    want = oracles.norm(kind, x, gain.astype(np.float64), bias, float(np.float32(1e-5))).reshape(-1, 96)
    bound = allowed("layer_norm", group) * (2 * np.abs(gain).max() * 4 + 4)
    if dtype != "f32":
        step = oracles.group_steps(want.astype(np.float32), dtype == "q16")
        bound = bound + (allowed("quantize_groups", dtype == "q16") + 1e-3) * step
    assert_within(got, want, bound)


@pytest.mark.parametrize("dtype", ["q8", "q16"])
def test_norm_straight_to_integers_equals_norm_then_quantize(dtype: str) -> None:
    gain = rng.standard_normal(96).astype(np.float32)
    results = []
    for fused in (True, False):
        bench = Bench()
        out = bench.buffer(dtype if fused else "f32", 96)
        bench.op("norm", [bench.input(X)], [out], [gain, None], kind="rms", eps=1e-6, group=96)
        results.append(run(bench.output(out if fused else bench.quantized(out, dtype), dtype), tokens(40)))
    assert_same_bits(results[0], results[1])


@pytest.mark.parametrize("dtype", ["q8", "q16"])
def test_quantize_writes_the_kernels_codes(dtype: str) -> None:
    bench = Bench()
    program = bench.output(bench.quantized(bench.input(X), dtype), dtype)
    assert_same_bits(run(program, RAGGED), quantized_values(X[RAGGED.token_ids], dtype))


@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("pairing", ["neox", "interleaved"])
@pytest.mark.parametrize("rope_dim", [32, 20])
def test_rope_rotates_every_head_by_its_position(rope_dim: int, pairing: str, in_place: bool) -> None:
    inv_freq = (10000.0 ** (-np.arange(rope_dim // 2) / (rope_dim // 2))).astype(np.float32)
    mscale = 1.25
    bench = Bench()
    other = bench.builder.rope_table(np.ones(4, np.float32))
    table = bench.builder.rope_table(inv_freq, mscale)
    assert table != other
    x = bench.input(X)
    out = x if in_place else bench.buffer("f32", 96)
    bench.op("rope", [x], [out], table=table, head_dim=32, rope_dim=rope_dim, pairing=pairing)
    batch = batch_of(Chunk(range(20), 1000, range(64)), Chunk([5, 6], 3), Chunk([7], 0))
    got = run(bench.output(out), batch, None).reshape(-1, 3, 32)
    for head in range(3):
        x_head = X[batch.token_ids, 32 * head : 32 * head + 32].astype(np.float64)
        want = oracles.rope(
            x_head, batch.positions.astype(np.int64), inv_freq, mscale, interleaved=pairing == "interleaved"
        )
        # Sine and cosine times the scale round twice more.
        assert_within(got[:, head], want, (allowed("rope_head") + 2 * U) * 2 * mscale * np.abs(X).max() + FLOOR)


def test_add_takes_column_slices() -> None:
    bench = Bench()
    x = bench.input(X)
    out = bench.buffer("f32", 64)
    bench.op("add", [columns(x, 0, 40), columns(x, 50, 40)], [columns(out, 10, 40)])
    got = run(bench.output(columns(out, 10, 40)), RAGGED)
    rows = X[RAGGED.token_ids]
    assert_same_bits(got, rows[:, :40] + rows[:, 50:90])


@pytest.mark.parametrize("activation", ["silu", "gelu_tanh"])
def test_activate_mul_gates_the_other_input(activation: str) -> None:
    bench = Bench()
    x = bench.input(4 * X)
    out = bench.buffer("f32", 48)
    bench.op("activate_mul", [columns(x, 0, 48), columns(x, 48, 48)], [out], activation=activation)
    rows = 4 * X[RAGGED.token_ids].astype(np.float64)
    want = oracles.activate(activation, rows[:, :48]) * rows[:, 48:]
    bound = allowed("activate_mul") * (np.abs(want) + np.abs(rows[:, :48] * rows[:, 48:]) / 4)
    assert_within(run(bench.output(out), RAGGED), want, bound + FLOOR)


def test_select_rows_picks_repeats_and_reorders() -> None:
    bench = Bench()
    program = bench.output(bench.input(X))
    batch = batch_of(Chunk([3, 1, 4]), Chunk([1, 5]), logit_rows=[4, 0, 0, 2])
    assert_same_bits(run(program, batch), X[[5, 3, 3, 4]])
    nothing = run(program, batch_of(Chunk([3, 1, 4]), logit_rows=[]))
    assert nothing.shape == (0, 96)


def test_softcap_bends_logits() -> None:
    bench = Bench()
    x = bench.input(20 * X)
    logits = bench.buffer("f32", 96, "logits")
    capped = bench.buffer("f32", 96, "logits")
    bench.op("select_rows", [x], [logits])
    bench.op("softcap", [logits], [capped], cap=30.0)
    program = bench.builder.build(bench.arena_bytes)
    want = 30 * np.tanh(20 * X[RAGGED.token_ids].astype(np.float64) / 30)
    assert_within(run(program, RAGGED), want, allowed("softcap") * 30 + 20 * np.abs(X).max() * U)


def test_logits_are_a_view_that_only_the_program_writes() -> None:
    bench = Bench()
    program = bench.output(bench.input(X))
    assert program.logits.shape == (0, 96)
    run(program, RAGGED)
    view = program.logits
    assert not view.flags.writeable
    run(program, tokens(9))
    assert_same_bits(view, X[:9])
    del program
    assert_same_bits(view, X[:9])


def test_profile_counts_seconds_of_every_operator() -> None:
    bench = Bench()
    program = bench.output(bench.input(X))
    assert program.op_names == ["embedding", "select_rows"]
    program.profile(True)
    run(program, RAGGED)
    assert all(seconds > 0 for seconds in program.op_times())
    program.profile(False)
    before = program.op_times()
    run(program, RAGGED)
    assert program.op_times() == before
