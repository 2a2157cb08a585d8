from __future__ import annotations

import pytest

from failure_rate import failure_rate_bound


def test_bound_follows_the_binomial() -> None:
    assert failure_rate_bound(0, 10_000) == pytest.approx(1 - 0.05 ** (1 / 10_000))
    assert failure_rate_bound(1, 100) == pytest.approx(0.0466, abs=1e-4)
    assert failure_rate_bound(500, 10_000) == pytest.approx(0.0537, abs=1e-4)


@pytest.mark.parametrize("cases", [0, 3])
def test_nothing_is_known_without_a_success(cases: int) -> None:
    assert failure_rate_bound(cases, cases) == 1.0
