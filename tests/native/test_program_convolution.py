"""Operators of convolutions, in programs, against NumPy: ragged batches of texts, and of images."""

from __future__ import annotations

import numpy as np
import pytest

from miaotui import _native
from miaotui.errors import ModelFileError
from miaotui.formats.weights import TensorType
from native import oracles
from native.budgets import FLOOR, allowed
from native.matrices import Floats, assert_same_bits, assert_within, make_activations, make_matrix
from native.programs import Batch, Bench, Chunk, Operand, batch_of, columns, run

rng = np.random.default_rng(3)
WIDTH = 64
X = make_activations(40, WIDTH, "normal", 1)
TEXTS = [rng.integers(0, 40, length).tolist() for length in (5, 1, 33, 2, 17)]  # most shorter than the widest window
IMAGES = [rng.integers(0, 40, 4 * lines).tolist() for lines in (3, 1, 5)]
LINE = 4
SHAPES = [(1, 1, 0), (1, 2, 0), (1, 3, 0), (1, 4, 0), (1, 7, 0), (1, 64, 0), (1, 3, LINE), (3, 3, LINE), (2, 5, LINE)]
DTYPES = ["f32", "q8", "q16"]


def sequences_for(line: int) -> list[list[int]]:
    return IMAGES if line else TEXTS


def together(parts: list[list[int]], logit_rows: list[int] | None = None) -> Batch:
    return batch_of(*(Chunk(part, blocks=(0,) * 3) for part in parts), logit_rows=logit_rows)


def kernel(shape: tuple[int, int, int]) -> dict[str, int]:
    return dict(zip(("kernel_height", "kernel_width", "line"), shape, strict=True))


def bench_of() -> Bench:
    return Bench(max_sequences=8)


def windows_program(shape: tuple[int, int, int], dtype: str) -> _native.Program:
    bench = bench_of()
    out = bench.buffer(dtype, shape[0] * shape[1] * WIDTH)
    bench.op("windows", [bench.quantized(bench.input(X), dtype)], [out], **kernel(shape))
    return bench.output(out, dtype)


def depthwise_program(shape: tuple[int, int, int], dtype: str, terms: int = 2) -> tuple[_native.Program, Floats]:
    filters = make_activations(terms * shape[0] * shape[1], WIDTH, "normal", 9)
    bench = bench_of()
    out = bench.buffer(dtype, terms * WIDTH)
    bench.op("depthwise", [bench.input(X)], [out], [filters.reshape(-1)], terms=terms, **kernel(shape))
    return bench.output(out, dtype), filters.reshape(terms, shape[0], shape[1], WIDTH)


def wanted_windows(shape: tuple[int, int, int], rows: Floats) -> Floats:
    parts = sequences_for(shape[2])
    return np.concatenate([oracles.windows(rows[part], *shape) for part in parts])


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
def test_windows_end_where_their_sequence_ends(shape: tuple[int, int, int], dtype: str) -> None:
    parts, rows = sequences_for(shape[2]), X
    if dtype != "f32":
        rows = oracles.quantized_rows("scalar", X, dtype == "q16").values.astype(np.float32)
    want = wanted_windows(shape, rows).reshape(sum(map(len, parts)), -1)
    got = run(windows_program(shape, dtype), together(parts))
    if dtype == "f32":
        assert_same_bits(got, want)
    np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(got == 0, want == 0)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_filters_of_single_columns_keep_their_budget(shape: tuple[int, int, int]) -> None:
    program, filters = depthwise_program(shape, "f32")
    parts = sequences_for(shape[2])
    seen, exact = wanted_windows(shape, X).astype(np.float64), filters.astype(np.float64)
    want = np.einsum("nhwc,thwc->ntc", seen, exact).reshape(len(seen), -1)
    magnitude = np.einsum("nhwc,thwc->ntc", np.abs(seen), np.abs(exact)).reshape(len(seen), -1)
    bound = allowed("depthwise", shape[0] * shape[1]) * magnitude + FLOOR
    assert_within(run(program, together(parts)), want, bound)


@pytest.mark.parametrize("dtype", ["q8", "q16"])
def test_filters_write_the_codes_of_their_floats(dtype: str) -> None:
    floats = run(depthwise_program((1, 5, 0), "f32")[0], together(TEXTS))
    want = oracles.quantized_rows("scalar", floats, dtype == "q16").values.astype(np.float32)
    got = run(depthwise_program((1, 5, 0), dtype)[0], together(TEXTS))
    np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1, 7, 0), (3, 3, LINE)], ids=str)
def test_a_sequence_has_the_same_bits_alone_and_in_company(shape: tuple[int, int, int], dtype: str) -> None:
    parts = sequences_for(shape[2])
    for program in (windows_program(shape, dtype), depthwise_program(shape, dtype)[0]):
        whole, at = run(program, together(parts)), 0
        for part in parts:
            assert_same_bits(run(program, together([part])), whole[at : at + len(part)])
            at += len(part)
        assert_same_bits(run(program, together(parts[::-1]))[: len(parts[-1])], whole[-len(parts[-1]) :])


@pytest.mark.parametrize("dtype", ["q8", "q16"])
def test_windows_of_codes_are_the_codes_of_windows(dtype: str) -> None:
    results = []
    for codes_first in (True, False):
        bench = bench_of()
        x, out = bench.input(X), bench.buffer(dtype, 5 * WIDTH)
        if codes_first:
            bench.op("windows", [bench.quantized(x, dtype)], [out], **kernel((1, 5, 0)))
        else:
            floats = bench.buffer("f32", 5 * WIDTH)
            bench.op("windows", [x], [floats], **kernel((1, 5, 0)))
            bench.op("quantize", [floats], [out])
        product = bench.buffer("f32", 48)
        bench.op("linear", [out], [product], [make_matrix(TensorType.Q4_0, 48, 5 * WIDTH, "normal", 2).pack(), None])
        results.append(run(bench.output(product), together(TEXTS)))
    assert_same_bits(*results)


