"""Scales that are folded leave the model what it is, and are those that rounding suffers least from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from compress.sources import calibration, logits_of, with_biases
from engine.tiny_model import tiny_model as tiny_model  # a fixture
from miaotui.compress.compress import open_source
from miaotui.compress.quantize.fold import fold, joints
from miaotui.compress.source import Change, Changed, Source
from miaotui.errors import ConfigError
from miaotui.formats.weights import TensorType


@pytest.fixture
def source(tiny_model: Path) -> Source:
    return with_biases(open_source(tiny_model))


def test_logits_stay_what_they_are(source: Source, tmp_path: Path) -> None:
    before = logits_of(source, tmp_path / "before.gguf")
    done = fold(source, calibration(source), TensorType.Q4_0)
    assert sorted(one.joint.name for one in done.folded if one.alpha) == sorted(j.name for j in joints(source))
    np.testing.assert_allclose(
        logits_of(done.source, tmp_path / "after.gguf"), before, atol=1e-4 * np.abs(before).max()
    )


def test_every_joint_of_a_layer_is_found(source: Source) -> None:
    found = {joint.name: joint for joint in joints(source)}
    assert set(found) == {f"blk.{k}.{name}" for k in (0, 1) for name in ("attn_norm", "ffn_norm", "ffn_up", "attn_v")}
    assert found["blk.0.attn_v"].makers == ("blk.0.attn_v.weight", "blk.0.attn_v.bias")
    spread = found["blk.0.attn_v"].spread
    assert spread is not None
    np.testing.assert_array_equal(spread, [*range(16), *range(16), *range(16, 32), *range(16, 32)])  # 4 heads, 2 of KV


def test_a_mlp_without_a_gate_is_left_alone(source: Source) -> None:
    plain = Changed(source, {f"blk.{k}.ffn_gate.weight": None for k in (0, 1)})
    assert {joint.name.partition(".attn_")[0] for joint in joints(plain)} == {"blk.0", "blk.1"}


@pytest.mark.parametrize("hessian", [False, True])
def test_outliers_are_rounded_finer(hessian: bool, source: Source) -> None:
    known = calibration(source, hessian=hessian)
    done = fold(source, known, TensorType.Q4_0)
    assert all(one.error <= 1 for one in done.folded)
    assert np.mean([one.error for one in done.folded]) < 0.9
    for one in done.folded:
        means = known.inputs[one.joint.readers[0]].means
        assert means is not None
        if one.alpha and one.joint.spread is None:
            assert np.corrcoef(np.log(means), np.log(one.scales))[0, 1] > 0.999


def test_statistics_follow_the_inputs(source: Source) -> None:
    known = calibration(source)
    done = fold(source, known, TensorType.Q4_0)
    for one in done.folded:
        for name in one.joint.readers:
            before, after = known.inputs[name].hessian, done.calibration.inputs[name].hessian
            assert before is not None
            assert after is not None
            if name.endswith(("attn_v.weight", "ffn_up.weight")):  # whose rows are scaled too
                continue
            rows = source.floats(name), done.source.floats(name)
            energies = [np.einsum("ij,jk,ik->i", w, h, w) for w, h in zip(rows, (before(), after()), strict=True)]
            np.testing.assert_allclose(*energies, rtol=1e-3)


def test_channels_that_are_never_fed_anything_are_not_blown_up(source: Source) -> None:
    known = calibration(source)
    for statistics in known.inputs.values():
        assert statistics.means is not None
        statistics.moments[:3] = statistics.means[:3] = 0
    done = fold(source, known, TensorType.Q4_0)
    for name in done.source.tensors:
        assert np.isfinite(done.source.floats(name)).all()


def test_without_a_calibration_it_says_so(source: Source) -> None:
    with pytest.raises(ConfigError, match="needs a calibration"):
        fold(source, None, TensorType.Q4_0)


def test_two_transforms_stack(source: Source, tmp_path: Path) -> None:
    before = logits_of(source, tmp_path / "before.gguf")
    gain = source.floats("blk.0.ffn_norm.weight")
    same = Changed(source, {"blk.0.ffn_norm.weight": Change(gain.shape, lambda first, last: gain)})
    done = fold(same, calibration(source), TensorType.Q4_1)
    again = fold(done.source, done.calibration, TensorType.Q4_1)
    np.testing.assert_allclose(
        logits_of(again.source, tmp_path / "after.gguf"), before, atol=2e-4 * np.abs(before).max()
    )
