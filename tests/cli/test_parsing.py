from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from miaotui.cli.parsing import thread_excess
from miaotui.cli.run import _is_question
from miaotui.config import load_config


@pytest.mark.parametrize(
    ("threads", "affinity", "quota", "allowed"),
    [(2, 2, None, 2), (3, 2, None, 2), (2, 8, 1.5, 2), (3, 8, 1.5, 2), (8, 8, 8.0, 8), (9, 8, 16.0, 8)],
)
def test_threads_beyond_affinity_or_quota_are_too_many(
    threads: int, affinity: int, quota: float | None, allowed: int
) -> None:
    cpu: dict[str, Any] = {"threads": threads, "affinity": affinity, "cgroup_quota": quota}
    excess = thread_excess(load_config({"threads": str(threads)}), cpu)
    assert (excess is None) == (threads <= allowed)
    assert excess is None or excess.endswith(f"may use {allowed} CPUs")


def test_words_are_a_question_and_paths_are_none(tmp_path: Path) -> None:
    (tmp_path / "my model").touch()
    assert _is_question("what is it")
    assert _is_question("is 1/2 a number?")
    for model in ("smollm2:135m", "my model.gguf", "my models/foo", str(tmp_path / "my model")):
        assert not _is_question(model)
