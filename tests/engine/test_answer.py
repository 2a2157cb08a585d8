"""What nobody reads takes no more than 1 MiB, whatever is in it."""

from __future__ import annotations

import asyncio
import tracemalloc
from collections.abc import Callable

import pytest

from miaotui.engine.answer import MAX_UNREAD_BYTES, Answer
from miaotui.engine.results import Delta, TokenLogprob
from miaotui.errors import SlowReaderError


def plain(number: int) -> Delta:
    return Delta(0, f"word{number} ", (number + 1000,))


def two_at_once(number: int) -> Delta:
    return Delta(number % 2, f"word{number} ", (number + 1000,))


def wide(number: int) -> Delta:
    return Delta(0, "\N{CAT}" * 3 + str(number), (number + 1000,))


def with_alternatives(number: int) -> Delta:
    top = tuple((number + 1000 + other, -float(number + other)) for other in range(20))
    return Delta(0, f"word{number} ", (number + 1000,), logprobs=(TokenLogprob(number + 1000, -float(number), top),))


@pytest.mark.parametrize("make", [plain, two_at_once, wide, with_alternatives])
def test_unread_parts_are_cancelled_at_1_mib_of_memory(make: Callable[[int], Delta]) -> None:
    left: list[Answer] = []
    answer = Answer([], lambda completion, error: None, left.append)
    tracemalloc.start()
    try:
        number = 0
        while not left:
            assert number < 100_000
            held_bytes = tracemalloc.get_traced_memory()[0]
            answer._push(make(number))
            number += 1
    finally:
        tracemalloc.stop()
    assert 0.7 * MAX_UNREAD_BYTES < held_bytes < 1.2 * MAX_UNREAD_BYTES
    with pytest.raises(SlowReaderError):
        asyncio.run(anext(answer))  # type: ignore[arg-type]


@pytest.mark.parametrize("make", [plain, two_at_once, with_alternatives])
def test_who_reads_is_never_too_slow(make: Callable[[int], Delta]) -> None:
    left: list[Answer] = []
    answer = Answer([], lambda completion, error: None, left.append)

    async def main() -> None:
        for number in range(0, 20_000, 2):
            answer._push(make(number))
            answer._push(make(number + 1))
            while answer._parts:
                await anext(answer)

    asyncio.run(main())
    assert (left, answer._unread_bytes) == ([], 0)
