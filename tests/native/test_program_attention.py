"""Operators that touch KV pages, in programs of several ragged sequences, against NumPy."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest

from miaotui import _native
from native import oracles
from native.budgets import U, allowed
from native.matrices import Doubles, Floats, assert_same_bits, assert_within, make_activations
from native.oracles import AttentionShape
from native.programs import BLOCK, Bench, Chunk, Operand, batch_of, columns, run

HEADS, KV_HEADS, DIM = 6, 2, 32
GROUP = HEADS // KV_HEADS
WIDTH = (HEADS + 2 * KV_HEADS) * DIM
TABLE = make_activations(64, WIDTH, "normal", 1)  # a token's queries, keys and values, merged
INV_FREQ = (100.0 ** (-np.arange(DIM // 2) / (DIM // 2))).astype(np.float32)
LAYERS = 3
LAYER = 1


@dataclass(frozen=True, slots=True)
class Setup:
    """How one attention program is built."""

    kv_dtype: str = "f32"
    window: int = 0
    softcap: float = 0.0
    rotate: str = ""  # "", "neox" or "interleaved"
    fused: bool = True
    out_dtype: str = "f32"

    @property
    def shape(self) -> AttentionShape:
        return AttentionShape(float(np.float32(0.3)), self.window, self.softcap)

    def program(self) -> _native.Program:
        bench = Bench(max_tokens=400)
        merged = bench.input(TABLE)
        q, k, v = parts_of(merged)
        page = {"layer": LAYER, "head_dim": DIM}
        if self.rotate:
            rotation = {"table": bench.builder.rope_table(INV_FREQ), "rope_dim": DIM, "pairing": self.rotate}
            if self.fused:
                bench.op("rope_kv", [q, k, v], [q], **rotation, **page)
            else:
                for part in (q, k):
                    bench.op("rope", [part], [part], head_dim=DIM, **rotation)
        if not (self.rotate and self.fused):
            bench.op("kv_write", [k, v], [], **page)
        out = bench.buffer(self.out_dtype, HEADS * DIM)
        scale = {"scale": 0.3, "window": self.window, "softcap": self.softcap}
        bench.op("attention", [q], [out], num_kv_heads=KV_HEADS, **page, **scale)
        return bench.output(out, self.out_dtype)

    def pool(self) -> _native.KvPool:
        return _native.KvPool(LAYERS, KV_HEADS, DIM, 64, self.kv_dtype)


def parts_of(merged: Operand) -> tuple[Operand, Operand, Operand]:
    keys = HEADS * DIM
    return (
        columns(merged, 0, keys),
        columns(merged, keys, KV_HEADS * DIM),
        columns(merged, keys + KV_HEADS * DIM, KV_HEADS * DIM),
    )


@dataclass(slots=True)
class Story:
    """The token ids of one sequence, told to the program in chunks, and where its pages lie."""

    token_ids: list[int]
    blocks: list[int]
    told: int = 0
    got: list[Floats] = field(default_factory=list)

    def chunk(self, size: int) -> Chunk:
        return Chunk(self.token_ids[self.told : self.told + size], self.told, self.blocks)


def stories(lengths: list[int]) -> list[Story]:
    rng = np.random.default_rng(5)
    free = list(rng.permutation(64))
    return [Story(list(rng.integers(0, 64, n)), [int(free.pop()) for _ in range(-(-n // BLOCK))]) for n in lengths]


def tell(program: _native.Program, kv: _native.KvPool, told: list[tuple[Story, int]]) -> None:
    """Run one step over the next tokens of some stories."""
    logits = run(program, batch_of(*(story.chunk(size) for story, size in told)), kv)
    first = 0
    for story, size in told:
        story.got.append(logits[first : first + size])
        story.told += size
        first += size


def expected(story: Story, setup: Setup) -> tuple[Doubles, float]:
    """Return the outputs of all tokens and the allowed error."""
    n = len(story.token_ids)
    q, k, v = (
        part.reshape(n, -1, DIM)
        for part in np.split(TABLE[story.token_ids], [HEADS * DIM, (HEADS + KV_HEADS) * DIM], axis=1)
    )
    positions = np.arange(n)
    outputs, largest = np.empty((n, HEADS, DIM)), 0.0
    for head in range(HEADS):
        kv_head = head // GROUP
        query, key = q[:, head].astype(np.float64), k[:, kv_head].astype(np.float64)
        if setup.rotate:
            query, key = (
                oracles.rope(x, positions, INV_FREQ, 1.0, interleaved=setup.rotate == "interleaved")
                for x in (query, key)
            )
        page = (oracles.through_page(x.astype(np.float32), setup.kv_dtype) for x in (key, v[:, kv_head]))
        out, magnitude = oracles.attention(query[:, None], *page, setup.shape)
        outputs[:, head], largest = out[:, 0], max(largest, magnitude)
    bound = allowed("attention", DIM, n) * (1 + largest + setup.softcap) * float(np.abs(v).max())
    return outputs.reshape(n, -1), bound


SETUPS = [
    Setup(),
    Setup("f16", window=20),
    Setup("bf16", softcap=5.0),
    Setup("f16", rotate="neox"),
    Setup("f32", rotate="interleaved", window=7, softcap=30.0),
]


@pytest.mark.parametrize("setup", SETUPS, ids=repr)
def test_several_sequences_attend_to_their_own_pages(setup: Setup) -> None:
    program, kv = setup.program(), setup.pool()
    a, b, c = stories([300, 37, 5])
    tell(program, kv, [(a, 60), (b, 20)])
    tell(program, kv, [(c, 5), (b, 1), (a, 1)])
    tell(program, kv, [(a, 239), (b, 16)])
    for story in (a, b, c):
        want, bound = expected(story, setup)
        # Keys that were rotated in float32 may fall on the other side of a 16-bit rounding than the oracle's.
        slack = 2.0**-10 if setup.rotate and setup.kv_dtype != "f32" else 8 * U
        assert_within(np.concatenate(story.got), want, bound + slack)


@pytest.mark.parametrize(
    "setup", [*SETUPS, Setup("int16"), Setup("int16", rotate="neox", window=50), Setup("int8")], ids=repr
)
def test_company_chunks_and_page_order_change_no_bit(setup: Setup) -> None:
    program, kv = setup.program(), setup.pool()
    together = stories([300, 37, 5])
    a, b, c = together
    tell(program, kv, [(a, 100), (b, 3), (c, 4)])
    tell(program, kv, [(b, 34), (a, 199)])
    tell(program, kv, [(a, 1), (c, 1)])
    for number, story in enumerate(together):
        alone = Story(story.token_ids, list(range(len(story.blocks))))
        kv_alone = setup.pool()
        while alone.told < len(alone.token_ids):
            tell(program, kv_alone, [(alone, min(17, len(alone.token_ids) - alone.told))])
        assert_same_bits(np.concatenate(story.got), np.concatenate(alone.got), f"sequence {number}")


@pytest.mark.parametrize("pairing", ["neox", "interleaved"])
@pytest.mark.parametrize("kv_dtype", ["f32", "f16", "bf16", "int16", "int8"])
def test_rope_fused_with_the_kv_write_changes_no_bit(kv_dtype: str, pairing: str) -> None:
    results = []
    for fused in (True, False):
        setup = Setup(kv_dtype, rotate=pairing, fused=fused)
        (story,) = stories([70])
        tell(setup.program(), setup.pool(), [(story, 70)])
        results.append(story.got[0])
    assert_same_bits(results[0], results[1])


@pytest.mark.parametrize("out_dtype", ["q8", "q16"])
def test_attention_straight_to_integers_equals_attention_then_quantize(out_dtype: str) -> None:
    results = []
    for dtype in ("f32", out_dtype):
        setup = Setup("f16", out_dtype=dtype)
        (story,) = stories([70])
        tell(setup.program(), setup.pool(), [(story, 70)])
        results.append(story.got[0])
    values = oracles.quantized_rows("scalar", results[0], out_dtype == "q16").values.astype(np.float32)
    assert_same_bits(results[1], values)


def test_sequences_may_share_the_pages_of_a_prefix() -> None:
    setup = Setup("f16")
    program, kv = setup.program(), setup.pool()
    (whole,) = stories([40])
    tell(program, kv, [(whole, 40)])
    fork = Story(whole.token_ids, [*whole.blocks[:2], 63], told=32)
    tell(program, kv, [(fork, 8)])
    assert_same_bits(fork.got[0], whole.got[0][32:])


def test_layers_and_heads_have_pages_of_their_own() -> None:
    kv = Setup().pool()
    results: list[Floats] = []
    for layer in range(LAYERS):
        bench = Bench()
        q, k, v = parts_of(bench.input(np.roll(TABLE, layer, axis=1)))
        bench.op("kv_write", [k, v], [], layer=layer, head_dim=DIM)
        run(bench.output(q), batch_of(Chunk(range(20), blocks=[3, 1])), kv)
    for layer in range(LAYERS):
        bench = Bench()
        q, _, _ = parts_of(bench.input(np.zeros_like(TABLE)))
        out = bench.buffer("f32", HEADS * DIM)
        attrs = {"head_dim": DIM, "num_kv_heads": KV_HEADS, "scale": 1.0, "window": 1, "softcap": 0.0}
        bench.op("attention", [q], [out], layer=layer, **attrs)  # a window of one position reads the value itself
        results.append(run(bench.output(out), batch_of(Chunk(range(20), blocks=[3, 1])), kv))
        v = np.roll(TABLE, layer, axis=1)[:20, (HEADS + KV_HEADS) * DIM :].reshape(20, KV_HEADS, DIM)
        assert_same_bits(results[-1], np.repeat(v, GROUP, axis=1).reshape(20, -1))
