"""Texts that were written once are there for the next start, whatever interrupted this one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from miaotui.compress.distil.corpus import Corpus, Origin
from miaotui.errors import ConfigError, OutputError

MADE_BY = {"teacher": "abc"}


def record(corpus: Corpus, number: int) -> np.ndarray:
    made = np.zeros((), corpus.record)
    made["ids"], made["top_logprobs"], made["origin"] = number, -number, Origin.TEACHER
    return made


def test_what_an_interruption_left_of_a_record_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "corpus"
    corpus = Corpus(path, MADE_BY, 8, 4)
    corpus.append([record(corpus, k) for k in range(3)])
    path.write_bytes(path.read_bytes()[:-5])
    again = Corpus(path, MADE_BY, 8, 4)
    assert len(again) == 2
    again.append([record(again, 7)])
    assert [int(r["ids"][0]) for r in Corpus(path, MADE_BY, 8, 4).read(0, 3)] == [0, 1, 7]
    assert again.count(Origin.TEACHER) == 3
    assert again.count(Origin.TEXT) == 0


def test_another_teachers_file_is_refused(tmp_path: Path) -> None:
    Corpus(tmp_path / "corpus", MADE_BY, 8, 4)
    for other, tokens in (({"teacher": "abd"}, 8), (MADE_BY, 16)):
        with pytest.raises(ConfigError, match="another teacher"):
            Corpus(tmp_path / "corpus", other, tokens, 4)


def test_where_nothing_can_be_written_is_a_typed_error(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot be written"):
        Corpus(tmp_path / "nowhere" / "corpus", MADE_BY, 8, 4)
