"""A rotated model computes the same function, and its statistics are those of the rotated inputs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from compress.sources import calibration, logits_of, with_biases
from engine.tiny_model import tiny_model as tiny_model  # a fixture
from miaotui.compress.compress import open_source
from miaotui.compress.quantize.hadamard import Rotation, hadamard
from miaotui.compress.quantize.rotate import rotate
from miaotui.compress.source import Changed, Source, chunks
from miaotui.errors import UnsupportedModelError


@pytest.fixture
def source(tiny_model: Path) -> Source:
    return with_biases(open_source(tiny_model))


@pytest.mark.parametrize("stream", [False, True])
def test_logits_stay_what_they_are(stream: bool, source: Source, tmp_path: Path) -> None:
    before = logits_of(source, tmp_path / "before.gguf")
    turned, _ = rotate(source, None, stream=stream)
    np.testing.assert_allclose(logits_of(turned, tmp_path / "after.gguf"), before, atol=1e-4 * np.abs(before).max())
    for name in ("blk.0.attn_output.weight", "blk.0.attn_v.weight", "blk.0.attn_v.bias"):
        assert np.abs(turned.floats(name) - source.floats(name)).max() > 0.01


def test_a_tied_model_gets_a_head_of_its_own(source: Source, tmp_path: Path) -> None:
    tied = Changed(source, {"output.weight": None})
    before = logits_of(tied, tmp_path / "before.gguf")
    turned, _ = rotate(tied, None, stream=True)
    assert "output.weight" in turned.tensors
    np.testing.assert_allclose(logits_of(turned, tmp_path / "after.gguf"), before, atol=1e-4 * np.abs(before).max())
    assert "output.weight" not in rotate(tied, None)[0].tensors


def test_rows_do_not_depend_on_how_many_are_asked_for(source: Source) -> None:
    turned, _ = rotate(source, None, stream=True)
    for name in ("blk.1.ffn_down.weight", "blk.1.attn_v.weight", "blk.1.attn_q.weight"):
        whole = np.concatenate(list(chunks(turned, name)))
        pieces = [turned.floats(name, k, k + 1) for k in range(len(whole))]
        np.testing.assert_allclose(np.concatenate(pieces), whole, atol=1e-6)


@pytest.mark.parametrize("name", ["blk.0.attn_q.weight", "blk.1.ffn_up.weight", "blk.1.attn_output.weight"])
def test_a_matrix_and_its_inputs_turn_together(name: str, source: Source) -> None:
    known = calibration(source)
    turned, now = rotate(source, known, stream=True)
    assert now is not None
    before, after = known.inputs[name].hessian, now.inputs[name].hessian
    assert before is not None
    assert after is not None
    rows = source.floats(name), turned.floats(name)
    energies = [np.einsum("ij,jk,ik->i", w, h, w) for w, h in zip(rows, (before(), after()), strict=True)]
    if name.endswith("attn_output.weight"):  # whose rows turn too
        energies = [energy.sum(keepdims=True) for energy in energies]
    np.testing.assert_allclose(*energies, rtol=1e-3)
    np.testing.assert_allclose(now.inputs[name].moments, after().diagonal(), rtol=1e-4)


def test_moments_alone_keep_their_sum(source: Source) -> None:
    known = calibration(source, hessian=False)
    name = "blk.0.attn_output.weight"
    now = rotate(source, known)[1]
    assert now is not None
    assert now.inputs[name].moments.sum() == pytest.approx(known.inputs[name].moments.sum(), rel=1e-4)
    assert now.inputs[name].moments.std() < known.inputs[name].moments.std()


def test_what_a_rotation_would_change_is_refused(source: Source) -> None:
    metadata = {key.replace("llama.", "gemma3."): value for key, value in source.metadata.items()}
    gemma = Changed(source, {}, metadata={**metadata, "general.architecture": "gemma3"})
    with pytest.raises(UnsupportedModelError, match="value heads only"):
        rotate(gemma, None, stream=True)
    rotate(gemma, None)


@pytest.mark.parametrize("width", [1, 24, 64, 896])
def test_rotations_are_orthogonal(width: int) -> None:
    rotation = Rotation.of(width, np.random.default_rng(1))
    matrix = rotation.turn(np.eye(width, dtype=np.float32))
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(width), atol=1e-5)
    np.testing.assert_allclose(rotation.turn_rows(np.eye(width, dtype=np.float32), 0), matrix.T, atol=1e-6)
    assert width % rotation.block == 0
    assert rotation.block == {1: 1, 24: 8, 64: 64, 896: 128}[width]
    assert np.abs(hadamard(rotation.block)).max() == pytest.approx(rotation.block**-0.5)
