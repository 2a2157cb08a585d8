"""Figures are those of their definitions, however little is kept at one time."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from compress.compare.fake import FakeModel
from miaotui.compress.compare.kept import KeptRows
from miaotui.compress.compare.quality import ROWS, measure_quality
from miaotui.compress.compare.windows import Window, windows_of_answers, windows_of_text
from miaotui.compress.divergence import DivergenceMeter
from miaotui.errors import InvalidRequestError, ModelFileError, OutputError

RNG = np.random.default_rng(1)
TEXT = "".join(RNG.choice(list("abcdefghij klmnop."), 5 * 512 + 30))


@pytest.fixture
def models() -> list[FakeModel]:
    return [FakeModel("a", seed=1), FakeModel("b", seed=2, noise=0.3), FakeModel("c", seed=3, noise=1.0)]


def test_figures_are_those_of_all_positions_at_once(models: list[FakeModel], tmp_path: Path) -> None:
    windows = windows_of_text(models[0], TEXT, num_windows=9)
    assert [(len(w.ids), w.first) for w in windows] == [(512, 257)] * 5
    got = measure_quality(models, windows, folder=tmp_path, scratch_bytes=1 << 30)
    for own, model in zip(got, models, strict=True):
        meter = DivergenceMeter()
        for window in windows:
            ids = np.array(window.ids)
            meter.add(models[0].table[ids[256:511]], model.table[ids[256:511]], ids[257:])
        exact = meter.result()
        assert own.ppl == pytest.approx(exact.ppl, rel=1e-6)
        assert own.bits_per_byte == pytest.approx(math.log2(exact.ppl), rel=1e-6)  # every token is a byte here
        if model is models[0]:
            assert own.divergence is None
            continue
        assert own.divergence is not None
        assert own.divergence.kl == pytest.approx(exact.kl, rel=1e-3)
        assert own.divergence.kl_p99 == pytest.approx(exact.kl_p99, rel=5e-3)
        assert own.divergence.agreement == exact.agreement
        assert own.excess is not None
        assert own.excess.value == pytest.approx(math.log(exact.ppl / exact.reference_ppl), rel=1e-6)
        assert own.excess.is_real


def test_little_room_on_disk_changes_no_figure(models: list[FakeModel], tmp_path: Path) -> None:
    windows = windows_of_text(models[0], TEXT, num_windows=5)
    much = measure_quality(models, windows, folder=tmp_path, scratch_bytes=1 << 30)
    assert [model.num_open for model in models] == [1, 1, 1]
    room = KeptRows.num_bytes(2 * 255, models[0].vocab_size)
    little = measure_quality(models, windows, folder=tmp_path, scratch_bytes=room)
    assert [model.num_open for model in models] == [4, 4, 4]  # 2 + 2 + 1 windows
    assert little == much
    assert list(tmp_path.iterdir()) == []


def test_a_model_beside_itself_is_no_distance_away(tmp_path: Path) -> None:
    twins = [FakeModel("a", seed=1), FakeModel("again", seed=1)]
    got = measure_quality(twins, windows_of_text(twins[0], TEXT, num_windows=3), folder=tmp_path, scratch_bytes=0)[1]
    assert got.divergence is not None
    assert got.excess is not None
    assert abs(got.divergence.kl) < 1e-6
    assert got.divergence.agreement == 1.0
    assert not got.excess.is_real


def test_a_model_without_probabilities_is_named(models: list[FakeModel], tmp_path: Path) -> None:
    models[1].table[3] = np.nan
    windows = windows_of_text(models[0], TEXT, num_windows=2)
    with pytest.raises(ModelFileError, match=r"^b: finds no probabilities"):
        measure_quality(models, windows, folder=tmp_path, scratch_bytes=1 << 20)


def test_another_vocabulary_is_compared_by_bytes_and_refused_the_rest(tmp_path: Path) -> None:
    models = [FakeModel("a", seed=1), FakeModel("b", seed=1, vocabulary="others")]
    first, other = measure_quality(
        models, windows_of_text(models[0], TEXT, num_windows=3), folder=tmp_path, scratch_bytes=1 << 20
    )
    assert other.divergence is None
    assert "another vocabulary" in (other.refused or "")
    assert other.bits_per_byte == pytest.approx(first.bits_per_byte)  # it is the same model after all
    assert first.refused is None


def test_rows_are_whole_pages() -> None:
    assert ROWS % 16 == 0


def test_answers_are_scored_and_questions_are_not() -> None:
    model = FakeModel("a", seed=1)
    model.answers["why?"] = "so it is"
    (window,) = windows_of_answers(model, ["why"])
    assert window.num_scored == len("so it is")
    assert (window.context, window.scored, window.is_question) == ("why", "so it is", True)
    model.answers["why?"] = ""
    with pytest.raises(InvalidRequestError, match="answers nothing"):
        windows_of_answers(model, ["why"])


def test_windows_are_text_without_halves_of_characters() -> None:
    class Bytes(FakeModel):
        def encode(self, text: str, special: bool = True) -> list[int]:
            return list(text.encode())

        def token_bytes(self, id: int) -> bytes:
            return bytes([id])

    model = Bytes("a", seed=1)
    model.bos_id = 2
    (window,) = windows_of_text(model, "猫" * 512, num_windows=1)
    assert window.ids[0] == 2
    assert set(window.context + window.scored) == {"猫"}
    assert len(window.scored) == 84  # of 255 bytes; halves at both ends are left out
    with pytest.raises(InvalidRequestError, match="has 3 tokens, a window 512"):
        windows_of_text(model, "猫", num_windows=1)


def test_kept_rows_come_back_and_leave_nothing(tmp_path: Path) -> None:
    rows = -np.abs(RNG.normal(size=(5, 40)).astype(np.float32)) * 9
    with KeptRows(tmp_path / "new", 40) as kept:
        kept.append(rows[:2])
        kept.append(rows[2:])
        got, best = kept.rows(1, 4)
        assert np.abs(got - rows[1:4]).max() <= np.abs(rows).max() * 2**-11
        assert best.tolist() == rows[1:4].argmax(axis=1).tolist()
        kept.clear()
        kept.append(rows[4:])
        assert kept.rows(0, 1)[1].tolist() == [rows[4].argmax()]
    assert list((tmp_path / "new").iterdir()) == []


def test_no_room_for_kept_rows_is_a_typed_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="make room there"):
        KeptRows(tmp_path / "file" / "below", 4)

    with open("/dev/full", "wb", buffering=0) as full:
        monkeypatch.setattr("tempfile.TemporaryFile", lambda dir: full)
        with KeptRows(tmp_path, 4) as kept, pytest.raises(OutputError, match="fewer --windows"):
            kept.append(np.zeros((1, 4), np.float32))


def test_a_window_knows_what_is_predicted() -> None:
    assert Window((1, 2, 3, 4), 3, "", "").num_scored == 1
