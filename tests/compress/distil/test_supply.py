"""Who asks for the same sequences gets the same, from text, teacher and student in the shares that were asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from compress.distil.models import SETTINGS, TOKENS, material
from miaotui.compress.distil.corpus import Corpus, Origin
from miaotui.compress.distil.settings import DistilSettings
from miaotui.compress.distil.supply import BLOCK_SEQUENCES, Material, Supply
from miaotui.errors import ConfigError

VOCABULARY = 300


class CountingTeacher:
    """Goes on by counting up."""

    def __init__(self, step: int = 1) -> None:
        self.step = step
        self.calls = 0

    def write(self, prompts: Sequence[Sequence[int]], num_tokens: int, seed: int) -> list[list[int]]:
        self.calls += 1
        return [[prompt[0] + self.step * k for k in range(num_tokens)] for prompt in prompts]

    def logits(self, ids: Sequence[int]) -> np.ndarray:
        scores = np.zeros((len(ids), VOCABULARY), np.float32)
        scores[np.arange(len(ids)), np.array(ids) + 1] = 5
        return scores


def supply(folder: Path, teacher: CountingTeacher, given: Material, **changes: object) -> Supply:
    @contextmanager
    def opened(path: Path) -> Iterator[CountingTeacher]:
        assert path.read_text() == "the student"
        yield CountingTeacher(step=2)

    settings = DistilSettings(**(SETTINGS | changes))
    return Supply(
        Corpus(folder / "corpus", {}, TOKENS, settings.top_k),
        teacher,
        given,
        settings,
        export=lambda path: void(path.write_text("the student")),
        open_writer=opened,
        draft=folder / "draft",
    )


def void(value: object) -> None:
    return None


def test_the_same_sequences_come_again_without_being_written_again(tmp_path: Path) -> None:
    teacher = CountingTeacher()
    first = supply(tmp_path, teacher, material()).sequences(0, 20)
    calls = teacher.calls
    again = supply(tmp_path, teacher, material()).sequences(0, 20)
    assert teacher.calls == calls == 2
    np.testing.assert_array_equal(first, again)
    assert len({int(ids[0]) for ids in first["ids"][:16]}) == 16  # no prompt twice
    np.testing.assert_array_equal(first["top_ids"][:, :, 0], first["ids"] + 1)


def test_shares_are_kept_and_every_window_of_the_text_comes_once(tmp_path: Path) -> None:
    given = material(num_text_tokens=20 * TOKENS + 3)
    count = 4 * BLOCK_SEQUENCES
    got = supply(tmp_path, CountingTeacher(), given, on_policy=0.25, text_share=0.4).sequences(0, count)
    origins = got["origin"].tolist()
    assert abs(origins.count(Origin.STUDENT) - count * 0.25) <= 3
    assert abs(origins.count(Origin.TEXT) - count * 0.3) <= 3
    starts = {tuple(ids) for ids in got["ids"][got["origin"] == Origin.TEXT]}
    windows = {tuple(w) for w in given.text[: 20 * TOKENS].reshape(20, TOKENS).tolist()}
    assert len(starts) == origins.count(Origin.TEXT)
    assert starts <= windows
    by_student = got["ids"][got["origin"] == Origin.STUDENT]
    assert (np.diff(by_student, axis=1) == 2).all()
    assert not (tmp_path / "draft").exists()


def test_when_the_text_is_over_the_teacher_writes(tmp_path: Path) -> None:
    got = supply(tmp_path, CountingTeacher(), material(3 * TOKENS), text_share=1.0).sequences(0, 16)
    assert got["origin"].tolist() == [Origin.TEXT] * 3 + [Origin.TEACHER] * 13


def test_nothing_to_write_from_is_a_typed_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="prompts"):
        supply(tmp_path, CountingTeacher(), Material(np.zeros(0, np.int32), []))
