"""What is written is what was trained: factors absorbed, weights rounded as the file rounds them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from compress.distil.models import SETTINGS
from engine.tiny_model import tiny_model as tiny_model  # a fixture
from miaotui import _native
from miaotui.compress.compress import open_source
from miaotui.compress.distil.opened import OpenedStudent
from miaotui.compress.distil.parameters import LoraParameters, Parameters
from miaotui.compress.distil.settings import DistilSettings
from miaotui.compress.quantize import rtn
from miaotui.formats.gguf import read_gguf
from miaotui.formats.weights import TensorType

MATRIX = "blk.1.ffn_down.weight"
RNG = np.random.default_rng(8)


def opened(path: Path, **changes: object) -> OpenedStudent:
    return OpenedStudent(path, DistilSettings(**(SETTINGS | changes)))


def disturb(parameters: Parameters) -> None:
    """As training would."""
    for value in parameters.learning().values():
        with torch.no_grad():
            value.add_(0.05 * torch.randn(value.shape, generator=torch.Generator().manual_seed(value.numel())))


def multiply(parameters: Parameters, x: torch.Tensor) -> np.ndarray:
    with torch.no_grad():
        return parameters.linear(x, MATRIX, None).numpy()


@pytest.mark.parametrize("rank", [None, 4])
def test_absorbed_is_applied(rank: int | None, tiny_model: Path, tmp_path: Path) -> None:
    student = opened(tiny_model, lora_rank=rank, kind="f16")
    disturb(student.parameters)
    x = RNG.standard_normal((5, 128)).astype(np.float32)
    before = x @ open_source(tiny_model).floats(MATRIX).T
    written = student.write(tmp_path / "out.gguf", {}).path
    after = x @ read_gguf(written).weights[MATRIX].to_float32().T
    applied = multiply(student.parameters, torch.from_numpy(x))
    np.testing.assert_allclose(applied, after, rtol=5e-3, atol=2e-2)  # of float16
    assert np.abs(applied - before).max() > 0.5
    norm = read_gguf(written).weights["blk.0.attn_norm.weight"].to_float32()
    np.testing.assert_array_equal(norm, student.parameters.merged("blk.0.attn_norm.weight"))


@pytest.mark.parametrize("kind", ["q4_0", "q4_1", "q5_0", "iq4_nl", "q8_0"])
@pytest.mark.parametrize("rank", [None, 4])
def test_it_is_multiplied_with_what_will_be_read_back(kind: str, rank: int | None, tiny_model: Path) -> None:
    student = opened(tiny_model, lora_rank=rank, kind=kind)
    disturb(student.parameters)
    student.parameters.refresh(student.rounding)
    merged = student.parameters.merged(MATRIX)
    packed = rtn.quantize(TensorType[kind.upper()], merged)
    read_back = _native.dequantize(int(TensorType[kind.upper()]), packed, merged.size).reshape(merged.shape)
    got = multiply(student.parameters, torch.eye(128)).T
    np.testing.assert_allclose(got, read_back, rtol=1e-4, atol=1e-5)


def test_the_written_file_is_the_model_that_was_trained(tiny_model: Path, tmp_path: Path) -> None:
    student = opened(tiny_model, lora_rank=4, kind="q4_0")
    disturb(student.parameters)
    student.parameters.refresh(student.rounding)
    written = student.write(tmp_path / "out.gguf", {}).path
    again = opened(written, kind="q4_0")
    ids = torch.arange(5, 29)[None]
    with torch.no_grad():
        one, other = (s.student.logits(s.student.hidden(ids)).numpy() for s in (student, again))
    np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-3)
    assert isinstance(student.parameters, LoraParameters)


@pytest.mark.parametrize("rank", [None, 4])
def test_gradients_go_straight_through_rounding(rank: int | None, tiny_model: Path) -> None:
    x = torch.from_numpy(RNG.standard_normal((5, 128)).astype(np.float32))
    gradients = []
    for kind in ("f16", "q4_0"):
        parameters = opened(tiny_model, lora_rank=rank, kind=kind).parameters
        parameters.refresh(opened(tiny_model, kind=kind).rounding)
        parameters.linear(x, MATRIX, None).sum().backward()
        gradients.append({n: v.grad for n, v in parameters.learning().items() if v.grad is not None})
    assert gradients[0]
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradient, gradients[1][name])
