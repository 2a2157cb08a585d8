from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from miaotui.formats.weights import TensorType
from native.matrices import Floats, assert_same_bits
from native.programs import Chunk
from native.small_model import SmallModel, story_of

SETUPS = [
    (TensorType.Q4_K, "q8", "f16"),
    (TensorType.Q8_0, "q16", "int8"),
    (TensorType.Q6_K, "q8", "bf16"),
    (TensorType.F32, "f32", "f32"),
    (TensorType.Q4_1, "q16", "int16"),
]
LENGTHS = [40, 27, 5]
BLOCKS = [[9, 0, 4], [60, 3], [7]]
MAX_TOKENS = 64


def alone(model: SmallModel, number: int) -> Floats:
    """Return the logits of a sequence that nobody keeps company, token by token."""
    ids = story_of(number, LENGTHS[number])
    return np.concatenate([model.run(Chunk([t], p, [20, 21, 22])) for p, t in enumerate(ids)])


def any_schedule(seed: int) -> Iterator[list[tuple[int, int]]]:
    """Yield steps of (sequence, number of its next tokens) until all is told."""
    rng = np.random.default_rng(seed)
    left = list(LENGTHS)
    while any(left):
        step, room = [], MAX_TOKENS
        for number in rng.permutation(3):
            size = int(rng.integers(0, min(room, left[number]) + 1))
            if size:
                step.append((int(number), size))
                left[number] -= size
                room -= size
        if step:
            yield step


@pytest.mark.parametrize(("kind", "dtype", "kv_dtype"), SETUPS, ids=lambda part: str(getattr(part, "name", part)))
def test_logits_do_not_depend_on_company_or_chunks(kind: TensorType, dtype: str, kv_dtype: str) -> None:
    model = SmallModel(kind, dtype, kv_dtype)
    want = [alone(model, number) for number in range(3)]
    for seed in range(12):
        told = [0, 0, 0]
        for step in any_schedule(seed):
            ids = [story_of(number, LENGTHS[number])[told[number] :][:size] for number, size in step]
            chunks = [Chunk(i, told[number], BLOCKS[number]) for i, (number, _) in zip(ids, step, strict=True)]
            logits, first = model.run(*chunks), 0
            for number, size in step:
                expected = want[number][told[number] : told[number] + size]
                assert_same_bits(logits[first : first + size], expected, f"schedule {seed}, sequence {number}")
                told[number] += size
                first += size


def test_rejected_draft_tokens_leave_no_trace() -> None:
    model = SmallModel()
    ids = story_of(0, 30)
    want = np.concatenate([model.run(Chunk([t], p, [20, 21])) for p, t in enumerate(ids)])
    model.run(Chunk(ids[:20], 0, [5, 6]))
    model.run(Chunk([1, 2, 3, 4, 5, 6], 20, [5, 6]))  # drafts that are overwritten by what was really said
    assert_same_bits(model.run(Chunk(ids[20:], 20, [5, 6])), want[20:])


@pytest.mark.parametrize("kv_dtype", ["int16", "int8", "f16"])
def test_a_context_of_several_splits_gives_the_same_in_chunks_and_one_by_one(kv_dtype: str) -> None:
    model = SmallModel(TensorType.Q4_1, "q16", kv_dtype)
    ids, blocks = story_of(0, 290), list(range(19))
    whole = np.concatenate([model.run(Chunk(ids[at : at + 64], at, blocks)) for at in range(0, 290, 64)])
    single = np.concatenate([model.run(Chunk(ids[at : at + 1], at, blocks)) for at in range(290)])
    assert_same_bits(whole, single)
    neighbour = story_of(1, 5)
    for at in (250, 256, 289):  # the threads share the splits of a token that is not alone in its step
        logits = model.run(Chunk(ids[at : at + 1], at, blocks), Chunk(neighbour, 0, [40]))
        assert_same_bits(logits[:1], single[at : at + 1])
