"""Speeds of kernels are measured for every type that a mix can choose."""

from __future__ import annotations

import pytest

from miaotui.compress import speed
from miaotui.compress.plan import TYPES
from miaotui.compress.speed import seconds_per_token
from miaotui.errors import ModelFileError
from miaotui.formats.weights import TensorType


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "CACHED_BYTES", 1 << 16)
    monkeypatch.setattr(speed, "MIN_SECONDS", 0.0)


@pytest.mark.parametrize("name", TYPES)
@pytest.mark.parametrize("num_tokens", [1, 40])
def test_every_type_is_measured(name: str, num_tokens: int) -> None:
    assert 0 < seconds_per_token(TensorType[name], 48, 256, num_tokens) < 1


def test_more_rows_take_longer() -> None:
    few, many = (
        min(seconds_per_token.__wrapped__(TensorType.Q8_0, rows, 512) for _ in range(3)) for rows in (64, 4096)
    )
    assert many > 4 * few


def test_a_matrix_that_kernels_do_not_take_is_refused() -> None:
    with pytest.raises(ModelFileError):
        seconds_per_token(TensorType.Q4_K, 8, 100)
