"""The scripts behind `make run`, `make build` and `make clean`, with stand-ins for what they start."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """The scripts, a `miaotui` that shows its arguments and its input, and a `cmake` that makes empty files."""
    shutil.copytree(REPOSITORY / "scripts", tmp_path / "scripts")
    shutil.copy(REPOSITORY / "Makefile", tmp_path)
    tools = tmp_path / ".venv" / "bin"
    tools.mkdir(parents=True)
    shows = 'echo "$*"; cat'  # `pull`, too, would read what is meant for `run`
    builds = "touch build/aside/build.ninja; if [ $1 = --build ]; then touch build/aside/_native.so; fi"
    for name, script in {"miaotui": shows, "cmake": builds}.items():
        (tools / name).write_text(f"#!/bin/sh\n{script}\n")
        (tools / name).chmod(0o755)
    return tmp_path


def script(clone: Path, *line: str, text: str = "", **environ: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"MODEL": "m", "Q": ""} | environ
    return subprocess.run(line, cwd=clone, env=environment, input=text, capture_output=True, text=True, check=True)


@pytest.mark.parametrize(
    ("question", "text", "shown"), [("--help", "", "run m -- --help\n"), ("", "why?\n", "run m\nwhy?\n")]
)
def test_a_question_may_look_like_an_option_or_come_through_a_pipe(
    clone: Path, question: str, text: str, shown: str
) -> None:
    assert script(clone, "scripts/run.sh", text=text, Q=question).stdout == shown


def test_the_first_compilation_is_announced_and_later_ones_are_not(clone: Path) -> None:
    assert "compiling the native core" in script(clone, "scripts/build.sh", "build/aside").stderr
    assert script(clone, "scripts/build.sh", "build/aside").stderr == ""


def test_clean_leaves_nothing_of_the_setup(clone: Path) -> None:
    (clone / ".setup.lock").touch()
    script(clone, "make", "clean")
    assert sorted(path.name for path in clone.iterdir()) == ["Makefile", "scripts"]
