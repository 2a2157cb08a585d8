from __future__ import annotations

import json
import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from miaotui.errors import MiaotuiError, ModelFileError, ModelNotFoundError, UnsupportedModelError
from miaotui.formats import open_model
from miaotui.formats.safetensors import MAX_HEADER_BYTES, read_folder
from miaotui.formats.weights import TensorType

CONFIG = {
    "model_type": "llama",
    "vocab_size": 16,
    "hidden_size": 8,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "max_position_embeddings": 64,
}
TYPES = {torch.float32: TensorType.F32, torch.float16: TensorType.F16, torch.bfloat16: TensorType.BF16}


def write_raw(folder: Path, header: Any, data: bytes = b"", length: int | None = None) -> Path:
    """A model.safetensors of exactly these parts."""
    content = header if isinstance(header, bytes) else json.dumps(header).encode()
    path = folder / "model.safetensors"
    path.write_bytes(struct.pack("<Q", len(content) if length is None else length) + content + data)
    return folder


def entry(begin: int = 0, end: int = 8, shape: tuple[int, ...] = (2,), dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}


def test_every_type_and_shape_comes_back(tmp_path: Path) -> None:
    held = {f"t.{n}.{dtype}": torch.randn(2, 3, n).to(dtype) for dtype in TYPES for n in (1, 4, 33)}
    held["vector"], held["empty"], held["scalar"] = torch.randn(7), torch.zeros(0, 4), torch.tensor(1.5)
    save_file(held, tmp_path / "model.safetensors", metadata={"format": "pt"})
    weights = read_folder(tmp_path)
    assert set(weights) == set(held)
    for name, tensor in held.items():
        ours = weights[name]
        assert (ours.type, ours.shape) == (TYPES[tensor.dtype], tuple(tensor.shape))
        assert not ours.data.flags.writeable
        np.testing.assert_array_equal(ours.to_float32(), tensor.float().numpy())


def test_shards_of_an_index_are_joined(tmp_path: Path) -> None:
    save_file({"a": torch.ones(2)}, tmp_path / "model-1.safetensors")
    save_file({"b": torch.zeros(3)}, tmp_path / "model-2.safetensors")
    write_index(tmp_path, {"a": "model-1.safetensors", "b": "model-2.safetensors"})
    weights = read_folder(tmp_path)
    assert {name: tensor.shape for name, tensor in weights.items()} == {"a": (2,), "b": (3,)}
    assert weights.file_bytes == sum(path.stat().st_size for path in tmp_path.glob("*.safetensors"))
    weights.release("b")
    assert weights["b"].to_float32().tolist() == [0, 0, 0]


def write_index(folder: Path, weight_map: object) -> None:
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


