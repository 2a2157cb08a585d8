"""The KV budget is kept, and what does not fit it is refused with what would."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from miaotui.engine.kv_memory import DEFAULT_BYTES, available_memory_bytes, plan_kv, total_memory_bytes
from miaotui.errors import CapacityError, ContextLengthError

PLENTY = 1 << 40


@given(
    st.integers(1, 10**6),
    st.integers(1, 10**5),
    st.none() | st.integers(1, 10**5),
    st.none() | st.integers(1, 10**9),
    st.integers(1, 10**9),
)
def test_a_plan_stays_within_every_limit(
    block_bytes: int, model_length: int, context: int | None, budget: int | None, available: int
) -> None:
    try:
        plan = plan_kv(
            block_bytes,
            model_length,
            context_length=context,
            kv_memory_bytes=budget,
            max_sequences=4,
            available_bytes=available,
        )
    except ContextLengthError:
        assert context is not None
        assert context > model_length
        return
    except CapacityError:
        needed = -(-(context or 1) // 16) * block_bytes
        limit = min(available, budget if budget is not None else available if context else available // 4)
        assert needed > limit
        return
    assert plan.total_bytes <= available
    assert budget is None or plan.total_bytes <= budget
    assert plan.num_blocks * 16 >= plan.context.length > 0
    assert plan.context.length <= (context or model_length)
    assert context is None or plan.context.length == context


def test_without_settings_the_whole_context_is_offered_where_memory_allows() -> None:
    options = {"context_length": None, "kv_memory_bytes": None, "max_sequences": 16}
    plan = plan_kv(1 << 20, 8192, **options, available_bytes=PLENTY)
    assert (plan.context.length, plan.total_bytes) == (8192, DEFAULT_BYTES)
    plan = plan_kv(1 << 20, 8192, **options, available_bytes=1 << 30)
    assert (plan.context.length, plan.total_bytes) == (4096, 1 << 28)
    assert plan_kv(1 << 10, 160, **options, available_bytes=PLENTY).num_blocks == 10 * 16


def test_an_explicit_context_may_take_more_than_the_default_budget() -> None:
    plan = plan_kv(1 << 20, 10**6, context_length=32768, kv_memory_bytes=None, max_sequences=16, available_bytes=PLENTY)
    assert (plan.context.length, plan.total_bytes) == (32768, 2048 << 20)


def test_the_machine_has_memory() -> None:
    assert 0 < available_memory_bytes() <= total_memory_bytes()