@pytest.mark.parametrize("shape", [(1, 4, 0), (3, 3, LINE)], ids=str)
def test_windows_and_a_matrix_are_a_convolution(shape: tuple[int, int, int]) -> None:
    taps = shape[0] * shape[1]
    matrix = make_matrix(TensorType.F32, 48, taps * WIDTH, "normal", 2)
    bench = bench_of()
    seen, out = bench.buffer("f32", taps * WIDTH), bench.buffer("f32", 48)
    bench.op("windows", [bench.input(X)], [seen], **kernel(shape))
    bench.op("linear", [seen], [out], [matrix.pack(), None])
    got = run(bench.output(out), together(sequences_for(shape[2])))
    filters = matrix.values.reshape(48, *shape[:2], WIDTH)
    want = np.einsum("nhwc,ohwc->no", wanted_windows(shape, X).astype(np.float64), filters)
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)


def pooled(bench: Bench, inputs: list[Operand], parts: list[list[int]], logit_rows: list[int]) -> Floats:
    out = bench.buffer("f32", sum(width for _, _, width in inputs), "logits")
    bench.op("max_pool", inputs, [out])
    return run(bench.builder.build(bench.arena_bytes), together(parts, logit_rows))


def test_the_largest_values_of_each_wanted_sequence_stand_side_by_side() -> None:
    bench = bench_of()
    x = bench.input(X)
    starts = np.cumsum([0, *map(len, TEXTS)])
    wanted = [int(starts[2]) + 3, 0, int(starts[3]), int(starts[1])]  # any token names its sequence
    got = pooled(bench, [x, columns(x, 16, 32)], TEXTS, wanted)
    rows = [X[TEXTS[i]].max(axis=0) for i in (2, 0, 3, 1)]
    assert_same_bits(got, np.array([np.concatenate([row, row[16:48]]) for row in rows]))


def test_a_sequence_that_has_no_number_spoils_no_other() -> None:
    table = X.copy()
    table[7] = np.nan
    bench = bench_of()
    got = pooled(bench, [bench.input(table)], [[1, 7, 2], [3, 4]], [0, 3])
    assert np.isnan(got[0]).all()
    assert_same_bits(got[1], X[[3, 4]].max(axis=0))


def test_an_image_of_broken_lines_is_refused_before_anything_runs() -> None:
    for program in (windows_program((3, 3, LINE), "f32"), depthwise_program((3, 3, LINE), "f32")[0]):
        run(program, together([[1] * 8]))
        with pytest.raises(ModelFileError, match="9 tokens does not consist of lines of 4"):
            run(program, together([[1] * 9]))


FILTERS = np.zeros(3 * WIDTH, np.float32)
THREE = {"kernel_height": 1, "kernel_width": 3, "line": 0}
BAD = {
    "a kernel without taps": ("windows", 3 * WIDTH, "f32", [], THREE | {"kernel_width": 0}),
    "a huge kernel": ("windows", 3 * WIDTH, "f32", [], THREE | {"kernel_width": 65}),
    "half a tap": ("windows", 3 * WIDTH, "f32", [], THREE | {"kernel_width": 2.5}),
    "a kernel that is missing": ("windows", 3 * WIDTH, "f32", [], {"kernel_height": 1, "line": 0}),
    "windows that are too narrow": ("windows", 2 * WIDTH, "f32", [], THREE),
    "windows that change the type": ("windows", 3 * WIDTH, "q8", [], THREE),
    "several lines of unknown length": ("windows", 9 * WIDTH, "f32", [], THREE | {"kernel_height": 3}),
    "no terms": ("depthwise", WIDTH, "f32", [FILTERS], THREE | {"terms": 0}),
    "filters of another width": ("depthwise", WIDTH, "f32", [FILTERS[:-1]], THREE | {"terms": 1}),
    "filters that are missing": ("depthwise", WIDTH, "f32", [], THREE | {"terms": 1}),
    "channels that do not match": ("depthwise", WIDTH + 16, "f32", [FILTERS], THREE | {"terms": 1}),
    "a pool of another width": ("max_pool", 2 * WIDTH, "f32", [], {}),
    "a pool that keeps the tokens' rows": ("max_pool", WIDTH, "f32", [], {}),
}


@pytest.mark.parametrize("what", BAD)
def test_what_does_not_fit_together_is_refused(what: str) -> None:
    kind, width, dtype, weights, attrs = BAD[what]
    bench = bench_of()
    rows = "logits" if what == "a pool of another width" else "tokens"
    x, out = bench.input(X), bench.buffer(dtype, width, rows)
    with pytest.raises(ModelFileError, match=f"operator {kind}"):
        bench.op(kind, [x], [out], weights, **attrs)


def test_columns_that_no_register_holds_are_refused() -> None:
    bench = bench_of()
    x, out = bench.input(X), bench.buffer("f32", 24)
    with pytest.raises(ModelFileError, match="multiple of 16"):
        bench.op(
            "depthwise",
            [columns(x, 0, 24)],
            [out],
            [np.zeros(24, np.float32)],
            **(THREE | {"kernel_width": 1}),
            terms=1,
        )
