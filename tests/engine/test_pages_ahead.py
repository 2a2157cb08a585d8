"""Memory for KV pages before they are handed out."""

import pytest

from miaotui.engine.block_pool import BlockPool
from miaotui.engine.pages_ahead import AHEAD_BYTES, AHEAD_SHARE, AT_ONCE_BYTES, PagesAhead

MIB = 1 << 20


class Memory:
    """Stands for a `KvPool`: notes what memory was given for. limit: pages that there is memory for."""

    def __init__(self, page_bytes: int, limit: int = 10**9) -> None:
        self.page_bytes, self.limit = page_bytes, limit
        self.given: list[int] = []

    def populate(self, first_block: int, num_blocks: int) -> bool:
        if len(self.given) + num_blocks > self.limit:
            return False
        self.given += range(first_block, first_block + num_blocks)
        return True


def test_a_share_of_the_pool_has_memory_before_anybody_asks() -> None:
    memory, pool = Memory(MIB), BlockPool(100)
    ahead = PagesAhead(memory, pool)
    num_turns = 1
    while not ahead.go_on():
        num_turns += 1
    assert memory.given == list(range(int(100 * AHEAD_SHARE)))
    assert num_turns == -(-len(memory.given) * MIB // AT_ONCE_BYTES), "nobody waits for more than a little"
    assert ahead.go_on()
    assert len(memory.given) == 25


def test_no_more_than_a_bound_of_a_large_pool_has_memory() -> None:
    memory = Memory(MIB)
    ahead = PagesAhead(memory, BlockPool(10_000))
    while not ahead.go_on():
        pass
    assert len(memory.given) * MIB == AHEAD_BYTES


@pytest.mark.parametrize("taken", [5, 25, 40, 90, 100])
def test_what_was_taken_is_made_up_for(taken: int) -> None:
    memory, pool = Memory(MIB), BlockPool(100)
    ahead = PagesAhead(memory, pool)
    while not ahead.go_on():
        pass
    blocks = pool.allocate(taken)
    while not ahead.go_on():
        pass
    assert set(range(100)) >= set(memory.given) >= set(range(taken, min(taken + 25, 100)))
    assert len(memory.given) == len(set(memory.given)), "twice is once too often"
    pool.release(blocks)
    assert pool.allocate(1)[0] < taken, "pages that have memory are handed out first"
    assert ahead.go_on()


def test_without_memory_pages_get_theirs_when_they_are_written() -> None:
    memory = Memory(MIB, limit=7)
    ahead = PagesAhead(memory, BlockPool(100))
    while not ahead.go_on():
        pass
    assert len(memory.given) == 6, "in twos, and the fourth time there was none"
    assert ahead.go_on()
    assert len(memory.given) == 6


def test_a_new_pool_over_the_same_memory_goes_on_where_the_old_one_was() -> None:
    memory, old, fresh = Memory(MIB), BlockPool(100), BlockPool(100)
    ahead = PagesAhead(memory, old)
    while not ahead.go_on():
        pass
    old.allocate(40)
    again = ahead.of(fresh)
    assert again.go_on(), "what was used and what was ready has memory"
    fresh.allocate(50)
    while not again.go_on():
        pass
    assert memory.given == [*range(25), *range(50, 75)]
