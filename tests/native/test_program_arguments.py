"""Whatever is wrong with a program or a batch is a ModelFileError that names the operator and the argument."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from miaotui import _native
from miaotui.errors import ModelFileError
from miaotui.formats.weights import TensorType
from native.matrices import assert_same_bits, make_activations, make_matrix
from native.programs import Batch, Bench, Chunk, Operand, batch_of, columns, float_matrix, run, tokens

X = make_activations(8, 96, "normal", 1)
GAIN = np.ones(96, np.float32)
Q4 = make_matrix(TensorType.Q4_0, 64, 96, "normal", 1).pack()
F32 = float_matrix(make_activations(64, 96, "normal", 1)).pack()


def norm(**changes: float | int | str) -> dict[str, float | int | str]:
    return {"kind": "rms", "eps": 1e-6, "group": 96} | changes


def rope(**changes: float | int | str) -> dict[str, float | int | str]:
    return {"table": 0, "head_dim": 32, "rope_dim": 16, "pairing": "neox"} | changes


def attend(**changes: float | int | str) -> dict[str, float | int | str]:
    return {"layer": 0, "head_dim": 32, "num_kv_heads": 1, "scale": 1.0, "window": 0, "softcap": 0.0} | changes


class Parts:
    """Buffers of every kind for operators to be wrong about."""

    def __init__(self) -> None:
        self.bench = Bench(max_tokens=8)
        self.x, self.y = self.bench.input(X), self.bench.buffer("f32", 96)
        self.wide, self.q8 = self.bench.buffer("f32", 192), self.bench.buffer("q8", 96)
        self.half = columns(self.y, 0, 48)
        self.logits = self.bench.buffer("f32", 96, "logits")
        self.bench.builder.rope_table(np.ones(8, np.float32))

    def op(self, kind: str, inputs: list[Operand], outputs: list[Operand], weights: object = (), /, **attrs) -> None:
        self.bench.op(kind, inputs, outputs, list(weights), **attrs)


def without(attrs: dict[str, float | int | str], name: str) -> dict[str, float | int | str]:
    return {key: value for key, value in attrs.items() if key != name}


WRONG_OPERATORS: list[tuple[str, Callable[[Parts], None]]] = [
    ("operator blur does not exist", lambda p: p.op("blur", [p.x], [p.y])),
    # operands
    ("operator add: input 1 names buffer 99, which does not exist", lambda p: p.op("add", [p.x, (99, 0, 96)], [p.y])),
    ("add: output 0 names buffer -1", lambda p: p.op("add", [p.x, p.x], [(-1, 0, 96)])),
    ("add: input 0 has 96 columns from column 1, its buffer 96", lambda p: p.op("add", [(p.x[0], 1, 96), p.x], [p.y])),
    ("add: input 0 has 0 columns", lambda p: p.op("add", [(p.x[0], 0, 0), p.x], [p.y])),
    ("add: input 0 has 8 columns from column -8", lambda p: p.op("add", [(p.x[0], -8, 8), p.x], [p.y])),
    ("quantize: output 0 is a part of a quantized buffer", lambda p: p.op("quantize", [p.x], [(p.q8[0], 0, 32)])),
    ("add: needs 2 inputs, got 3", lambda p: p.op("add", [p.x, p.x, p.x], [p.y])),
    ("add: needs 1 outputs, got 2", lambda p: p.op("add", [p.x, p.x], [p.y, p.half])),
    ("add: output 0 is missing", lambda p: p.op("add", [p.x, p.x], [])),
    ("add: input 1 is missing", lambda p: p.op("add", [p.x], [p.y])),
    ("add: input 1 must be f32", lambda p: p.op("add", [p.x, p.q8], [p.y])),
    ("add: input 1 is 48 wide, must be 96", lambda p: p.op("add", [p.x, p.half], [p.y])),
    ("add: inputs and outputs differ in their kind of rows", lambda p: p.op("add", [p.x, p.x], [p.logits])),
    # embedding
    ("embedding: attribute scale is missing", lambda p: p.op("embedding", [], [p.y], [float_matrix(X).item])),
    ("embedding: weight 0 must be a raw matrix", lambda p: p.op("embedding", [], [p.y], [GAIN], scale=1.0)),
    ("embedding: goes to token rows", lambda p: p.op("embedding", [], [p.logits], [float_matrix(X).item], scale=1.0)),
    ("embedding: output 0 is 48", lambda p: p.op("embedding", [], [p.half], [float_matrix(X).item], scale=1.0)),
    ("embedding: attribute scale is not finite",
     lambda p: p.op("embedding", [], [p.y], [float_matrix(X).item], scale=float("nan"))),
    ("raw matrix of 9 x 96 does not fill its bytes",
     lambda p: p.op("embedding", [], [p.y], [(0, X.view(np.uint8).reshape(-1), 9, 96)], scale=1.0)),
    ("weight type 9 is not supported",
     lambda p: p.op("embedding", [], [p.y], [(9, X.view(np.uint8).reshape(-1), 8, 96)], scale=1.0)),
    ("a weight must be None", lambda p: p.op("embedding", [], [p.y], ["table"], scale=1.0)),
    # norm
    ("norm: weight 0 has 96 values, must have 32", lambda p: p.op("norm", [p.x], [p.y], [GAIN], **norm(group=32))),
    ("norm: weight 0 must be a float vector", lambda p: p.op("norm", [p.x], [p.y], [None], **norm())),
    ("norm: weight 1 has 1 values", lambda p: p.op("norm", [p.x], [p.y], [GAIN, GAIN[:1]], **norm())),
    ("norm: the width is not a multiple of the group",
     lambda p: p.op("norm", [p.x], [p.y], [GAIN[:36]], **norm(group=36))),
    ("norm: attribute group must be a whole number from 1 to 96",
     lambda p: p.op("norm", [p.x], [p.y], **norm(group=0))),
    ("norm: attribute group must be a whole", lambda p: p.op("norm", [p.x], [p.y], **norm(group=1.5))),
    ("norm: attribute group must be a whole", lambda p: p.op("norm", [p.x], [p.y], **norm(group=float("nan")))),
    ("norm: attribute kind is batch, must be one of: rms layer",
     lambda p: p.op("norm", [p.x], [p.y], [GAIN], **norm(kind="batch"))),
    ("norm: attribute kind is missing", lambda p: p.op("norm", [p.x], [p.y], [GAIN], **norm(kind=3))),
    ("norm: attribute eps is missing", lambda p: p.op("norm", [p.x], [p.y], [GAIN], **norm(eps="small"))),
    ("norm: output and input differ in width", lambda p: p.op("norm", [p.x], [p.half], [GAIN], **norm())),
    ("norm: an int8 output needs a multiple of 32|norm: output and input differ",
     lambda p: p.op("norm", [p.half], [p.q8], [GAIN[:48]], **norm(group=48))),
    # quantize
    ("quantize: needs an int8 output", lambda p: p.op("quantize", [p.x], [p.y])),
    ("quantize: needs an int8 output", lambda p: p.op("quantize", [p.wide], [p.q8])),
    # linear and gated_linear
    ("linear: needs one or two inputs", lambda p: p.op("linear", [], [columns(p.y, 0, 64)], [Q4, None])),
    ("linear: needs one or two inputs", lambda p: p.op("linear", [p.x], [])),
    ("linear: needs a matrix and a bias", lambda p: p.op("linear", [p.x], [columns(p.y, 0, 64)], [Q4])),
    ("linear: weight 0 must be a packed matrix", lambda p: p.op("linear", [p.x], [p.y], [GAIN, None])),
    ("linear: weight 0 has 96 columns, its input 48",
     lambda p: p.op("linear", [p.half], [columns(p.wide, 0, 64)], [Q4, None])),
    ("linear: output 0 is 96 wide, must be 64", lambda p: p.op("linear", [p.x], [p.y], [Q4, None])),
    ("linear: weight 1 has 96 values, must have 64",
     lambda p: p.op("linear", [p.x], [columns(p.y, 0, 64)], [Q4, GAIN])),
    ("linear: weight 0 is a float matrix and needs a float input",
     lambda p: p.op("linear", [p.q8], [columns(p.y, 0, 64)], [F32, None])),
    ("linear: a residual goes with exactly one matrix",
     lambda p: p.op("linear", [p.x, p.x], [columns(p.wide, 0, 64), columns(p.wide, 64, 64)], [Q4, None, Q4, None])),
    ("linear: input 1 is 96 wide, must be 64",
     lambda p: p.op("linear", [p.x, p.x], [columns(p.y, 0, 64)], [Q4, None])),
    ("gated_linear: attribute activation is tanh",
     lambda p: p.op("gated_linear", [p.x], [columns(p.y, 0, 64)], [Q4, Q4], activation="tanh")),
    ("gated_linear: weight 1 must be a packed matrix",
     lambda p: p.op("gated_linear", [p.x], [columns(p.y, 0, 64)], [Q4], activation="silu")),
    ("gated_linear: needs 1 inputs", lambda p: p.op("gated_linear", [], [p.y], [Q4, Q4], activation="silu")),
    ("gated_linear: gate, up and output differ",
     lambda p: p.op("gated_linear", [p.x], [p.y], [Q4, Q4], activation="silu")),
    # activate_mul, softcap, select_rows
    ("activate_mul: attribute activation is missing", lambda p: p.op("activate_mul", [p.x, p.x], [p.y])),
    ("softcap: cap must be positive", lambda p: p.op("softcap", [p.x], [p.y], cap=0.0)),
    ("softcap: attribute cap is missing", lambda p: p.op("softcap", [p.x], [p.y])),
    ("select_rows: goes from token rows to logit rows", lambda p: p.op("select_rows", [p.x], [p.y])),
    ("select_rows: goes from token rows to logit rows", lambda p: p.op("select_rows", [p.logits], [p.logits])),
    # rope
    ("rope: attribute table must be a whole number from 0 to 0", lambda p: p.op("rope", [p.x], [p.y], **rope(table=1))),
    ("rope: rope_dim differs from the rope table's", lambda p: p.op("rope", [p.x], [p.y], **rope(rope_dim=8))),
    ("rope: attribute rope_dim must be", lambda p: p.op("rope", [p.x], [p.y], **rope(head_dim=8))),
    ("rope: the width is not a multiple of head_dim", lambda p: p.op("rope", [p.x], [p.y], **rope(head_dim=36))),
    ("rope: attribute pairing is odd", lambda p: p.op("rope", [p.x], [p.y], **rope(pairing="odd"))),
    ("rope: rotates token rows", lambda p: p.op("rope", [p.logits], [p.logits], **rope())),
    # kv_write, rope_kv, attention
    ("kv_write: needs 2 inputs", lambda p: p.op("kv_write", [p.x], [], layer=0, head_dim=32)),
    ("kv_write: needs 0 outputs", lambda p: p.op("kv_write", [p.x, p.y], [p.y], layer=0, head_dim=32)),
    ("kv_write: input 1 is 48 wide", lambda p: p.op("kv_write", [p.x, p.half], [], layer=0, head_dim=32)),
    ("kv_write: attribute head_dim must be a whole number from 16",
     lambda p: p.op("kv_write", [p.x, p.y], [], layer=0, head_dim=8)),
    ("kv_write: the width of the keys", lambda p: p.op("kv_write", [p.x, p.y], [], layer=0, head_dim=64)),
    ("kv_write: keys and values come per token",
     lambda p: p.op("kv_write", [p.logits, p.logits], [], layer=0, head_dim=32)),
    ("kv_write: attribute layer must be", lambda p: p.op("kv_write", [p.x, p.y], [], layer=-1, head_dim=32)),
    ("rope_kv: needs 3 inputs", lambda p: p.op("rope_kv", [p.x, p.y], [p.x], **rope(), layer=0)),
    ("rope_kv: needs 1 outputs", lambda p: p.op("rope_kv", [p.x, p.y, p.y], [], **rope(), layer=0)),
    ("rope_kv: output 0 is 48 wide", lambda p: p.op("rope_kv", [p.x, p.y, p.y], [p.half], **rope(), layer=0)),
    ("rope_kv: rope_dim differs", lambda p: p.op("rope_kv", [p.x, p.y, p.y], [p.x], **rope(rope_dim=32), layer=0)),
    ("rope_kv: attribute table must be", lambda p: p.op("rope_kv", [p.x, p.y, p.y], [p.x], **rope(table=-1), layer=0)),
    ("attention: the query heads are not a multiple",
     lambda p: p.op("attention", [p.x], [p.y], **attend(num_kv_heads=2))),
    ("attention: the output must be as wide", lambda p: p.op("attention", [p.x], [p.half], **attend())),
    ("attention: the output must be as wide as the queries|kind of rows",
     lambda p: p.op("attention", [p.logits], [p.logits], **attend())),
    ("attention: an int8 output needs a head_dim", lambda p: p.op("attention", [p.x], [p.q8], **attend(head_dim=48))),
    ("attention: attribute window must be", lambda p: p.op("attention", [p.x], [p.y], **attend(window=-1))),
    ("attention: attribute scale is missing", lambda p: p.op("attention", [p.x], [p.y], **without(attend(), "scale"))),
    ("attention: attribute softcap is not finite",
     lambda p: p.op("attention", [p.x], [p.y], **attend(softcap=float("inf")))),
]  # fmt: skip


@pytest.mark.parametrize(
    ("complaint", "wrong"),
    WRONG_OPERATORS,
    ids=[f"{i}-{complaint}" for i, (complaint, _) in enumerate(WRONG_OPERATORS)],
)
def test_wrong_operators_are_refused_by_name(complaint: str, wrong: Callable[[Parts], None]) -> None:
    with pytest.raises(ModelFileError, match=complaint):
        wrong(Parts())


def test_a_group_of_more_than_64_query_heads_is_refused() -> None:
    bench = Bench(max_tokens=8)
    q, out = bench.buffer("f32", 65 * 16), bench.buffer("f32", 65 * 16)
    with pytest.raises(ModelFileError, match="attention: more than 64 query heads per KV head"):
        bench.op("attention", [q], [out], **attend(head_dim=16))


WRONG_BUFFERS: list[tuple[str, tuple[object, ...]]] = [
    ("dtype f64 is not one of", ("f64", 32, 0)),
    ("rows words are neither tokens nor logits", ("f32", 32, 0, "words")),
    ("0 columns is out of range", ("f32", 0, 0)),
    ("16777217 columns is out of range", ("f32", 2**24 + 1, 0)),
    ("multiple of 32 columns", ("q8", 48, 0)),
    ("multiple of 32 columns", ("q16", 48, 0)),
    ("multiples of 64 inside the arena", ("f32", 32, 32)),
    ("multiples of 64 inside the arena", ("f32", 32, -64)),
    ("multiples of 64 inside the arena", ("f32", 32, 2**40)),
]


@pytest.mark.parametrize(("complaint", "arguments"), WRONG_BUFFERS)
def test_wrong_buffers_are_refused(complaint: str, arguments: tuple[object, ...]) -> None:
    with pytest.raises(ModelFileError, match=complaint):
        _native.ProgramBuilder(8, 1, 8).buffer(*arguments)


@pytest.mark.parametrize("limits", [(0, 1, 1), (1, -1, 1), (1, 1, 0), (2**20 + 1, 1, 1)])
def test_wrong_limits_are_refused(limits: tuple[int, int, int]) -> None:
    with pytest.raises(ModelFileError, match=r"program: max_\w+ must be 1 to 1048576, got"):
        _native.ProgramBuilder(*limits)


@pytest.mark.parametrize(
    ("complaint", "frequencies", "scale"),
    [
        ("1 to 256 frequencies", [], 1.0),
        ("1 to 256 frequencies", [1.0] * 257, 1.0),
        ("frequency is not finite", [1.0, float("nan")], 1.0),
        ("scale is not finite", [1.0], float("inf")),
    ],
)
def test_wrong_rope_tables_are_refused(complaint: str, frequencies: list[float], scale: float) -> None:
    with pytest.raises(ModelFileError, match=complaint):
        _native.ProgramBuilder(8, 1, 8).rope_table(np.array(frequencies, np.float32), scale)


def test_an_arena_too_small_for_a_buffer_is_refused() -> None:
    for arena_bytes, complaint in ((-1, "arena size"), (2**41, "arena size"), (0, "reaches past the arena")):
        parts = Parts()
        parts.op("select_rows", [parts.x], [parts.logits])
        with pytest.raises(ModelFileError, match=complaint):
            parts.bench.builder.build(arena_bytes)
    parts = Parts()
    parts.op("select_rows", [parts.x], [parts.logits])
    with pytest.raises(ModelFileError, match="reaches past the arena"):
        parts.bench.builder.build(parts.bench.arena_bytes - 64)
    parts.bench.builder.build(parts.bench.arena_bytes)


def test_a_program_must_end_with_a_whole_buffer_of_logits() -> None:
    endings: list[Callable[[Parts], None]] = [
        lambda p: None,
        lambda p: p.op("select_rows", [p.half], [columns(p.logits, 0, 48)]),
        lambda p: p.op("kv_write", [p.x, p.y], [], layer=0, head_dim=32),
    ]
    for ending in endings:
        parts = Parts()
        ending(parts)
        with pytest.raises(ModelFileError, match="the last operator must write one whole f32 buffer of logit rows"):
            parts.bench.builder.build(parts.bench.arena_bytes)


def test_a_builder_is_empty_after_building() -> None:
    parts = Parts()
    parts.op("select_rows", [parts.x], [parts.logits])
    parts.bench.builder.build(parts.bench.arena_bytes)
    with pytest.raises(ModelFileError, match="names buffer 0, which does not exist"):
        parts.op("add", [parts.x, parts.x], [parts.y])
    with pytest.raises(ModelFileError, match="last operator"):
        parts.bench.builder.build(parts.bench.arena_bytes)


def changed(**arrays: object) -> Batch:
    batch = batch_of(Chunk([1, 2, 3], 15, [4, 2]), Chunk([5], 0, [1]))
    fields = {name: getattr(batch, name) for name in Batch.__dataclass_fields__}
    return Batch(**fields | {name: np.array(value, np.int32) for name, value in arrays.items()})


WRONG_BATCHES: list[tuple[str, Batch]] = [
    ("token id 8 is outside the vocabulary of 8", changed(token_ids=[1, 2, 8, 5])),
    ("token id -1 is outside the vocabulary", changed(token_ids=[-1, 2, 3, 5])),
    ("positions of a sequence must be consecutive", changed(positions=[15, 16, 18, 0])),
    ("positions of a sequence must be consecutive", changed(positions=[15, 15, 16, 0])),
    ("positions of a sequence must be consecutive", changed(positions=[0, -(2**31), 1, 0])),
    ("a position is negative", changed(positions=[-1, 0, 1, 0])),
    ("past the sequence's block table", changed(positions=[30, 31, 32, 0])),
    ("past the sequence's block table", changed(positions=[15, 16, 17, 2**31 - 1])),
    ("block id 8 is not in the KV pool", changed(block_tables=[[4, 8], [1, -1]])),
    ("block id -1 is not in the KV pool", changed(block_tables=[[-1, 2], [1, -1]])),
    ("logit row out of range", changed(logit_rows=[4])),
    ("logit row out of range", changed(logit_rows=[0, -1])),
    ("sequence offsets must span the tokens", changed(sequence_offsets=[1, 3, 4])),
    ("sequence offsets must span the tokens", changed(sequence_offsets=[0, 3, 3])),
    ("sequence offsets must ascend", changed(sequence_offsets=[0, 4, 4], positions=[15, 16, 17, 18])),
    ("sequence offsets must ascend", changed(sequence_offsets=[0, -1, 4])),
    ("sequence offsets must ascend", changed(sequence_offsets=[0, 9, 4])),
    ("the arrays disagree", changed(positions=[15, 16, 17])),
    ("the arrays disagree", changed(sequence_offsets=[0, 4])),
    ("the arrays disagree", changed(sequence_offsets=[])),
    ("number of tokens is 0, must be 1 to 8", Batch(*(np.zeros(s, np.int32) for s in (0, 0, 2, (1, 1), 0)))),
    ("number of sequences is 0", Batch(*(np.zeros(s, np.int32) for s in (1, 1, 1, (0, 1), 0)))),
    ("number of tokens is 9, must be 1 to 8", tokens(9)),
    ("number of sequences is 5, must be 1 to 4", batch_of(*[Chunk([1])] * 5)),
    ("number of logit rows is 9, must be 0 to 8", batch_of(Chunk([1]), logit_rows=[0] * 9)),
]  # fmt: skip


@pytest.mark.parametrize(
    ("complaint", "batch"), WRONG_BATCHES, ids=[f"{i}-{complaint}" for i, (complaint, _) in enumerate(WRONG_BATCHES)]
)
def test_wrong_batches_are_refused_and_touch_nothing(complaint: str, batch: Batch) -> None:
    parts = Parts()
    program = parts.bench.output(parts.x)
    kv = _native.KvPool(1, 1, 32, 8, "f32")
    right = changed()
    want = run(program, right, kv)
    with pytest.raises(ModelFileError, match=complaint):
        program.run(kv, *batch.arrays)
    assert_same_bits(program.logits, want)
    assert_same_bits(run(program, right, kv), want)


@pytest.mark.parametrize("pool", [(1, 3, 32), (2, 1, 32), (2, 3, 64)])
def test_a_pool_of_another_shape_is_refused(pool: tuple[int, int, int]) -> None:
    parts = Parts()
    parts.op("kv_write", [parts.x, parts.x], [], layer=1, head_dim=32)
    program = parts.bench.output(parts.x)
    layers, heads, dim = pool
    message = f"the KV pool has {layers} layers, {heads} KV heads of {dim}; the program needs layer 1, 3 KV heads of 32"
    with pytest.raises(ModelFileError, match=message):
        run(program, tokens(3), _native.KvPool(*pool, 8, "f16"))


def test_more_logit_rows_than_tokens_are_fine() -> None:
    parts = Parts()
    batch = batch_of(Chunk([6]), logit_rows=[0, 0, 0])
    assert_same_bits(run(parts.bench.output(parts.x), batch), X[[6, 6, 6]])


def test_a_table_that_had_to_be_copied_stays_alive() -> None:
    bench = Bench(max_tokens=8)
    out = bench.buffer("f32", 96)
    scattered = np.zeros((2, X.nbytes), np.uint8).T  # not contiguous: the binding makes a copy
    scattered[:, 0] = X.view(np.uint8).reshape(-1)
    bench.op("embedding", [], [out], [(0, scattered[:, 0], 8, 96)], scale=1.0)
    del scattered
    junk = [np.full(X.nbytes, 255, np.uint8) for _ in range(50)]
    assert_same_bits(run(bench.output(out), tokens(8)), X)
    assert len(junk) == 50
