"""What is read back is what was written, llama.cpp's files included, and damaged files are refused by name."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np
import pytest

from compress.calibrate.samples import COLUMNS, TOKENS, sample
from miaotui.compress.calibrate.digest import contents_digest
from miaotui.compress.calibrate.load import load_calibration
from miaotui.compress.calibrate.save import save_calibration, save_imatrix
from miaotui.compress.calibration import Calibration, InputStatistics
from miaotui.errors import MiaotuiError, ModelFileError, ModelNotFoundError, OutputError, UnsupportedModelError

VECTORS = ("moments", "means", "lows", "highs")


def same(one: Calibration, other: Calibration) -> None:
    assert (one.digest, one.source_sha256, one.tokens) == (other.digest, other.source_sha256, other.tokens)
    assert list(one.inputs) == list(other.inputs)
    for name, statistics in one.inputs.items():
        for kind in VECTORS:
            np.testing.assert_array_equal(getattr(statistics, kind), getattr(other.inputs[name], kind))
        assert statistics.tokens == other.inputs[name].tokens
    np.testing.assert_array_equal(one.influence, other.influence)


def test_a_calibration_comes_back_whole(tmp_path: Path) -> None:
    path, before = tmp_path / "c.gguf", sample()
    save_calibration(before, path, hessians=True, dataset="text.txt")
    after = load_calibration(path)
    same(after, before)
    for name, one in before.inputs.items():
        np.testing.assert_array_equal(after.inputs[name].hessian(), one.hessian())
    assert after.inputs["blk.0.ffn_up.weight"] is after.inputs["blk.0.ffn_gate.weight"]


def test_hessians_are_written_only_when_asked_for(tmp_path: Path) -> None:
    save_calibration(sample(), tmp_path / "c.gguf")
    after = load_calibration(tmp_path / "c.gguf")
    assert all(one.hessian is None for one in after.inputs.values())
    assert after.digest == sample().digest


@pytest.mark.parametrize("write", [save_calibration, save_imatrix])
def test_files_hold_an_importance_matrix_for_other_readers(write: Callable[..., None], tmp_path: Path) -> None:
    path, before = tmp_path / "c.gguf", sample()
    write(before, path, dataset="text.txt")
    reader = gguf.GGUFReader(path)
    told = {key: field.contents() for key, field in reader.fields.items()}
    assert told["general.type"] == "imatrix"
    assert told["imatrix.datasets"] == ["text.txt"]
    assert (told["imatrix.chunk_count"], told["imatrix.chunk_size"]) == (2, 512)
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    for name, one in before.inputs.items():
        sums, counts = tensors[f"{name}.in_sum2"], tensors[f"{name}.counts"]
        assert list(sums.shape) == [COLUMNS, 1]
        assert list(counts.shape) == [1, 1]
        np.testing.assert_allclose(sums.data[0] / counts.data[0, 0], one.moments, rtol=1e-6)
    assert (set(tensors) - {f"{name}.{kind}" for name in before.inputs for kind in ("in_sum2", "counts")} == set()) == (
        write is save_imatrix
    )


@pytest.mark.parametrize("name", ["m.gguf", "m.dat"])
def test_importance_matrices_come_back(name: str, tmp_path: Path) -> None:
    before = sample()
    save_imatrix(before, tmp_path / name, dataset="text.txt")
    after = load_calibration(tmp_path / name)
    assert set(after.inputs) == set(before.inputs)
    for key, one in before.inputs.items():
        np.testing.assert_allclose(after.inputs[key].moments, one.moments, rtol=1e-6)
        assert after.inputs[key].means is after.inputs[key].hessian is None
    assert after.influence is None
    assert len(after.digest) == 64


def old_format(*entries: tuple[bytes, int, list[float]], rest: bytes = b"") -> bytes:
    parts = [struct.pack("<i", len(entries))]
    for name, calls, values in entries:
        parts += [struct.pack("<i", len(name)), name, struct.pack("<ii", calls, len(values))]
        parts.append(np.array(values, "<f4").tobytes())
    return b"".join(parts) + rest


def test_files_of_the_older_tool_are_read(tmp_path: Path) -> None:
    path = tmp_path / "old.dat"
    for rest in (b"", struct.pack("<i", 4), struct.pack("<ii", 4, 3) + b"a.t"):
        path.write_bytes(old_format((b"blk.0.attn_q.weight", 4, [8.0, 4.0]), (b"b", 0, [3.0]), rest=rest))
        inputs = load_calibration(path).inputs
        assert inputs["blk.0.attn_q.weight"].moments.tolist() == [2.0, 1.0]
        assert inputs["blk.0.attn_q.weight"].tokens == 4 * 512
        assert inputs["b"].moments.tolist() == [3.0]


@pytest.mark.parametrize(
    "content",
    [
        b"\0" * 64,
        struct.pack("<i", -1),
        struct.pack("<i", 2**31 - 1) + b"\0" * 64,
        old_format((b"", 1, [1.0])),
        old_format((b"\xff\xfe", 1, [1.0])),
        old_format((b"a", -1, [1.0])),
        old_format((b"a", 1, [])),
        old_format((b"a", 1, [float("nan")])),
        old_format((b"a", 1, [-1.0])),
        old_format((b"a", 1, [1.0]), (b"a", 1, [1.0])),
        old_format((b"a", 1, [1.0]), rest=b"12345678"),
        old_format((b"a", 1, [1.0])).replace(struct.pack("<ii", 1, 1), struct.pack("<ii", 1, 2**30)),
    ],
)
def test_hostile_older_files_are_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "bad.dat").write_bytes(content)
    with pytest.raises(ModelFileError):
        load_calibration(tmp_path / "bad.dat")


def imatrix_file(path: Path, **tensors: np.ndarray) -> Path:
    writer = gguf.GGUFWriter(path, "none")
    writer.add_type("imatrix")
    for name, values in tensors.items():
        writer.add_tensor(name.replace("__", "."), values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


ONES, ONE = np.ones((1, 8), np.float32), np.ones((1, 1), np.float32)
FOUR, FOUR_COUNTS = np.ones((4, 8), np.float32), np.ones((4, 1), np.float32)


@pytest.mark.parametrize(
    ("tensors", "error", "match"),
    [
        ({"a__in_sum2": ONES}, ModelFileError, "only sums or only counts"),
        ({"a__in_sum2": ONES, "a__counts": ONE, "b__counts": ONE}, ModelFileError, "only sums or only counts"),
        ({"other": ONES}, ModelFileError, "no sums"),
        ({"a__in_sum2": -ONES, "a__counts": ONE}, ModelFileError, "no sums of squares"),
        ({"a__in_sum2": ONES * np.nan, "a__counts": ONE}, ModelFileError, "not finite"),
        ({"a__in_sum2": ONES, "a__counts": ONE * np.inf}, ModelFileError, "not finite"),
        ({"a__in_sum2": ONES, "a__counts": ONE / 2}, ModelFileError, "which cannot be"),
        ({"a__in_sum2": ONES, "a__counts": -ONE}, ModelFileError, "which cannot be"),
        ({"a__in_sum2": ONES.astype(np.float16), "a__counts": ONE}, ModelFileError, "not F32"),
        ({"a__in_sum2": FOUR, "a__counts": FOUR_COUNTS}, UnsupportedModelError, "experts"),
        ({"a__in_sum2": FOUR, "a__counts": ONE}, UnsupportedModelError, "experts"),
    ],
)  # fmt: skip
def test_odd_importance_matrices_are_refused(
    tensors: dict[str, np.ndarray], error: type[MiaotuiError], match: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=match):
        load_calibration(imatrix_file(tmp_path / "bad.gguf", **tensors))


def test_what_was_never_fed_is_left_out(tmp_path: Path) -> None:
    path = imatrix_file(tmp_path / "m.gguf", a__in_sum2=ONES, a__counts=ONE, b__in_sum2=ONES, b__counts=0 * ONE)
    assert list(load_calibration(path).inputs) == ["a"]


def test_every_cut_and_every_changed_figure_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "c.gguf"
    save_calibration(sample(), path)
    content = path.read_bytes()
    rng = np.random.default_rng(6)
    for length in [0, 1, 3, 4, 8, *rng.integers(9, len(content) - 40, 60).tolist()]:
        path.write_bytes(content[:length])
        with pytest.raises(ModelFileError):
            load_calibration(path)
    start = content.index(sample().inputs["blk.0.ffn_gate.weight"].moments.tobytes())
    for at in (start, start + 4 * COLUMNS - 2):
        path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
        with pytest.raises(ModelFileError, match="changed or is damaged"):
            load_calibration(path)


def test_a_hessian_with_means_of_squares_below_zero_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "known"
    one = InputStatistics(10, np.ones(32, np.float32), hessian=lambda: -np.eye(32, dtype=np.float32))
    known = {"blk.0.ffn_down.weight": one}
    digest = contents_digest("", 10, known, None)
    save_calibration(Calibration("", 10, known, None, digest), path, hessians=True)
    hessian = load_calibration(path).inputs["blk.0.ffn_down.weight"].hessian
    assert hessian is not None
    with pytest.raises(ModelFileError, match="below 0"):
        hessian()


def test_random_damage_is_a_typed_error_or_nothing(tmp_path: Path) -> None:
    path = tmp_path / "c.gguf"
    save_calibration(sample(), path, hessians=True)
    content, rng = path.read_bytes(), np.random.default_rng(7)
    for _ in range(300):
        damaged = bytearray(content)
        for at in rng.integers(0, 6000, 3):
            damaged[at] = rng.integers(256)
        path.write_bytes(damaged)
        try:
            for one in load_calibration(path).inputs.values():
                if one.hessian:
                    one.hessian()
        except MiaotuiError:
            pass


def test_hessians_that_are_not_finite_are_refused_when_they_are_read(tmp_path: Path) -> None:
    path, calibration = tmp_path / "c.gguf", sample()
    save_calibration(calibration, path, hessians=True)
    content = path.read_bytes()
    at = content.index(calibration.inputs["blk.0.ffn_down.weight"].hessian().tobytes())
    path.write_bytes(content[:at] + np.float32(np.nan).tobytes() + content[at + 4 :])
    after = load_calibration(path)
    after.inputs["blk.0.ffn_up.weight"].hessian()
    with pytest.raises(ModelFileError, match="not finite"):
        after.inputs["blk.0.ffn_down.weight"].hessian()


def test_a_model_and_a_missing_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError):
        load_calibration(tmp_path / "none.gguf")
    with pytest.raises(OutputError):
        save_calibration(sample(), tmp_path / "no-folder" / "c.gguf")
    (tmp_path / "folder").write_text("a file")
    with pytest.raises(OutputError):
        save_imatrix(sample(), tmp_path / "folder" / "c.dat")
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_tokens_are_those_of_the_fullest_matrix(tmp_path: Path) -> None:
    save_imatrix(sample(), tmp_path / "m.gguf")
    assert load_calibration(tmp_path / "m.gguf").tokens == TOKENS
