"""Result files say what was measured, and at which state of the code."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common import commit_of, figure, with_range, write_record

NUMBERS = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text() | st.sampled_from(["[\n1,\n 2\n]", "[ 1 ]"]),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("records") / "new folder" / "record.json"


@given(record=st.dictionaries(st.text(), VALUES))
@settings(max_examples=50)
def test_record_reads_back_as_it_was(record: dict[str, Any], path: Path) -> None:
    write_record(record, path)
    assert json.loads(path.read_text("utf-8")) == record


def test_samples_take_a_line_not_one_each(tmp_path: Path) -> None:
    write_record({"samples": list(range(1000)), "small": [1e-09, -2.5]}, tmp_path / "record.json")
    lines = (tmp_path / "record.json").read_text().splitlines()
    assert len(lines) == 4
    assert lines[2] == ' "small": [1e-09, -2.5]'


def test_figure_keeps_every_sample_in_the_order_of_the_runs() -> None:
    assert figure([3.0, 1.0, 2.0]) == {"median": 2.0, "min": 1.0, "max": 3.0, "samples": [3.0, 1.0, 2.0]}
    assert with_range([3.0, 1.0, 2.0], 1) == "2.0 (1.0–3.0)"


def test_a_changed_checkout_is_not_taken_for_its_commit(tmp_path: Path) -> None:
    def git(*words: str) -> str:
        who = ["-c", "user.name=n", "-c", "user.email=e", "-c", "core.hooksPath=/dev/null"]
        return subprocess.run(["git", *who, *words], cwd=tmp_path, capture_output=True, text=True, check=True).stdout

    git("init", "-q")
    (tmp_path / "file").write_text("one")
    git("add", "file")
    git("commit", "-qm", "one")
    commit = git("rev-parse", "--short", "HEAD").strip()
    (tmp_path / "src").mkdir()
    assert commit_of(tmp_path / "src") == commit
    (tmp_path / "file").write_text("two")
    assert commit_of(tmp_path / "src") == f"{commit}-dirty"


def test_no_checkout_has_no_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert commit_of(tmp_path) == ""
