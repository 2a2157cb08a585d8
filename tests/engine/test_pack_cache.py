"""Packed weights kept on disk, seen through `LLM`: never a different answer, never an error."""

from __future__ import annotations

import os
import shutil
import threading
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from miaotui import LLM, _native
from miaotui.formats import open_model
from miaotui.graph import compile as compiling
from miaotui.graph import pack_cache
from miaotui.graph.pack_cache import PackCache
from miaotui.models import build_graph

LIMIT = 1 << 30
PROMPT = list(range(40))


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MIAOTUI_HOME", str(tmp_path))
    monkeypatch.setattr(pack_cache, "MIN_BYTES", 0)
    return tmp_path


@pytest.fixture
def packings(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows with every packing."""
    counted: list[int] = []
    pack = _native.pack_weights
    monkeypatch.setattr(_native, "pack_weights", lambda items: (counted.append(len(items)), pack(items))[1])
    return counted


def logits(model: Path, limit: int = LIMIT) -> np.ndarray:
    """Load, wait until what is kept is kept, answer."""
    with LLM(model, context_length=64, pack_cache_bytes=limit) as llm:
        for thread in threading.enumerate():
            if thread.name == "miaotui-pack-cache":
                thread.join()
        return llm.logits(PROMPT)


def kept(home: Path) -> list[Path]:
    return sorted(home.glob("packed/*.pack"))


def test_the_second_start_packs_nothing_and_says_the_same(tiny_model: Path, home: Path, packings: list[int]) -> None:
    first = logits(tiny_model)
    assert packings
    assert len(kept(home)) == 1
    assert not list(home.glob("packed/**/*.part"))
    packings.clear()
    np.testing.assert_array_equal(logits(tiny_model), first)
    assert not packings


def test_a_copy_of_the_model_shares_the_file(tiny_model: Path, home: Path, packings: list[int]) -> None:
    logits(tiny_model)
    copy = home / "copy.gguf"
    copy.write_bytes(tiny_model.read_bytes())
    before = kept(home)[0].stat().st_mtime_ns
    logits(copy)
    assert len(kept(home)) == 1
    packings.clear()
    logits(copy)
    assert not packings
    assert kept(home)[0].stat().st_mtime_ns >= before  # marked as used


def test_a_copy_whose_digest_is_known_is_not_packed(tiny_model: Path, home: Path, packings: list[int]) -> None:
    first = logits(tiny_model)
    copy = home / "copy.gguf"
    copy.write_bytes(tiny_model.read_bytes())
    packings.clear()
    with LLM(copy, context_length=64, pack_cache_bytes=LIMIT, prefix_cache_bytes=LIMIT) as llm:
        np.testing.assert_array_equal(llm.logits(PROMPT), first)
    assert not packings


def test_what_was_packed_of_a_file_that_changed_meanwhile_is_not_kept(
    tiny_model: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = home / "model.gguf"
    model.write_bytes(tiny_model.read_bytes())
    pack = _native.pack_weights

    def touch_and_pack(items: object) -> object:
        os.utime(model)
        return pack(items)

    monkeypatch.setattr(_native, "pack_weights", touch_and_pack)
    with LLM(model, context_length=64, pack_cache_bytes=LIMIT, prefix_cache_bytes=LIMIT):  # which asks for the digest
        pass
    for thread in threading.enumerate():
        if thread.name == "miaotui-pack-cache":
            thread.join()
    assert not kept(home)


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "first byte": lambda data: bytes([data[0] ^ 1]) + data[1:],
    "middle byte": lambda data: data[: len(data) // 2] + bytes([data[len(data) // 2] ^ 1]) + data[len(data) // 2 + 1 :],
    "two lines exchanged": lambda data: data[64:128] + data[:64] + data[128:],
    "table": lambda data: data[:-60] + bytes([data[-60] ^ 1]) + data[-59:],
    "trailer": lambda data: data[:-1] + b"\xff",
    "cut off": lambda data: data[:-100],
    "nearly nothing": lambda data: data[:10],
    "nothing": lambda data: b"",
    "longer": lambda data: data + b"\0" * 64,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_noticed_and_repaired(damage: str, tiny_model: Path, home: Path, packings: list[int]) -> None:
    first = logits(tiny_model)
    file = kept(home)[0]
    whole = file.read_bytes()
    damaged = DAMAGES[damage](whole)
    assert damaged != whole
    replacement = home / "damaged"
    replacement.write_bytes(damaged)
    replacement.replace(file)
    packings.clear()
    np.testing.assert_array_equal(logits(tiny_model), first)
    assert packings
    assert file.read_bytes() == whole


def test_a_file_that_promises_too_much_is_not_read(
    tiny_model: Path, home: Path, packings: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = logits(tiny_model)
    file = kept(home)[0]
    trailer = pack_cache._TRAILER
    magic, num_bytes, checksum, table_bytes, crc = trailer.unpack(file.read_bytes()[-trailer.size :])
    table = file.read_bytes()[num_bytes : num_bytes + table_bytes]
    replacement = home / "sparse"
    with replacement.open("wb") as out:
        out.truncate(1 << 38)
        out.seek(1 << 38)
        out.write(table + trailer.pack(magic, 1 << 38, checksum, table_bytes, crc))
    replacement.replace(file)
    packings.clear()
    monkeypatch.setattr(_native, "read_into_memory", lambda *_: pytest.fail("as much as that is not needed"))
    np.testing.assert_array_equal(logits(tiny_model), first)
    assert packings


@pytest.mark.parametrize("table", ["[" * 100_000, '[["x",2,16,32,64]]', "[]"], ids=["deep", "gap", "empty"])
def test_a_table_of_another_making_is_packed_anew(
    table: str, tiny_model: Path, home: Path, packings: list[int]
) -> None:
    first = logits(tiny_model)
    file, text = kept(home)[0], table.encode()
    trailer = pack_cache._TRAILER.pack(pack_cache._MAGIC, 640, 0, len(text), zlib.crc32(text))
    file.unlink()
    file.write_bytes(bytes(640) + text + trailer)
    packings.clear()
    np.testing.assert_array_equal(logits(tiny_model), first)
    assert packings


def test_a_full_disk_is_left_alone(tiny_model: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(home)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    logits(tiny_model)
    assert not kept(home)


def test_a_model_that_is_removed_takes_its_packed_weights_along(tiny_model: Path, home: Path) -> None:
    logits(tiny_model)
    (file,) = kept(home)
    size = file.stat().st_size
    cache = pack_cache.PackCache(home / "packed", 1 << 40)
    weights = open_model(tiny_model).weights
    assert cache.forget(weights) == size
    assert not kept(home)
    assert cache.forget(weights) == 0


def test_a_model_that_was_written_anew_is_packed_anew(tiny_model: Path, home: Path, packings: list[int]) -> None:
    model = home / "model.gguf"
    data = bytearray(tiny_model.read_bytes())
    model.write_bytes(data)
    first = logits(model)
    data[-1000:] = bytes(1000)  # other weights, as many bytes
    status = model.stat()
    model.write_bytes(data)
    os.utime(model, ns=(status.st_atime_ns, status.st_mtime_ns))
    packings.clear()
    second = logits(model)
    assert packings
    assert not np.array_equal(first, second)
    assert len(kept(home)) == 2


def test_zero_keeps_nothing(tiny_model: Path, home: Path) -> None:
    logits(tiny_model, 0)
    assert not (home / "packed").exists()


def test_too_large_for_the_limit_keeps_nothing(tiny_model: Path, home: Path) -> None:
    logits(tiny_model, 1000)
    assert not kept(home)


def test_where_nothing_can_be_written_the_model_answers_all_the_same(tiny_model: Path, home: Path) -> None:
    want = logits(tiny_model, 0)
    (home / "packed").write_text("a file where the folder should be")
    np.testing.assert_array_equal(logits(tiny_model), want)


def test_what_was_not_used_for_longest_makes_room(tiny_model: Path, home: Path) -> None:
    logits(tiny_model)
    size = kept(home)[0].stat().st_size
    others = [home / "packed" / f"{name * 64}-1.pack" for name in "ab"]
    for age, other in enumerate(others):
        other.write_bytes(bytes(size))
        os.utime(other, (1000 + age, 1000 + age))
    copy = home / "other.gguf"
    data = bytearray(tiny_model.read_bytes())
    data[-1000:] = bytes(1000)
    copy.write_bytes(data)
    logits(copy, 3 * size + 100)
    assert not others[0].exists()
    assert others[1].exists()
    assert len(kept(home)) == 3


def test_starts_at_the_same_time_leave_one_whole_file(tiny_model: Path, home: Path, packings: list[int]) -> None:
    file = open_model(tiny_model)
    cache = PackCache(home / "packed", LIMIT)
    graph = compiling.optimize(build_graph(file.spec, file.weights), activations="int16")
    matrices = [w for node in graph.nodes if node.kind != "embedding" for w in node.matrices]
    packed = compiling._pack(matrices, file.weights)
    threads = [cache.keep(file.weights, packed) for _ in range(6)]
    for thread in threads:
        assert thread is not None
        thread.join()
    assert len(kept(home)) == 1
    assert not list(home.glob("packed/**/*.part"))
    packings.clear()
    logits(tiny_model)
    assert not packings
