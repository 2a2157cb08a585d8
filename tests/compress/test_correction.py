"""Factors beside a quantized matrix bring its outputs back towards those of the original."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import pytest

from compress.sources import calibration, logits_of
from engine.tiny_model import tiny_model as tiny_model  # a fixture
from miaotui import LLM
from miaotui.compress.adapter import write_adapter, write_merged
from miaotui.compress.compress import compress, open_source
from miaotui.compress.quantize.correction import correctable, corrections
from miaotui.compress.source import FileSource, Source
from miaotui.errors import ConfigError, ModelFileError
from miaotui.formats.gguf import read_gguf
from miaotui.formats.weights import TensorType

RANK = 8
PROMPT = "the cat and the dog and the cat"


@pytest.fixture
def source(tiny_model: Path) -> Source:
    return open_source(tiny_model)


@pytest.fixture
def quantized(source: Source, tmp_path: Path) -> FileSource:
    return open_source(compress(source, tmp_path / "quantized.gguf", TensorType.Q4_0).path)


@pytest.fixture
def adapter(source: Source, quantized: FileSource, tmp_path: Path) -> Path:
    names = correctable(source, quantized, RANK)
    found = corrections(source, quantized, names, calibration(source), RANK)
    return write_adapter(tmp_path / "adapter.gguf", quantized, names, RANK, found)


def test_more_rank_leaves_less_error(source: Source, quantized: FileSource) -> None:
    name, known = "blk.0.ffn_down.weight", calibration(source)
    hessian = known.inputs[name].hessian
    assert hessian is not None
    error = source.floats(name) - quantized.floats(name)
    left = []
    for rank in (1, 8, 32):
        (one,) = corrections(source, quantized, [name], known, rank)
        rest = error - one.b @ one.a
        left.append(float(np.einsum("ij,jk,ik->", rest, hessian(), rest)))
        whole = float(np.einsum("ij,jk,ik->", error, hessian(), error))
        assert left[-1] / whole == pytest.approx(1 - one.removed, abs=1e-3)
    assert left == sorted(left, reverse=True)
    assert left[-1] < 0.2 * whole


def test_factors_are_of_one_size(source: Source, quantized: FileSource) -> None:
    for one in corrections(source, quantized, correctable(source, quantized, RANK), None, RANK):
        np.testing.assert_allclose(np.abs(one.a).max(axis=1), np.abs(one.b).max(axis=0), rtol=1e-3)


def test_only_layers_matrices_that_changed_are_corrected(source: Source, quantized: FileSource) -> None:
    names = correctable(source, quantized, RANK)
    assert len(names) == 14
    assert all(name.startswith("blk.") for name in names)
    assert correctable(source, open_source(source.path), RANK) == []
    assert len(correctable(source, quantized, 32)) == 6  # 32 rows of 64 columns are not worth a rank of 32
    for rank in (0, 33):
        with pytest.raises(ConfigError, match="1 to 32"):
            correctable(source, quantized, rank)


def test_the_corrected_model_is_nearer_to_the_source(source: Source, quantized: FileSource, tmp_path: Path) -> None:
    names = correctable(source, quantized, 24)
    path = write_adapter(tmp_path / "a.gguf", quantized, names, 24, corrections(source, quantized, names, None, 24))
    merged = write_merged(quantized.path, path, tmp_path / "merged.gguf")
    whole = logits_of(source, tmp_path / "whole.gguf")
    errors = []
    for path in (quantized.path, merged):
        with LLM(path) as llm:
            errors.append(float(np.square(llm.logits(PROMPT) - whole).mean()))
    assert errors[1] < 0.9 * errors[0]  # the rest is the embedding, mostly


def test_the_adapter_is_one_that_others_read(quantized: FileSource, adapter: Path) -> None:
    reader = gguf.GGUFReader(adapter)
    fields = {key: field.contents() for key, field in reader.fields.items()}
    assert fields["general.type"] == "adapter"
    assert fields["adapter.type"] == "lora"
    assert fields["general.architecture"] == "llama"
    assert reader.fields["adapter.lora.alpha"].types == [gguf.GGUFValueType.FLOAT32]
    assert fields["adapter.lora.alpha"] == RANK  # alpha / rank = 1
    shapes = {tensor.name: tuple(tensor.shape[::-1]) for tensor in reader.tensors}
    for name in (name for name in shapes if name.endswith("lora_a")):
        rows, columns = quantized.tensors[name.removesuffix(".lora_a")].shape
        assert shapes[name] == (RANK, columns)
        assert shapes[name.replace("lora_a", "lora_b")] == (rows, RANK)


def test_a_model_with_factors_keeps_them_when_it_is_compressed_again(
    quantized: FileSource, adapter: Path, tmp_path: Path
) -> None:
    merged = write_merged(quantized.path, adapter, tmp_path / "merged.gguf")
    again = read_gguf(compress(open_source(merged), tmp_path / "again.gguf", TensorType.Q4_0).path)
    for name, tensor in read_gguf(merged).weights.items():
        assert again.weights[name].data.tobytes() == tensor.data.tobytes()


def test_another_model_s_adapter_is_refused(quantized: FileSource, adapter: Path, tmp_path: Path) -> None:
    merged = write_merged(quantized.path, adapter, tmp_path / "merged.gguf")
    with pytest.raises(ModelFileError, match="own adapter"):
        write_merged(merged, adapter, tmp_path / "twice.gguf")
    with pytest.raises(ModelFileError, match="own adapter"):
        write_merged(adapter, quantized.path, tmp_path / "nonsense.gguf")
    assert not (tmp_path / "nonsense.gguf").exists()
