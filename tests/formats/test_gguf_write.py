"""A written file reads back as it was meant, for us and for others, and appears whole or not at all."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from engine.tiny_model import tiny_model as tiny_model  # a fixture
from miaotui.errors import ModelFileError, OutputError
from miaotui.formats.gguf import read_gguf
from miaotui.formats.gguf_write import GgufWriter, PlannedTensor, encode_field, encode_u32
from miaotui.formats.part_file import PartFile
from miaotui.formats.weights import TensorType

MATRIX = PlannedTensor("m.weight", TensorType.F16, (3, 5))  # 30 bytes: the next tensor begins behind a gap
VECTOR = PlannedTensor("v.weight", TensorType.F32, (7,))
FIELDS = {
    "general.architecture": encode_field("llama"),
    "text": encode_field("快 \u0001"),
    "yes": encode_field(True),
    "number": encode_field(-(2**40)),
    "share": encode_field(0.1),
    "small": encode_u32(7),
}


def matrix() -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.arange(15, dtype=np.float16).view(np.uint8)


def vector() -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.arange(7, dtype=np.float32).view(np.uint8)


def write(path: Path) -> Path:
    with GgufWriter(path, FIELDS, [MATRIX, VECTOR]) as writer:
        writer.write("m.weight", matrix())
        writer.write("v.weight", vector())
    return path


def test_it_reads_back(tmp_path: Path) -> None:
    file = read_gguf(write(tmp_path / "a.gguf"))
    assert file.version == 3
    assert dict(file.metadata) == {
        "general.architecture": "llama", "text": "快 \u0001", "yes": True, "number": -(2**40), "share": 0.1, "small": 7,
    }  # fmt: skip
    assert [(t.name, t.type, t.shape) for t in file.weights.values()] == [
        (p.name, p.type, p.shape) for p in (MATRIX, VECTOR)
    ]
    np.testing.assert_array_equal(file.weights["m.weight"].data, matrix())
    np.testing.assert_array_equal(file.weights["v.weight"].data, vector())


def test_the_reference_reader_reads_it(tmp_path: Path) -> None:
    reader = gguf.GGUFReader(write(tmp_path / "a.gguf"))
    assert [tensor.name for tensor in reader.tensors] == ["m.weight", "v.weight"]
    np.testing.assert_array_equal(reader.tensors[1].data, np.arange(7, dtype=np.float32))
    assert reader.fields["number"].contents() == -(2**40)


def test_what_was_read_is_written_again_as_it_was(tiny_model: Path, tmp_path: Path) -> None:
    source = read_gguf(tiny_model)
    planned = [PlannedTensor(t.name, t.type, t.shape) for t in source.weights.values()]
    with GgufWriter(tmp_path / "b.gguf", source.fields, planned) as writer:
        for tensor in source.weights.values():
            writer.write(tensor.name, tensor.data)
    copy = read_gguf(tmp_path / "b.gguf")
    assert {key: bytes(value) for key, value in copy.fields.items()} == {
        key: bytes(value) for key, value in source.fields.items()
    }
    for name, tensor in source.weights.items():
        np.testing.assert_array_equal(copy.weights[name].data, tensor.data)


@pytest.mark.parametrize(("name", "data"), [("v.weight", vector()), ("m.weight", vector())])
def test_tensors_come_as_they_were_announced(tmp_path: Path, name: str, data: Any) -> None:
    with (
        pytest.raises(ModelFileError, match="was not to be written here"),
        GgufWriter(tmp_path / "a.gguf", {}, [MATRIX, VECTOR]) as writer,
    ):
        writer.write(name, data)
    assert list(tmp_path.iterdir()) == []


def test_an_unfinished_file_never_appears_and_an_older_one_stays(tmp_path: Path) -> None:
    path = write(tmp_path / "a.gguf")
    before = path.read_bytes()
    with pytest.raises(ValueError, match="no"), GgufWriter(path, FIELDS, [MATRIX, VECTOR]) as writer:  # noqa: PT012
        writer.write("m.weight", matrix())
        raise ValueError("no")
    with pytest.raises(ModelFileError, match=r"v\.weight"), GgufWriter(path, FIELDS, [MATRIX, VECTOR]) as writer:
        writer.write("m.weight", matrix())
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def interrupted(path: Path, fields: dict[str, bytes] = FIELDS) -> None:
    with pytest.raises(KeyboardInterrupt), GgufWriter(path, fields, [MATRIX, VECTOR]) as writer:  # noqa: PT012
        writer.write("m.weight", matrix())
        raise KeyboardInterrupt


def test_an_interrupted_file_is_gone_on_with(tmp_path: Path) -> None:
    path = tmp_path / "a[1].gguf"
    interrupted(path)
    assert not path.exists()
    with GgufWriter(path, FIELDS, [MATRIX, VECTOR]) as writer:
        assert writer.is_written("m.weight")
        assert not writer.is_written("v.weight")
        writer.write("v.weight", vector())
    whole = write(tmp_path / "b.gguf")
    assert path.read_bytes() == whole.read_bytes()
    assert sorted(tmp_path.iterdir()) == [path, whole]


@pytest.mark.parametrize("harm", ["part", "journal", "flip"])
def test_what_is_damaged_is_written_again(tmp_path: Path, harm: str) -> None:
    path = tmp_path / "a.gguf"
    interrupted(path)
    part = next(tmp_path.glob(".*.part"))
    damaged = part.with_suffix(".journal") if harm == "journal" else part
    data = bytearray(damaged.read_bytes())
    data[-20] ^= 1
    damaged.write_bytes(data if harm == "flip" else data[:-5])
    with GgufWriter(path, FIELDS, [MATRIX, VECTOR]) as writer:
        assert not writer.is_written("m.weight")
        writer.write("m.weight", matrix())
        writer.write("v.weight", vector())
    assert path.read_bytes() == write(tmp_path / "b.gguf").read_bytes()


def test_other_contents_begin_anew(tmp_path: Path) -> None:
    path = tmp_path / "a.gguf"
    interrupted(path, {"other": encode_field(True)})
    write(path)
    assert list(tmp_path.iterdir()) == [path]


def test_two_do_not_write_the_same_file(tmp_path: Path) -> None:
    with GgufWriter(tmp_path / "a.gguf", FIELDS, [MATRIX, VECTOR]) as writer:
        with pytest.raises(OutputError, match="another process"):
            GgufWriter(tmp_path / "a.gguf", FIELDS, [MATRIX, VECTOR])
        writer.write("m.weight", matrix())
        writer.write("v.weight", vector())
    assert len(list(tmp_path.iterdir())) == 1


def test_a_disk_without_room_is_said_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: type("Usage", (), {"free": 1000}))
    with pytest.raises(OutputError, match=r"needs .* more bytes, and the disk has 1000"):
        GgufWriter(tmp_path / "a.gguf", FIELDS, [MATRIX])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("problem", [errno.ENOSPC, errno.EIO])
def test_a_disk_that_fails_while_writing_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, problem: int
) -> None:
    def full(*parts: object) -> None:
        raise OSError(problem, "no")

    writer = GgufWriter(tmp_path / "a.gguf", {}, [MATRIX])
    monkeypatch.setattr(PartFile, "append", full)
    with pytest.raises(OutputError, match="cannot be written"), writer:
        writer.write("m.weight", matrix())
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_is_a_typed_error(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="nowhere"):
        GgufWriter(tmp_path / "nowhere" / "a.gguf", {}, [MATRIX])


def test_a_disk_that_is_full_at_once_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*parts: object) -> None:
        raise OSError(errno.ENOSPC, "no")

    monkeypatch.setattr(PartFile, "append", full)
    with pytest.raises(OutputError, match="cannot be written"):
        GgufWriter(tmp_path / "a.gguf", FIELDS, [MATRIX])
    assert list(tmp_path.iterdir()) == []


def test_another_output_s_part_is_left_alone(tmp_path: Path) -> None:
    interrupted(tmp_path / "small.gguf")
    write(tmp_path / "small")
    assert len(list(tmp_path.glob(".small.gguf.*.part"))) == 1


def test_a_text_that_is_none_is_a_typed_error() -> None:
    with pytest.raises(ModelFileError, match="no text"):
        encode_field("\ud800")
