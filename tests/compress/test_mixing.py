"""Types chosen for limits keep within them, by a KL that was measured with all of them in place."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from engine.tiny_model import tiny_model as tiny_model  # a fixture
from miaotui import _native
from miaotui.compress import mixing, speed
from miaotui.compress.calibration import InputStatistics
from miaotui.compress.compress import compress, open_source
from miaotui.compress.mixed import Item, Option
from miaotui.compress.mixing import Limits, mixture
from miaotui.compress.quantize import rtn
from miaotui.compress.quantize.method import Quantizer
from miaotui.compress.sensitivity import Blocks, KlOf, measure, quantized
from miaotui.compress.source import FileSource
from miaotui.errors import ConfigError
from miaotui.formats.weights import TensorType

KINDS = (TensorType.Q4_0, TensorType.Q5_0, TensorType.Q8_0)


@pytest.fixture
def source(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> FileSource:
    monkeypatch.setattr(speed, "CACHED_BYTES", 1 << 14)
    monkeypatch.setattr(speed, "MIN_SECONDS", 0.0)
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


def test_tables_take_bytes_but_no_time(source: FileSource) -> None:
    name = "token_embd.weight"
    (multiplied,) = measure(source, [name], KINDS, Squares(source), rtn)
    (looked_up,) = measure(source, [name], KINDS, Squares(source), rtn, tables={name})
    assert all(option.seconds > 0 for option in multiplied.options)
    assert [option.seconds for option in looked_up.options] == [0.0] * len(KINDS)
    assert [o.num_bytes for o in looked_up.options] == [o.num_bytes for o in multiplied.options]


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


def scripted(monkeypatch: pytest.MonkeyPatch, *losses: float) -> KlOf:
    """Whole mixes lose these, one after the other, of two matrices in two types."""
    left = iter(losses)
    items = [
        Item((name,), (Option(KINDS[0], 100, 1.0, 0.05), Option(KINDS[2], 200, 2.0, 0.0225))) for name in ("a", "b")
    ]
    monkeypatch.setattr(mixing, "measure", lambda *args, **others: items)
    monkeypatch.setattr(mixing, "_blocks", lambda *args: {})
    return lambda blocks: next(left)


def test_a_mix_that_keeps_within_its_loss_is_not_lost_to_a_worse_one(
    source: FileSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    kl_of = scripted(monkeypatch, 0.02, 0.2)
    found = mixture(source, ["a", "b"], KINDS, kl_of, rtn, Limits(max_loss=0.08))
    assert found.kl == 0.02


def test_where_estimates_are_too_high_the_mix_that_loses_least_is_measured(
    source: FileSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = mixture(source, ["a", "b"], KINDS, scripted(monkeypatch, 0.03), rtn, Limits(max_loss=0.04))
    assert found.kl == 0.03
    assert set(found.mix.types.values()) == {KINDS[2]}
    with pytest.raises(ConfigError, match=r"the least is 0\.05"):
        mixture(source, ["a", "b"], KINDS, scripted(monkeypatch, 0.05), rtn, Limits(max_loss=0.04))


def test_a_mix_keeps_within_its_bytes(source: FileSource) -> None:
    names = matrices(source)
    sizes = {kind: sum(source.tensors[n].shape[0] * source.tensors[n].shape[1] for n in names) for kind in KINDS}
    limit = sizes[TensorType.Q5_0] * 0.65
    found = mixture(source, names, KINDS, Squares(source), rtn, Limits(max_bytes=limit))
    assert found.mix.num_bytes <= limit
    costs = [mix.num_bytes for mix in found.frontier]
    assert costs == sorted(costs)
    assert [m.loss for m in found.frontier] == sorted((m.loss for m in found.frontier), reverse=True)


def test_matrices_are_made_once(source: FileSource, tmp_path: Path) -> None:
    """Of two mixes in turn, and of the file: what they have in common costs nothing more."""
    made: list[TensorType] = []

    class Counting:
        def quantizer(self, kind: TensorType, columns: int, statistics: InputStatistics | None) -> Quantizer:
            made.append(kind)
            return rtn.quantizer(kind, columns, statistics)

    kl_of, names = Squares(source, together=3.0), matrices(source)
    measure(source, names, KINDS, kl_of, Counting())
    num_measured, num_groups = len(made), len(kl_of.asked)
    limit = 0.3 * kl_of({name: quantized(source, name, KINDS[0], rtn, None)[0] for name in names})
    made.clear()
    kl_of.asked.clear()
    found = mixture(source, names, KINDS, kl_of, Counting(), Limits(max_loss=limit))
    num_mixes = len(kl_of.asked) - num_groups
    assert num_mixes > 1
    assert len(names) < len(made) - num_measured < num_mixes * len(names)
    files = [
        compress(source, tmp_path / f"{there is None}.gguf", KINDS[0], types=found.mix.types, made=there)
        for there in (None, found.blocks)
    ]
    assert files[0].path.read_bytes() == files[1].path.read_bytes()


def test_a_matrix_that_has_the_type_already_loses_nothing(source: FileSource, tmp_path: Path) -> None:
    again = open_source(compress(source, tmp_path / "q.gguf", KINDS[0]).path)
    name = matrices(source)[0]
    blocks, error = quantized(again, name, KINDS[0], rtn, None)
    assert error == 0
    np.testing.assert_array_equal(blocks.data, again.tensors[name].raw)


def test_what_cannot_be_kept_says_what_can(source: FileSource) -> None:
    with pytest.raises(ConfigError, match="the least is"):
        mixture(source, matrices(source), KINDS[:2], Squares(source), rtn, Limits(max_loss=1e-12))
    with pytest.raises(ConfigError, match="the smallest has"):
        mixture(source, matrices(source), KINDS, Squares(source), rtn, Limits(max_bytes=10))
