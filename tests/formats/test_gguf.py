from __future__ import annotations

import gc
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np
import pytest
from gguf import quants

from formats.tiny_gguf import ARRAY, STRING, Array, TinyGguf, llama_file
from miaotui.formats import open_model
from miaotui.formats.gguf import read_gguf
from miaotui.formats.gguf_values import StringArray
from miaotui.formats.weights import TensorType

WRITABLE = ["F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"]  # types that the reference can also quantize
TOKENS = ["<s>", "é", "嗨", "🙂", "", "a\0b", "word " * 50]


def write_with_reference(path: Path) -> dict[str, np.ndarray]:
    """A file by the reference writer: every metadata type, every tensor type; returns what the tensors hold."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_uint8("n.u8", 255)
    writer.add_int8("n.i8", -128)
    writer.add_uint16("n.u16", 65535)
    writer.add_int16("n.i16", -32768)
    writer.add_uint32("n.u32", 2**32 - 1)
    writer.add_int32("n.i32", -(2**31))
    writer.add_uint64("n.u64", 2**64 - 1)
    writer.add_int64("n.i64", -(2**63))
    writer.add_float32("n.f32", 0.5)
    writer.add_float64("n.f64", 0.1)
    writer.add_bool("n.yes", True)
    writer.add_bool("n.no", False)
    writer.add_string("n.text", "née 秒推")
    writer.add_array("a.strings", TOKENS)
    writer.add_array("a.ints", [1, -2, 3])
    writer.add_array("a.floats", [0.5, -1.5])
    writer.add_array("a.bools", [True, False])
    rng, held = np.random.default_rng(1), {}
    for name in WRITABLE:
        kind = gguf.GGMLQuantizationType[name]
        data = quants.quantize(rng.normal(size=(3, 64)).astype(np.float32), kind)
        writer.add_tensor(f"t.{name}", data, raw_dtype=kind)
        held[f"t.{name}"] = quants.dequantize(data, kind).astype(np.float32)
    for kind in [k for k in TensorType if k.name not in WRITABLE]:
        number = gguf.GGMLQuantizationType(int(kind))
        raw = rng.integers(0, 60, (2, 512 // kind.block_weights * kind.block_bytes), dtype=np.uint8)
        writer.add_tensor(f"t.{kind.name}", raw, raw_dtype=number)
        held[f"t.{kind.name}"] = quants.dequantize(raw, number)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return held


@pytest.fixture(params=[2, 3], ids=["v2", "v3"])
def reference_file(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, dict[str, np.ndarray]]:
    path = tmp_path / "reference.gguf"
    held = write_with_reference(path)
    content = bytearray(path.read_bytes())
    content[4] = request.param  # versions 2 and 3 have the same layout
    path.write_bytes(content)
    return path, held


def test_every_metadata_type_of_the_reference_writer_is_read(reference_file: tuple[Path, dict]) -> None:
    file = read_gguf(reference_file[0])
    numbers = {key: value for key, value in file.metadata.items() if key.startswith("n.")}
    assert numbers == {
        "n.u8": 255, "n.i8": -128, "n.u16": 65535, "n.i16": -32768, "n.u32": 2**32 - 1, "n.i32": -(2**31),
        "n.u64": 2**64 - 1, "n.i64": -(2**63), "n.f32": 0.5, "n.f64": 0.1, "n.yes": True, "n.no": False,
        "n.text": "née 秒推",
    }  # fmt: skip
    strings = file.metadata["a.strings"]
    assert isinstance(strings, StringArray)
    assert strings.to_list() == TOKENS == list(strings)
    for key, want in {"a.ints": [1, -2, 3], "a.floats": [0.5, -1.5], "a.bools": [True, False]}.items():
        value = file.metadata[key]
        assert isinstance(value, np.ndarray)
        assert value.tolist() == want
        assert not value.flags.writeable


def test_every_tensor_of_the_reference_writer_has_its_bits(reference_file: tuple[Path, dict]) -> None:
    path, held = reference_file
    file = read_gguf(path)
    assert set(file.weights) == set(held)
    for name, want in held.items():
        tensor = file.weights[name]
        got = tensor.to_float32()
        assert got.shape == tensor.shape == want.shape
        nan = np.isnan(want)
        np.testing.assert_array_equal(got.view(np.uint32)[~nan], want.view(np.uint32)[~nan], err_msg=name)


def test_string_array_answers_like_a_list(tmp_path: Path) -> None:
    path = tmp_path / "a.gguf"
    path.write_bytes(TinyGguf().add("a", ARRAY, Array(STRING, list(TOKENS))).build())
    strings = read_gguf(path).metadata["a"]
    assert isinstance(strings, StringArray)
    assert len(strings) == len(TOKENS)
    assert [strings[i] for i in range(-len(TOKENS), len(TOKENS))] == TOKENS + TOKENS
    assert strings[1:3] == TOKENS[1:3]
    assert "嗨" in strings
    for index in (len(TOKENS), -len(TOKENS) - 1):
        with pytest.raises(IndexError):
            strings[index]


def test_bytes_that_are_no_text_survive_in_string_arrays(tmp_path: Path) -> None:
    path = tmp_path / "a.gguf"
    broken = [b"\xff\xfe", b"\xe5\x97", b"\xed\xa0\x80"]
    path.write_bytes(TinyGguf().add("a", ARRAY, Array(STRING, list(broken))).build())
    strings = read_gguf(path).metadata["a"]
    assert isinstance(strings, StringArray)
    assert [text.encode("utf-8", "surrogateescape") for text in strings] == broken


def test_nested_arrays_become_tuples(tmp_path: Path) -> None:
    path = tmp_path / "a.gguf"
    nested = Array(ARRAY, [Array(4, [1, 2]), Array(STRING, ["x"])])
    path.write_bytes(TinyGguf().add("a", ARRAY, nested).build())
    numbers, strings = read_gguf(path).metadata["a"]
    assert numbers.tolist() == [1, 2]
    assert list(strings) == ["x"]


@pytest.mark.parametrize("alignment", [8, 32, 64, 4096])
def test_alignment_of_the_file_is_obeyed(alignment: int, tmp_path: Path) -> None:
    file = llama_file().add("general.alignment", 4, alignment)
    file.alignment = alignment
    file.tensor("extra", (4,), TensorType.F32, np.arange(4, dtype="<f4").tobytes())
    path = tmp_path / "a.gguf"
    path.write_bytes(file.build())
    np.testing.assert_array_equal(read_gguf(path).weights["extra"].to_float32(), [0, 1, 2, 3])


def test_tensor_views_are_read_only_and_outlive_the_model(tmp_path: Path) -> None:
    path = tmp_path / "a.gguf"
    path.write_bytes(llama_file().tensor("extra", (3,), 0, np.ones(3, "<f4").tobytes()).build())
    model = open_model(path)
    data = model.weights["extra"].data
    assert data.nbytes == 12
    assert model.weights.file_bytes == path.stat().st_size
    with pytest.raises(ValueError, match="read-only"):
        data[0] = 1
    path.unlink()
    del model
    gc.collect()
    assert data.view("<f4").tolist() == [1, 1, 1]


def test_released_pages_are_read_again(tmp_path: Path) -> None:
    path = tmp_path / "a.gguf"
    numbers = np.arange(50_000, dtype="<f4")
    path.write_bytes(llama_file().tensor("extra", (50_000,), 0, numbers.tobytes()).build())
    weights = open_model(path).weights
    before = weights["extra"].to_float32()
    resident = _resident_bytes(path)
    weights.release("extra")
    assert _resident_bytes(path) < resident
    np.testing.assert_array_equal(weights["extra"].to_float32(), before)
    with pytest.raises(KeyError):
        weights.release("absent")


def _resident_bytes(path: Path) -> int:
    lines = Path("/proc/self/smaps").read_text().splitlines()
    start = next(i for i, line in enumerate(lines) if line.endswith(str(path)))
    return next(int(line.split()[1]) for line in lines[start:] if line.startswith("Rss:")) * 1024


# architecture, layers, vocabulary, merges, rope pairing
REAL = {
    "smollm2-135m-instruct-q4_1.gguf": ("llama", 30, 49152, 48900, "interleaved"),
    "qwen2.5-coder-0.5b-instruct-q4_k_m.gguf": ("qwen2", 24, 151936, 151387, "neox"),
    "qwen2.5-coder-1.5b-instruct-q4_k_m.gguf": ("qwen2", 28, 151936, 151387, "neox"),
    "gemma-3-270m-q4_k_m.gguf": ("gemma3", 18, 262144, 0, "neox"),
}


@pytest.mark.model
@pytest.mark.parametrize("name", REAL)
def test_real_files_are_read_whole(name: str, real_model: Callable[[str], Path]) -> None:
    model = open_model(real_model(name))
    spec, tokens = model.spec, model.metadata["tokenizer.ggml.tokens"]
    merges = model.metadata.get("tokenizer.ggml.merges", [])
    assert (spec.architecture, spec.num_layers, spec.vocab_size, len(merges), spec.rope_pairing) == REAL[name]
    assert len(set(tokens)) == len(tokens) == spec.vocab_size
    assert all(" " in merge for merge in merges)
    last = model.weights[f"blk.{spec.num_layers - 1}.attn_norm.weight"]
    assert np.isfinite(last.to_float32()).all()


@pytest.mark.model
def test_a_real_file_is_read_as_the_reference_reads_it(smollm2_path: Path) -> None:
    model, reference = open_model(smollm2_path), gguf.GGUFReader(smollm2_path)
    assert {k for k in reference.fields if not k.startswith("GGUF.")} == set(model.metadata)
    for key, value in model.metadata.items():
        ours = value.tolist() if isinstance(value, np.ndarray) else value
        assert (list(ours) if isinstance(ours, StringArray) else ours) == reference.fields[key].contents(), key
    assert [t.name for t in reference.tensors] == list(model.weights)
    for tensor in reference.tensors:
        ours = model.weights[tensor.name]
        assert ours.shape == tuple(reversed(tensor.shape.tolist()))
        assert np.array_equal(ours.data, tensor.data.reshape(-1).view(np.uint8)), tensor.name


def test_the_package_is_imported_without_numpy() -> None:
    code = "import sys, miaotui.formats; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode == 0