def test_a_folder_is_opened_with_its_config(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    save_file({"model.norm.weight": torch.ones(8)}, tmp_path / "model.safetensors")
    model = open_model(tmp_path)
    assert (model.spec.source, model.spec.name, model.path) == ("safetensors", tmp_path.name, tmp_path)
    assert (dict(model.metadata), list(model.weights)) == ({}, ["model.norm.weight"])


def test_what_is_missing_in_a_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match=r"holds no config\.json; give a GGUF file"):
        open_model(tmp_path)
    (tmp_path / "tiny.gguf").touch()
    with pytest.raises(ModelNotFoundError, match=r"give the file, e\.g\. .*tiny\.gguf"):
        open_model(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    with pytest.raises(ModelNotFoundError, match=r"neither model\.safetensors nor model\.safetensors\.index\.json"):
        open_model(tmp_path)
    with pytest.raises(ModelFileError, match=r"give the folder"):
        open_model(write_raw(tmp_path, {}) / "model.safetensors")


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\xff{}", b'{"a": NaN}', b'{"a": 1, "a": 2}', b"[" * 100_000])
def test_a_config_that_is_no_json_object_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(ModelFileError, match=r"config\.json: (is not valid JSON|must be a JSON object|holds more)"):
        open_model(tmp_path)


def test_a_config_longer_than_allowed_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes(b"{" + b" " * (1 << 20) + b"}")
    with pytest.raises(ModelFileError, match="is longer than"):
        open_model(tmp_path)
    (tmp_path / "config.json").write_bytes(b'{"a":[' + b"[]," * 250_000 + b"[]]}")
    with pytest.raises(ModelFileError, match="more than 200000 objects and lists"):
        open_model(tmp_path)


@pytest.mark.parametrize("length", [7, MAX_HEADER_BYTES + 1, 2**32, 2**63, 2**64 - 8, 2**64 - 1])
def test_a_header_length_beyond_file_or_cap_is_refused(length: int, tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=f"header's length {length} is more"):
        read_folder(write_raw(tmp_path, b"{}", b"1234", length))


def test_a_header_longer_than_the_cap_is_refused_unread(tmp_path: Path) -> None:
    path = write_raw(tmp_path, b"{}", length=MAX_HEADER_BYTES + 1) / "model.safetensors"
    os.truncate(path, MAX_HEADER_BYTES + 9)  # now it would fit the file
    with pytest.raises(ModelFileError, match=f"header's length {MAX_HEADER_BYTES + 1} is more"):
        read_folder(tmp_path)


def test_a_file_shorter_than_its_header_length_is_refused(tmp_path: Path) -> None:
    for content in (b"\x02", b"\0" * 7):
        (tmp_path / "model.safetensors").write_bytes(content)
        with pytest.raises(ModelFileError, match="even the header's length needs 8"):
            read_folder(tmp_path)


@pytest.mark.parametrize("header", [b"[]", b"{", b"{} x", b"\xff", b'{"a":1,"a":1}', b"[" * 50_000, b"{}\0"])
def test_a_header_that_is_no_json_object_is_refused(header: bytes, tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="header: "):
        read_folder(write_raw(tmp_path, header))


@pytest.mark.parametrize(
    ("header", "size", "match"),
    [
        ({"a": entry(4, 12)}, 12, "'a' begins at 4, but 0 is the end"),
        ({"a": entry(0, 8), "b": entry(12, 20)}, 20, "'b' begins at 12, but 8 is the end"),
        ({"a": entry(0, 8), "b": entry(4, 12)}, 12, "'b' begins at 4, but 8 is the end"),
        ({"a": entry(0, 8), "b": entry(0, 8)}, 8, "'b' begins at 0, but 8 is the end"),
        ({"a": entry(0, 8)}, 9, "1 bytes at the end belong to no tensor"),
        ({"a": entry(0, 8)}, 7, "'a' ends at 8, but only 7 bytes follow"),
        ({"a": entry(8, 0)}, 8, "do not lie in the file"),
        ({"a": entry(-8, 0)}, 8, "do not lie in the file"),
        ({"a": entry(0, 2**64)}, 8, "do not lie in the file"),
        ({"a": entry(0, 10**4000)}, 8, "do not lie in the file"),
        ({"a": entry(0, 8, (3,))}, 8, "shape and type of tensor 'a' do not give its 8 bytes"),
        ({"a": entry(0, 8, (2**32, 2**32, 2))}, 8, "do not give its 8 bytes"),
        ({"a": entry(0, 8, (2**62 + 2,))}, 8, "do not give its 8 bytes"),
        ({"a": entry(0, 8, (-1, -2))}, 8, "needs a 'shape'"),
        ({"a": entry(0, 8, (1,) * 9)}, 8, "needs a 'shape'"),
        ({"a": entry(0, 8) | {"shape": [True, 2]}}, 8, "needs a 'shape'"),
        ({"a": entry(0, 8) | {"shape": "2"}}, 8, "needs a 'shape'"),
        ({"a": entry(0, 8) | {"dtype": 1}}, 8, "needs a 'dtype'"),
        ({"a": entry(0, 8) | {"data_offsets": [0, 8.0]}}, 8, "needs 'data_offsets'"),
        ({"a": entry(0, 8) | {"data_offsets": [0]}}, 8, "needs 'data_offsets'"),
        ({"a": 5}, 0, "needs 'data_offsets'"),
        ({"__metadata__": {"a": 1}}, 0, "'__metadata__' must map strings"),
    ],
)
def test_contradictions_of_a_header_are_refused(header: dict[str, Any], size: int, match: str, tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=match) as caught:
        read_folder(write_raw(tmp_path, header, bytes(size)))
    assert str(caught.value).startswith(str(tmp_path))


@pytest.mark.parametrize("dtype", ["I64", "F64", "F8_E4M3", "BOOL", "?"])
def test_unsupported_element_types_are_named(dtype: str, tmp_path: Path) -> None:
    folder = write_raw(tmp_path, {"a": entry(dtype=dtype)}, bytes(8))
    with pytest.raises(
        UnsupportedModelError, match=r"has type '.*', which is not supported \(supported: F32, F16, BF16"
    ):
        read_folder(folder)


@pytest.mark.parametrize("name", ["../x.safetensors", "/etc/passwd", "a/b", "", ".", "..", "a\\b", "a\0b", "n" * 300])
def test_an_index_cannot_name_a_file_outside_its_folder(name: str, tmp_path: Path) -> None:
    write_index(tmp_path, {"a": name})
    with pytest.raises(ModelFileError, match="is not a plain file name"):
        read_folder(tmp_path)


def test_links_lead_only_into_the_blobs_of_the_same_cache(tmp_path: Path) -> None:
    snapshot = tmp_path / "snapshots" / "revision"
    for folder in (snapshot, tmp_path / "blobs", tmp_path / "elsewhere"):
        folder.mkdir(parents=True)
    (snapshot / "config.json").write_text(json.dumps(CONFIG))
    for home, ok in [("blobs", True), ("elsewhere", False)]:
        save_file({"a": torch.ones(1)}, tmp_path / home / "x")
        link = snapshot / "model.safetensors"
        link.unlink(missing_ok=True)
        link.symlink_to(tmp_path / home / "x")
        if ok:
            assert list(open_model(snapshot).weights) == ["a"]
        else:
            with pytest.raises(ModelFileError, match="is a link to a file outside the folder"):
                open_model(snapshot)


@pytest.mark.parametrize("weight_map", [None, [], {"a": 1}, {"a": None}])
def test_an_index_of_another_shape_is_refused(weight_map: object, tmp_path: Path) -> None:
    write_index(tmp_path, weight_map)
    with pytest.raises(ModelFileError, match="'weight_map' must map"):
        read_folder(tmp_path)


def test_an_index_that_contradicts_its_files_is_refused(tmp_path: Path) -> None:
    save_file({"a": torch.ones(2)}, tmp_path / "1.safetensors")
    save_file({"a": torch.ones(2)}, tmp_path / "2.safetensors")
    write_index(tmp_path, {"a": "1.safetensors", "b": "1.safetensors"})
    with pytest.raises(ModelFileError, match="tensor 'b' of the index is in no file"):
        read_folder(tmp_path)
    write_index(tmp_path, {"a": "1.safetensors", "b": "2.safetensors"})
    with pytest.raises(ModelFileError, match="tensor 'a' is also in"):
        read_folder(tmp_path)
    write_index(tmp_path, {"a": "3.safetensors"})
    with pytest.raises(ModelNotFoundError, match=r"3\.safetensors: no such file"):
        read_folder(tmp_path)


def test_a_fifo_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "config.json")
    with pytest.raises(MiaotuiError):
        open_model(tmp_path)
    os.mkfifo(tmp_path / "model.safetensors")
    with pytest.raises(ModelFileError, match="not a regular file"):
        read_folder(tmp_path)


@settings(max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_files_are_refused_or_read(data: st.DataObject, tmp_path: Path) -> None:
    sound = json.dumps({"a": entry(0, 8), "b": entry(8, 12, (1, 2), "F16"), "__metadata__": {"k": "v"}}).encode()
    content = bytearray(struct.pack("<Q", len(sound)) + sound + bytes(12))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    (tmp_path / "model.safetensors").write_bytes(content[: data.draw(st.integers(1, len(content)))])
    try:
        weights = read_folder(tmp_path)
    except MiaotuiError:
        return
    for tensor in weights.values():
        assert tensor.to_float32().size == tensor.num_weights
