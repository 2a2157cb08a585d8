"""Types chosen for limits keep within them, by a KL that was measured with all of them in place."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from engine.tiny_model import tiny_model as tiny_model  # a fixture
from miaotui import _native
from miaotui.compress import speed
from miaotui.compress.compress import open_source
from miaotui.compress.mixing import Limits, mixture
from miaotui.compress.quantize import rtn
from miaotui.compress.sensitivity import Blocks, measure
from miaotui.compress.source import FileSource
from miaotui.errors import ConfigError
from miaotui.formats.weights import TensorType

KINDS = (TensorType.Q4_0, TensorType.Q5_0, TensorType.Q8_0)


@pytest.fixture
def source(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> FileSource:
    monkeypatch.setattr(speed, "CACHED_BYTES", 1 << 14)
    return open_source(tiny_model)


def matrices(source: FileSource) -> list[str]:
    return [name for name, tensor in source.tensors.items() if len(tensor.shape) == 2 and name.startswith("blk.")]


class Squares:
    """Stands in for a model: its KL is the squared error of all that was replaced, times some factor."""

    def __init__(self, source: FileSource, together: float = 1.0) -> None:
        self._source, self._together = source, together
        self.asked: list[set[str]] = []

    def __call__(self, changes: Mapping[str, Blocks]) -> float:
        self.asked.append(set(changes))
        total = 0.0
        for name, blocks in changes.items():
            rows = self._source.floats(name)
            away = _native.dequantize(int(blocks.type), blocks.data, rows.size).reshape(rows.shape) - rows
            total += float((away**2).sum(dtype=np.float64))
        return total * (self._together if len(changes) > 3 else 1.0)


def test_matrices_that_run_as_one_product_share_a_type(source: FileSource) -> None:
    items = measure(source, matrices(source), KINDS, Squares(source), rtn)
    names = {tuple(part.split(".")[2] for part in item.names) for item in items}
    assert names == {("attn_q", "attn_k", "attn_v"), ("attn_output",), ("ffn_gate", "ffn_up"), ("ffn_down",)}
    assert sorted(name for item in items for name in item.names) == sorted(matrices(source))


def test_losses_of_the_types_not_measured_are_right_where_kl_is_quadratic(source: FileSource) -> None:
    kl_of = Squares(source)
    for item in measure(source, matrices(source)[:7], KINDS, kl_of, rtn):
        assert [option.type for option in item.options] == list(KINDS)
        for option in item.options:
            blocks = {}
            for name in item.names:
                rows = source.floats(name)
                blocks[name] = Blocks(option.type, rtn.quantize(option.type, rows), rows.shape)
            assert option.loss == pytest.approx(kl_of(blocks), rel=1e-4)
            assert option.num_bytes == sum(part.data.nbytes for part in blocks.values())


@pytest.mark.parametrize("together", [0.5, 1.0, 3.0])
def test_a_mix_keeps_within_its_loss_as_measured(source: FileSource, together: float) -> None:
    kl_of, names = Squares(source, together), matrices(source)
    worst = {name: source.floats(name) for name in names}
    limit = 0.3 * kl_of({n: Blocks(KINDS[0], rtn.quantize(KINDS[0], rows), rows.shape) for n, rows in worst.items()})
    found = mixture(source, names, KINDS, kl_of, rtn, Limits(max_loss=limit))
    assert found.kl <= limit
    assert found.kl > 0.3 * limit  # and takes what it may
    assert set(found.mix.types) == set(names)
    assert kl_of.asked[-1] == set(names)
    assert len(set(found.mix.types.values())) > 1


def test_a_mix_keeps_within_its_bytes(source: FileSource) -> None:
    names = matrices(source)
    sizes = {kind: sum(source.tensors[n].shape[0] * source.tensors[n].shape[1] for n in names) for kind in KINDS}
    limit = sizes[TensorType.Q5_0] * 0.65
    found = mixture(source, names, KINDS, Squares(source), rtn, Limits(max_bytes=limit))
    assert found.mix.num_bytes <= limit
    costs = [mix.num_bytes for mix in found.frontier]
    assert costs == sorted(costs)
    assert [m.loss for m in found.frontier] == sorted((m.loss for m in found.frontier), reverse=True)


def test_what_cannot_be_kept_says_what_can(source: FileSource) -> None:
    with pytest.raises(ConfigError, match="the least is"):
        mixture(source, matrices(source), KINDS[:2], Squares(source), rtn, Limits(max_loss=1e-12))
    with pytest.raises(ConfigError, match="the smallest has"):
        mixture(source, matrices(source), KINDS, Squares(source), rtn, Limits(max_bytes=10))
