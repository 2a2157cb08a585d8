"""A text encoder's folder becomes a standard GGUF file that embeds as the folder does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import gguf
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from engine.tiny_bert import LAYERS, PIECES, some_texts, write_tiny_bert
from engine.tiny_bert import tiny_bert as tiny_bert  # a fixture
from miaotui import Embedder
from miaotui.cli import main
from miaotui.compress.compress import compress, open_source
from miaotui.compress.plan import TYPES, type_named
from miaotui.errors import ModelFileError, ModelNotFoundError, UnsupportedModelError
from miaotui.formats import open_model
from miaotui.formats.gguf import read_gguf
from miaotui.formats.quantized import quantize_q8_0
from miaotui.formats.weights import TensorType

TEXTS = ["", *some_texts(30)]


def least_cosine(a: Path, b: Path) -> float:
    with Embedder(a) as before, Embedder(b) as after:
        return float((before.embed(TEXTS) * after.embed(TEXTS)).sum(1).min())


@pytest.mark.parametrize("name", TYPES)
def test_every_type_gives_a_file_that_embeds(name: str, tiny_bert: Path, tmp_path: Path) -> None:
    kind = type_named(name)
    done = compress(open_source(tiny_bert), tmp_path / "out.gguf", kind)
    file = read_gguf(done.path)
    assert {c.name: c.after for c in done.choices} == {t.name: t.type for t in file.weights.values()}
    assert done.output_bytes < done.source_bytes
    assert least_cosine(tiny_bert, done.path) > {"4": 0.9, "5": 0.98}.get(name.strip("IQ")[0], 0.999)


def test_the_spec_reads_back(tiny_bert: Path, tmp_path: Path) -> None:
    path = compress(open_source(tiny_bert), tmp_path / "out.gguf", TensorType.Q8_0).path
    before, after = open_model(tiny_bert).spec, open_model(path).spec
    assert after == replace(before, source="gguf", norm_eps=after.norm_eps)
    assert after.norm_eps == pytest.approx(before.norm_eps)


@pytest.mark.parametrize(
    ("old", "new"),
    [('"hidden_act": "gelu"', '"hidden_act": "gelu_new"'), ('"type_vocab_size": 2', '"type_vocab_size": 2, "x": 1')],
)
def test_the_activation_and_the_pooling_read_back(tmp_path: Path, old: str, new: str) -> None:
    folder = write_tiny_bert(tmp_path / "folder")
    config = folder / "config.json"
    config.write_text(config.read_text().replace(old, new))
    (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode_cls_token": true}')
    path = compress(open_source(folder), tmp_path / "out.gguf", TensorType.F16).path
    before, after = open_model(folder).spec, open_model(path).spec
    assert (after.activation, after.pooling) == (before.activation, "first")
    assert least_cosine(folder, path) > 0.9999


def test_matrices_of_8_bits_are_those_that_the_folder_is_run_with(tiny_bert: Path, tmp_path: Path) -> None:
    path = compress(open_source(tiny_bert), tmp_path / "out.gguf", TensorType.Q8_0).path
    floats, file = open_model(tiny_bert).weights, read_gguf(path).weights
    name = "encoder.layer.1.intermediate.dense.weight"
    np.testing.assert_array_equal(file["blk.1.ffn_up.weight"].data, quantize_q8_0(floats[name].to_float32(), name))
    assert least_cosine(tiny_bert, path) > 0.9999  # the embedding has 8 bits, too


def test_metadata_and_types_are_what_llama_cpp_wants(tiny_bert: Path, tmp_path: Path) -> None:
    path = compress(open_source(tiny_bert), tmp_path / "out.gguf", TensorType.Q4_1).path
    reader = gguf.GGUFReader(path)
    kinds = {field.name: field.types[0].name for field in reader.fields.values()}
    assert kinds["bert.block_count"] == kinds["bert.pooling_type"] == kinds["tokenizer.ggml.bos_token_id"] == "UINT32"
    assert (kinds["bert.attention.layer_norm_epsilon"], kinds["bert.attention.causal"]) == ("FLOAT32", "BOOL")
    assert reader.fields["tokenizer.ggml.tokens"].contents()[PIECES.index("##s")] == "s"
    floats = {t.name for t in reader.tensors if t.tensor_type.name == "F32"}
    assert {"position_embd.weight", "token_types.weight", "blk.0.attn_q.bias"} <= floats
    layer = {"attn_q", "attn_k", "attn_v", "attn_output", "attn_output_norm", "ffn_up", "ffn_down", "layer_output_norm"}
    names = {t.name.removeprefix(f"blk.{at}.").split(".")[0] for at in range(LAYERS) for t in reader.tensors}
    assert layer <= names


@pytest.mark.parametrize("kind", [np.float16, "bf16"])
def test_vectors_of_half_precision_become_floats(kind: object, tmp_path: Path) -> None:
    import torch
    from safetensors.torch import save_file as save_torch

    folder = write_tiny_bert(tmp_path / "folder")
    tensors = load_file(folder / "model.safetensors")
    dtype = torch.bfloat16 if kind == "bf16" else torch.float16
    halves = {
        n: torch.from_numpy(t) if t.dtype.kind == "i" else torch.from_numpy(t).to(dtype) for n, t in tensors.items()
    }
    save_torch(halves, folder / "model.safetensors")
    path = compress(open_source(folder), tmp_path / "out.gguf", TensorType.Q8_0).path
    weights = read_gguf(path).weights
    assert weights["blk.0.attn_q.bias"].type is weights["position_embd.weight"].type is TensorType.F32
    assert least_cosine(folder, path) > 0.9999


def test_a_compressed_encoder_is_compressed_again(tiny_bert: Path, tmp_path: Path) -> None:
    first = compress(open_source(tiny_bert), tmp_path / "a.gguf", TensorType.F16).path
    second = compress(open_source(first), tmp_path / "b.gguf", TensorType.Q8_0).path
    assert least_cosine(tiny_bert, second) > 0.9998


def test_what_cannot_be_compressed_is_a_typed_error_and_leaves_nothing(tiny_bert: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.gguf"
    damaged = write_tiny_bert(tmp_path / "nan", damage="encoder.layer.1.output.dense.weight")
    with pytest.raises(ModelFileError, match=r"output\.dense\.weight.*not finite"):
        compress(open_source(damaged), output, TensorType.Q4_0)
    less = write_tiny_bert(tmp_path / "less")
    tensors = load_file(less / "model.safetensors")
    del tensors["encoder.layer.1.attention.self.key.bias"]
    save_file(tensors, less / "model.safetensors")
    with pytest.raises(ModelFileError, match=r"attention\.self\.key\.bias' is missing"):
        open_source(less)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelNotFoundError, match=r"config\.json"):
        open_source(tmp_path / "empty")
    (tmp_path / "model.bin").write_bytes(b"x")
    with pytest.raises(UnsupportedModelError, match="neither a GGUF file nor"):
        open_source(tmp_path / "model.bin")
    assert not output.exists()
    assert not list(tmp_path.glob(".*part"))


def test_the_command_takes_a_folder(tiny_bert: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "out.gguf"
    assert main(["compress", str(tiny_bert), "-o", str(output), "--type", "q8_0"]) == 0
    assert main(["embed", str(output), "the cat", "the cat", "--similarity"]) == 0
    assert "1.0000 1.0000" in capsys.readouterr().out


GGUF_KEYS = ["bert.embedding_length", "bert.attention.head_count", "bert.block_count", "bert.context_length"]


@pytest.mark.parametrize("key", GGUF_KEYS)
def test_a_file_without_a_size_is_refused_by_name(key: str, tiny_bert: Path, tmp_path: Path) -> None:
    source = open_source(tiny_bert)
    path = tmp_path / "out.gguf"
    compress(source, path, TensorType.F16)
    spoilt = path.read_bytes().replace(key.encode(), key.upper().encode())
    path.write_bytes(spoilt)
    with pytest.raises(ModelFileError, match=key):
        open_model(path)
