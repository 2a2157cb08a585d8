"""Masks zero the weights that matter least, the zeros stay zeros in the file, and nobody is told that they are fast."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from engine.tiny_model import tiny_model as tiny_model  # a fixture
from miaotui.compress.calibration import Calibration, InputStatistics
from miaotui.compress.compress import compress, open_source
from miaotui.compress.plan import TYPES, type_named
from miaotui.compress.prune import two_four, wanda
from miaotui.compress.prune.mask import KINDS, NO_SPEED, check_kind, deflated_bytes
from miaotui.compress.source import Source
from miaotui.errors import ConfigError
from miaotui.formats.gguf import read_gguf
from miaotui.formats.weights import TensorType

RNG = np.random.default_rng(8)


def calibrated(source: Source) -> Calibration:
    inputs = {
        name: InputStatistics(1, RNG.uniform(0.01, 4, tensor.shape[1]).astype(np.float32))
        for name, tensor in source.tensors.items()
        if name.startswith("blk.") and len(tensor.shape) == 2
    }
    return Calibration("", 1, inputs)


def test_each_row_keeps_what_matters_most() -> None:
    matter = RNG.uniform(size=(6, 64)).astype(np.float32)
    kept = wanda.kept(matter, 0.375)
    assert (kept.sum(axis=1) == 40).all()
    for row, mask in zip(matter, kept, strict=True):
        assert row[mask].min() > row[~mask].max()


def test_two_of_every_four_stay() -> None:
    matter = RNG.uniform(size=(6, 64)).astype(np.float32)
    fours, kept = matter.reshape(-1, 4), two_four.kept(matter).reshape(-1, 4)
    assert (kept.sum(axis=1) == 2).all()
    for row, mask in zip(fours, kept, strict=True):
        assert row[mask].min() > row[~mask].max()


def test_a_weight_matters_by_its_size_and_its_inputs(tiny_model: Path) -> None:
    source = open_source(tiny_model)
    name = "blk.1.ffn_down.weight"
    calibration = calibrated(source)
    weights, left = source.floats(name), wanda.wanda(source, calibration, 0.5).floats(name)
    expected = wanda.kept(np.abs(weights) * np.sqrt(calibration.inputs[name].moments), 0.5)
    np.testing.assert_array_equal(left, np.where(expected, weights, 0))
    assert (wanda.kept(np.abs(weights), 0.5) != expected).any()


@pytest.mark.parametrize("kind", KINDS)
def test_zeros_stay_zeros_in_the_file(kind: TensorType, tiny_model: Path, tmp_path: Path) -> None:
    source = open_source(tiny_model)
    whole = compress(source, tmp_path / "whole.gguf", kind)
    for name, masked in (
        ("wanda", wanda.wanda(source, calibrated(source), 0.5)),
        ("24", two_four.two_four(source, calibrated(source))),
    ):
        done = compress(masked, tmp_path / f"{name}.gguf", kind)
        file = read_gguf(done.path)
        for tensor in file.weights.values():
            if len(tensor.shape) == 2 and tensor.name.startswith("blk."):
                zeros = tensor.to_float32() == 0
                assert (zeros | (masked.floats(tensor.name) != 0)).all()
                assert zeros.mean() >= 0.5
        assert (file.weights["output.weight"].to_float32() == 0).mean() < 0.3
        assert str(file.metadata["miaotui.prune.mask"]).endswith(NO_SPEED)
        assert abs(done.output_bytes - whole.output_bytes) < 512  # no byte less
        assert deflated_bytes(done.path) < 0.95 * deflated_bytes(whole.path)


def test_types_without_a_zero_and_shares_that_cannot_be_are_refused(tiny_model: Path) -> None:
    for kind in {type_named(name) for name in TYPES} - set(KINDS):
        with pytest.raises(ConfigError, match="zeros do not stay zeros"):
            check_kind(kind)
    source = open_source(tiny_model)
    for share in (0.0, 1.0):
        with pytest.raises(ConfigError, match="between 0 and 1"):
            wanda.wanda(source, calibrated(source), share)
    with pytest.raises(ConfigError, match="calibrate this model"):
        two_four.two_four(source, Calibration("", 1, {}))
