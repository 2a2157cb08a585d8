"""Pages are never lost, never given twice."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from miaotui.engine.block_pool import BlockPool
from miaotui.engine.pages import BLOCK_TOKENS, num_blocks_for
from miaotui.errors import CapacityError


def test_page_size_is_the_native_one() -> None:
    from miaotui import _native

    assert _native.KvPool.BLOCK_TOKENS == BLOCK_TOKENS


@given(
    st.integers(1, 12), st.lists(st.tuples(st.sampled_from(["take", "share", "give"]), st.integers(0, 30)), max_size=60)
)
def test_every_page_is_free_or_counted_after_any_operations(num_blocks: int, operations: list[tuple[str, int]]) -> None:
    pool = BlockPool(num_blocks)
    tables: list[list[int]] = []
    for name, number in operations:
        if name == "take" and number <= pool.num_free:
            tables.append(pool.allocate(number))
        elif name == "take":
            before = pool.num_free
            with pytest.raises(CapacityError):
                pool.allocate(number)
            assert pool.num_free == before
        elif tables and name == "share":
            table = tables[number % len(tables)]
            pool.share(table)
            tables.append(list(table))
        elif tables:
            pool.release(tables.pop(number % len(tables)))
        pool.check_integrity(tables)
        assert pool.num_free == num_blocks - len({block for table in tables for block in table})


def test_releasing_or_sharing_a_free_page_is_noticed() -> None:
    pool = BlockPool(3)
    blocks = pool.allocate(2)
    pool.release(blocks)
    with pytest.raises(RuntimeError, match="twice"):
        pool.release(blocks)
    with pytest.raises(RuntimeError, match="free"):
        pool.share(blocks)


def test_a_leaked_page_is_noticed() -> None:
    pool = BlockPool(3)
    table = pool.allocate(2)
    with pytest.raises(RuntimeError, match="1 users, but 0"):
        pool.check_integrity([table[:1]])
    pool._free.append(0)
    with pytest.raises(RuntimeError, match="lists of free"):
        pool.check_integrity([table])


def test_pages_for_tokens_round_up() -> None:
    assert [num_blocks_for(n) for n in (0, 1, 16, 17, 32)] == [0, 1, 1, 2, 2]


def test_a_pool_without_pages_is_refused() -> None:
    with pytest.raises(CapacityError, match="kv_memory_bytes"):
        BlockPool(0)
