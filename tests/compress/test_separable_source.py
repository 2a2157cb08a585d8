"""A classifier's file with its convolutions taken apart: it runs, and is refused where that makes no sense."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from engine.tiny_model import tiny_model as tiny_model  # a fixture
from miaotui.cli import main
from miaotui.compress.calibration import Calibration, InputStatistics
from miaotui.compress.compress import compress, open_source
from miaotui.compress.separable import decompose, multiply_adds
from miaotui.compress.separable_source import separable
from miaotui.engine.classifier import Classifier
from miaotui.errors import ConfigError, ModelFileError, UnsupportedModelError
from miaotui.formats import open_model
from miaotui.formats.gguf import read_gguf
from miaotui.formats.weights import TensorType
from models.tiny_text_cnn import FILTERS, HIDDEN, SEPARABLE, WHOLE, random_arrays, tiny_text_cnn, write_text_cnn

TEXTS = [[5, 7, 9, 11, 2], [1], list(range(20, 57))]


def low_rank_file(folder: Path) -> Path:
    """A whole classifier whose convolutions are of rank 2."""
    arrays = random_arrays(WHOLE)
    for layer, taps in enumerate(WHOLE.taps):
        name = f"blk.{layer}.conv.weight"
        weight = arrays[name].reshape(FILTERS, taps, HIDDEN).transpose(0, 2, 1)
        arrays[name] = decompose(weight, 2).weight().transpose(0, 2, 1).reshape(FILTERS, -1)
    return write_text_cnn(folder / "low.gguf", WHOLE, arrays)


@pytest.mark.parametrize("asked", [{"rank": 2}, {"error": 0.01}])
def test_a_classifier_of_that_rank_keeps_its_scores(asked: dict, tmp_path: Path) -> None:
    path = low_rank_file(tmp_path)
    want = Classifier(open_model(path), activations="float32").scores(TEXTS)
    done = separable(open_source(path), **asked)
    assert [one.rank for one in done.convolutions] == [2, 2, 2]
    out = compress(done.source, tmp_path / "out.gguf", TensorType.F16).path
    file = open_model(out)
    assert file.spec.convolutions is not None
    assert file.spec.convolutions.ranks == (2, 2, 2)
    np.testing.assert_allclose(Classifier(file, activations="float32").scores(TEXTS), want, atol=0.02)
    types = {name: tensor.type.name for name, tensor in file.weights.items()}
    assert types["blk.0.conv_depthwise.weight"] == "F32"
    assert types["blk.0.conv_pointwise.weight"] == "F16"
    assert "blk.0.conv.weight" not in types


def test_quantized_pointwise_matrices_run_too(tmp_path: Path) -> None:
    path = low_rank_file(tmp_path)
    want = Classifier(open_model(path), activations="float32").scores(TEXTS)
    out = compress(separable(open_source(path), rank=2).source, tmp_path / "out.gguf", TensorType.Q8_0).path
    assert np.abs(Classifier(open_model(out)).scores(TEXTS) - want).max() < 0.1 * np.abs(want).max()


def test_only_what_gets_cheaper_is_taken_apart(tmp_path: Path) -> None:
    done = separable(open_source(tiny_text_cnn(tmp_path).path), rank=3)
    assert [one.rank for one in done.convolutions] == [0, 3, 3]  # of windows of 3, 4 and 7
    assert [one.before for one in done.convolutions] == [FILTERS * HIDDEN * taps for taps in (3, 4, 7)]
    assert done.convolutions[2].after == multiply_adds((FILTERS, HIDDEN, 7), 3)
    with pytest.raises(ConfigError, match="no convolution gets cheaper"):
        separable(open_source(tiny_text_cnn(tmp_path).path), rank=7)


def test_a_calibration_of_the_windows_is_used(tmp_path: Path) -> None:
    source = open_source(tiny_text_cnn(tmp_path).path)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2000, 7 * HIDDEN)).astype(np.float32) * np.repeat([1, 3, 1, 1, 1, 1, 0.1], HIDDEN)
    hessian = (x.T @ x / len(x)).astype(np.float32)
    inputs = {"blk.2.conv.weight": InputStatistics(2000, hessian.diagonal().copy(), hessian=lambda: hessian)}
    plain = separable(source, rank=1).source
    fitted = separable(source, rank=1, calibration=Calibration("", 2000, inputs)).source
    name = "blk.2.conv_pointwise.weight"
    assert np.abs(plain.floats(name) - fitted.floats(name)).max() > 0.01
    np.testing.assert_array_equal(
        plain.floats("blk.0.conv_pointwise.weight"), fitted.floats("blk.0.conv_pointwise.weight")
    )


def test_other_models_and_requests_are_refused(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModelError, match="has no convolutions"):
        separable(open_source(tiny_model), rank=1)
    with pytest.raises(UnsupportedModelError, match="separable already"):
        separable(open_source(tiny_text_cnn(tmp_path, SEPARABLE).path), rank=1)
    source = open_source(tiny_text_cnn(tmp_path).path)
    for asked in ({"rank": -1}, {"error": 1.0}, {"error": float("nan")}, {}):
        with pytest.raises(ConfigError, match="rank of at least 1 or an error"):
            separable(source, **asked)
    arrays = random_arrays(WHOLE) | {"blk.1.conv.weight": np.zeros((FILTERS, HIDDEN), np.float32)}
    damaged = open_source(write_text_cnn(tmp_path / "bad.gguf", WHOLE, arrays))
    with pytest.raises(ModelFileError, match="contradicts itself"):
        separable(damaged, rank=1)


def test_the_command_takes_convolutions_apart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, out = low_rank_file(tmp_path), tmp_path / "out.gguf"
    command = ["compress", str(path), "-o", str(out), "--type", "q8_0"]
    assert main([*command, "--separable", "2"]) == 0
    said = capsys.readouterr()
    assert "blk.2.conv.weight: rank 2" in said.err
    assert f"{FILTERS * HIDDEN * 7} → {multiply_adds((FILTERS, HIDDEN, 7), 2)} multiply-adds" in said.err
    metadata = read_gguf(out).metadata
    assert metadata["miaotui.compress.separable"] == "rank 2"
    assert main([*command, "--separable", "0.05", "--json", "--force"]) == 0
    assert "blk.0.conv_pointwise.weight" in json.loads(capsys.readouterr().out)["tensors"]
    assert main([*command, "--separable", "1.5", "--force"]) == 2
    assert "error between 0 and 1" in capsys.readouterr().err
    assert main(["show", str(out), "--graph"]) == 0
    assert "depthwise" in capsys.readouterr().out
    assert main(["show", str(out)]) == 0
    assert "convolutions" in capsys.readouterr().out
