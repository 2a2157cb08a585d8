"""One test per way in which a GGUF file can lie; each lie is named in the error, with its field and byte."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from formats.tiny_gguf import ARRAY, BOOL, F32, I32, STRING, U8, U32, U64, Array, TinyGguf, llama_file
from miaotui import _native
from miaotui.errors import ModelFileError, ModelNotFoundError, UnsupportedModelError
from miaotui.formats import open_model
from miaotui.formats.gguf import MAX_KEYS, MAX_TENSORS, read_gguf
from miaotui.formats.gguf_values import MAX_NESTED_ITEMS, MAX_NESTING, StringArray
from miaotui.formats.weights import TensorType

Refused = Callable[..., str]


@pytest.fixture
def refused(tmp_path: Path) -> Refused:
    """Asserts that the content is refused with `match` in the message, which must name file and byte."""

    def check(content: TinyGguf | bytes, match: str, error: type[Exception] = ModelFileError) -> str:
        path = tmp_path / "hostile.gguf"
        path.write_bytes(content.build() if isinstance(content, TinyGguf) else content)
        with pytest.raises(error, match=match) as caught:
            read_gguf(path)
        message = str(caught.value)
        assert message.startswith(str(path))
        assert error is UnsupportedModelError or "byte " in message
        return message

    return check


def test_the_file_the_others_are_made_from_is_sound(tmp_path: Path) -> None:
    path = tmp_path / "sound.gguf"
    path.write_bytes(llama_file().build())
    assert open_model(path).spec.num_layers == 1


def test_another_magic_is_refused(refused: Refused) -> None:
    file = llama_file()
    file.magic = b"GGML"
    refused(file, "is not a GGUF file")


def test_unknown_versions_and_byte_order_are_refused_by_name(refused: Refused) -> None:
    file = llama_file()
    for version, match in [(1, "version 1 "), (4, "version 4 "), (0x03000000, "big-endian")]:
        file.version = version
        refused(file, match, UnsupportedModelError)


def test_a_truncated_magic_or_version_is_refused(refused: Refused) -> None:
    for length in (1, 3, 4, 7):
        refused(llama_file().build()[:length], "the file ends after")


@pytest.mark.parametrize("count", [MAX_TENSORS + 1, 2**31, 2**63, 2**64 - 1])
def test_more_tensors_than_fit_are_refused(count: int, refused: Refused) -> None:
    file = llama_file()
    file.num_tensors = count
    refused(file, f"byte 8: tensor count {count} is more than the file can hold")


@pytest.mark.parametrize("count", [MAX_KEYS + 1, 2**31, 2**63, 2**64 - 1])
def test_more_keys_than_fit_are_refused(count: int, refused: Refused) -> None:
    file = llama_file()
    file.num_keys = count
    refused(file, f"byte 16: key count {count} is more than the file can hold")


def test_a_key_count_that_runs_into_the_tensors_is_refused(refused: Refused) -> None:
    file = llama_file()
    file.num_keys = len(file.metadata) + 1
    refused(file, "byte")


@pytest.mark.parametrize("length", [2**16, 2**32, 2**63 - 1, 2**64 - 1])
def test_a_key_longer_than_allowed_is_refused(length: int, refused: Refused) -> None:
    content = bytearray(llama_file().build())
    content[24:32] = struct.pack("<Q", length)
    refused(bytes(content), f"byte 24: key 0 is {length} bytes long")


def test_a_string_that_reaches_past_the_end_is_refused(refused: Refused) -> None:
    content = TinyGguf().add("long", STRING, "x" * 100).build()[:-90]
    refused(content, "value of 'long' needs 100 bytes")


def test_a_string_value_longer_than_allowed_is_refused(refused: Refused) -> None:
    content = bytearray(TinyGguf().add("k", STRING, "").build())
    content[37:45] = struct.pack("<Q", 2**40)
    refused(bytes(content), "byte 37: value of 'k' is 1099511627776 bytes long")


def test_an_empty_key_is_refused(refused: Refused) -> None:
    refused(TinyGguf().add("", U8, 1), "key 0 is empty")


def test_a_key_that_occurs_twice_is_refused(refused: Refused) -> None:
    refused(TinyGguf().add("k", U8, 1).add("k", U32, 2), "byte 38: key 1 'k' occurs twice")


@pytest.mark.parametrize("content", [b"\xff", b"\xc3", b"\xed\xa0\x80"])
def test_keys_names_and_string_values_must_be_text(content: bytes, refused: Refused) -> None:
    refused(TinyGguf().add(content, U8, 1), "key 0 is not UTF-8")
    refused(TinyGguf().add("k", STRING, content), "value of 'k' is not UTF-8")
    refused(TinyGguf().tensor(content, (4,)), "tensor name is not UTF-8")


def test_control_characters_of_names_are_escaped_in_messages(refused: Refused) -> None:
    message = refused(TinyGguf().add("\x1b[2J", U8, 1).add("\x1b[2J", U8, 1), "occurs twice")
    message += refused(TinyGguf().tensor("\x1b[2J", (4, 0)), "blocks")
    assert "\x1b" not in message


@pytest.mark.parametrize("kind", [13, 255, 2**31, 2**32 - 1])
def test_unknown_value_types_are_refused(kind: int, refused: Refused) -> None:
    refused(TinyGguf().add("k", kind, bytes(8)) if kind > 12 else TinyGguf(), f"unknown type {kind}")
    refused(TinyGguf().add("k", ARRAY, Array(kind, [])), f"elements of the unknown type {kind}")


def test_a_boolean_that_is_neither_is_refused(refused: Refused) -> None:
    refused(TinyGguf().add("k", BOOL, b"\x02"), "must be 0 or 1 as a boolean, not 2")
    refused(TinyGguf().add("k", ARRAY, Array(BOOL, [b"\x01", b"\x07"])), "must hold only 0 and 1")


@pytest.mark.parametrize("count", [5, 2**32, 2**61, 2**62 + 1, 2**64 - 1])
def test_a_number_array_longer_than_the_file_is_refused(count: int, refused: Refused) -> None:
    content = bytearray(TinyGguf().add("k", ARRAY, Array(F32, [1.0, 2.0])).build()[: 24 + 9 + 4 + 12 + 8])
    content[41:49] = struct.pack("<Q", count)  # 2**62 + 1 floats wrap to 4 bytes in 64-bit arithmetic
    refused(bytes(content), f"needs {count * 4} bytes, but the file ends after 8")


@pytest.mark.parametrize("count", [4, 2**32, 2**61, 2**61 + 1, 2**64 - 1])
def test_a_string_array_longer_than_the_file_is_refused(count: int, refused: Refused) -> None:
    content = bytearray(TinyGguf().add("k", ARRAY, Array(STRING, ["ab", "c"])).build()[: 24 + 9 + 4 + 12 + 19])
    content[41:49] = struct.pack("<Q", count)
    refused(bytes(content), f"{count} strings do not fit")


@pytest.mark.parametrize("length", [3, 2**32, 2**63, 2**64 - 8, 2**64 - 1])
def test_a_string_of_an_array_that_reaches_past_the_end_is_refused(length: int, refused: Refused) -> None:
    content = bytearray(TinyGguf().add("k", ARRAY, Array(STRING, ["ab", "cd"])).build()[: 24 + 9 + 4 + 12 + 20])
    content[59:67] = struct.pack("<Q", length)
    refused(bytes(content), "string 1 at byte 59 reaches past the end")


def test_arrays_nested_too_deep_are_refused(refused: Refused) -> None:
    value = Array(U8, [1])
    for _ in range(MAX_NESTING):
        value = Array(ARRAY, [value])
    refused(TinyGguf().add("k", ARRAY, value), "nests arrays deeper than")


def test_arrays_nested_too_wide_are_refused(refused: Refused) -> None:
    many = Array(ARRAY, [Array(U8, [])] * (MAX_NESTED_ITEMS // 2 + 1))
    refused(TinyGguf().add("k", ARRAY, many).add("l", ARRAY, many), "value of 'l' holds more than")


@pytest.mark.parametrize("value", [0, 4, 31, 33, 2**22, 2**31, 2**32 - 1])
def test_an_alignment_that_is_no_sane_power_of_two_is_refused(value: int, refused: Refused) -> None:
    refused(llama_file().add("general.alignment", U32, value), "'general.alignment' must be a power of two")


@pytest.mark.parametrize(
    ("kind", "value"),
    [(STRING, "32"), (F32, 32.0), (BOOL, True), (U8, 32), (I32, 32), (I32, -32), (U64, 32), (ARRAY, Array(U32, [32]))],
)
def test_an_alignment_of_another_type_is_refused(kind: int, value: object, refused: Refused) -> None:
    refused(llama_file().add("general.alignment", kind, value), f"'general.alignment' must be a uint32.*type {kind}")


def test_parts_of_a_split_file_are_refused_with_the_remedy(refused: Refused) -> None:
    refused(llama_file().add("split.count", 2, 3), "one of 3 parts.*--merge", UnsupportedModelError)


@pytest.mark.parametrize("shape", [(), (2,) * 5])
def test_a_tensor_with_too_few_or_many_dimensions_is_refused(shape: tuple[int, ...], refused: Refused) -> None:
    refused(TinyGguf().tensor("t", shape, 0, bytes(128)), f"tensor 't' has {len(shape)} dimensions")


@pytest.mark.parametrize("shape", [(0,), (4, 0), (0, 32)])
def test_a_tensor_without_weights_is_refused(shape: tuple[int, ...], refused: Refused) -> None:
    refused(TinyGguf().tensor("t", shape, 0, b""), "does not consist of whole F32 blocks")


@pytest.mark.parametrize("kind", [k for k in TensorType if k.block_weights > 1], ids=lambda kind: kind.name)
def test_rows_that_end_within_a_block_are_refused(kind: TensorType, refused: Refused) -> None:
    # The product is a whole number of blocks, but no row is.
    refused(TinyGguf().tensor("t", (kind.block_weights, 3), kind, bytes(4096)), f"whole {kind.name} blocks")


@pytest.mark.parametrize(
    "shape", [(2**32, 2**32), (2**63, 2), (2**62, 4), (2**64 - 1, 2**64 - 1, 2, 2), (2**32, 2**16, 2**16), (2**61, 8)]
)
def test_dimensions_whose_product_wraps_are_refused(shape: tuple[int, ...], refused: Refused) -> None:
    refused(TinyGguf().tensor("t", shape, 0, bytes(64)), "data of tensor 't' needs bytes")


@pytest.mark.parametrize("offset", [1, 16, 33, 2**63 + 1])
def test_an_unaligned_offset_is_refused(offset: int, refused: Refused) -> None:
    file = llama_file()
    file.tensors[1].offset = offset
    refused(file, f"offset of tensor 'output_norm.weight' {offset} is not a multiple of the alignment 32")


@pytest.mark.parametrize("offset", [2**20, 2**32, 2**63, 2**64 - 32])
def test_an_offset_past_the_end_is_refused(offset: int, refused: Refused) -> None:
    file = llama_file()
    file.tensors[1].offset = offset
    refused(file, "data of tensor 'output_norm.weight' needs bytes")


def test_data_that_ends_one_byte_past_the_file_is_refused(refused: Refused) -> None:
    content = TinyGguf().tensor("t", (8,), 0).build()
    refused(content[:-1], "data of tensor 't' needs bytes")


def test_overlapping_tensors_are_refused(refused: Refused) -> None:
    file = llama_file()
    file.tensors[2].offset = 0
    refused(file, "data of tensor 'blk.0.attn_q.weight' overlaps that of 'token_embd.weight'")


def test_a_tensor_name_that_occurs_twice_is_refused(refused: Refused) -> None:
    refused(TinyGguf().tensor("t", (8,)).tensor("t", (8,)), "tensor 't' occurs twice")


def test_a_tensor_name_that_is_empty_or_too_long_is_refused(refused: Refused) -> None:
    refused(TinyGguf().tensor("", (8,)), "and a name are needed")
    refused(TinyGguf().tensor("n" * 300, (8,)), "tensor name is 300 bytes long")


@pytest.mark.parametrize(
    ("kind", "name"), [(16, "IQ2_XXS"), (39, "MXFP4"), (26, "I32"), (4, "number 4"), (2**32 - 1, "n")]
)
def test_an_unsupported_tensor_type_is_named_beside_the_supported(kind: int, name: str, refused: Refused) -> None:
    message = refused(TinyGguf().tensor("t", (32,), kind, bytes(64)), f"has type {name}", UnsupportedModelError)
    assert all(member.name in message for member in TensorType)


def test_header_only_file_cut_at_every_byte_is_refused(refused: Refused) -> None:
    file = llama_file()
    content = file.build()
    for length in range(1, file.header_bytes):
        refused(content[:length], "the file|do not fit|past the end|can hold")


def test_what_is_no_regular_file_is_refused_without_waiting(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo.gguf"
    os.mkfifo(fifo)
    with pytest.raises(ModelFileError, match="not a regular file"):
        open_model(fifo)
    with pytest.raises(ModelFileError, match="not a regular file"):
        open_model("/dev/zero")


def test_absent_empty_and_impossible_paths_are_told_apart(tmp_path: Path) -> None:
    empty = tmp_path / "empty.gguf"
    empty.touch()
    with pytest.raises(ModelFileError, match="is empty"):
        open_model(empty)
    for path in (tmp_path / "absent.gguf", "a\0b", "x" * 5000, empty / "below"):
        with pytest.raises(ModelNotFoundError, match="no such file"):
            open_model(path)


def test_strings_are_walked_within_the_given_bytes_only() -> None:
    data = np.frombuffer(struct.pack("<Q", 2) + b"ab" + struct.pack("<Q", 1) + b"c", np.uint8)
    assert _native.skip_strings(data, 0, 2) == len(data)
    assert _native.read_strings(data, 10, 1) == ["c"]
    for offset, count in [(0, 3), (1, 1), (12, 1), (len(data), 1), (len(data) + 1, 0), (2**64 - 1, 0), (0, 2**64 - 1)]:
        for walk in (_native.skip_strings, _native.read_strings):
            with pytest.raises(ModelFileError, match=r"do not fit|past the end"):
                walk(data, offset, count)
    for offset, count in [(-1, 1), (0, -1), (2**64, 1)]:
        with pytest.raises(TypeError):
            _native.skip_strings(data, offset, count)


def test_opening_decodes_no_string_array(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.gguf"
    path.write_bytes(llama_file().build())
    monkeypatch.setattr(StringArray, "to_list", lambda self: pytest.fail("decoded"))
    open_model(path)
