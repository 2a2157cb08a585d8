"""`make run` and `make test` on machines that lack something: one clear sentence each, and no .venv begun."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
TOOLS = ["bash", "env", "dirname", "tail", "grep", "sed", "make", "flock", "cat", "mkdir", "touch", "rm", "head"]


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """What a fresh clone has of the machinery."""
    folder = tmp_path / "clone"
    shutil.copytree(REPOSITORY / "scripts", folder / "scripts")
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(REPOSITORY / name, folder)
    return folder


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    """A PATH of little more than the shell: neither Python nor a compiler."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for tool in TOOLS:
        found = shutil.which(tool)
        if not found:
            pytest.skip(f"this machine has no {tool}")
        (folder / tool).symlink_to(found)
    return folder


def add_tool(tools: Path, name: str, script: str) -> None:
    (tools / name).write_text(f"#!/bin/sh\n{script}\n")
    (tools / name).chmod(0o755)


def add_python(tools: Path) -> None:
    (tools / "python3").symlink_to(os.path.realpath(sys.executable))


def complaint(clone: Path, tools: Path, habit: str, **environ: str) -> str:
    run = subprocess.run(
        [str(tools / "make"), habit], cwd=clone, env={"PATH": str(tools), **environ}, capture_output=True, text=True
    )
    lines = [line for line in run.stderr.splitlines() if not line.startswith("make")]
    assert run.returncode != 0
    assert len(lines) == 1, lines
    return lines[0]


@pytest.mark.parametrize("habit", ["run", "test", "check"])
def test_missing_compiler_is_one_sentence_with_the_remedy(clone: Path, tools: Path, habit: str) -> None:
    add_python(tools)
    assert "C++20 compiler is needed" in (line := complaint(clone, tools, habit))
    assert "apt install g++" in line
    assert not (clone / ".venv").exists()


def test_compiler_that_is_too_old_is_named(clone: Path, tools: Path) -> None:
    add_python(tools)
    add_tool(tools, "g++", "exit 1")
    assert "g++ does not understand C++20" in complaint(clone, tools, "run")


def test_python_that_is_too_old_is_named(clone: Path, tools: Path) -> None:
    add_tool(tools, "python3", 'test "$1" = --version && echo Python 3.8.10 && exit 0; exit 1')
    assert "there is Python 3.8.10" in complaint(clone, tools, "run")


def test_missing_python_is_one_sentence(clone: Path, tools: Path) -> None:
    assert "there is no python3" in complaint(clone, tools, "run")
    assert "there is no /nowhere/python" in complaint(clone, tools, "run", PYTHON="/nowhere/python")


def test_question_may_hold_any_character(clone: Path, tools: Path) -> None:
    for script in ("setup.sh", "build.sh"):
        add_tool(clone / "scripts", script, "exit 0")
    add_tool(clone / "scripts", "run.sh", 'printf %s "$Q"')
    question = 'What\'s $5 (in "€") & `two` $(words)?'
    run = subprocess.run(
        [str(tools / "make"), "-s", "run", f"Q={question}"],
        cwd=clone,
        env={"PATH": str(tools)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout == question


@pytest.mark.parametrize(("made_in", "is_used"), [("here", True), ("elsewhere", False), (None, False)])
def test_an_environment_that_moved_or_was_never_finished_is_made_anew(
    clone: Path, tools: Path, made_in: str | None, is_used: bool
) -> None:
    (clone / ".venv").mkdir()
    (clone / ".venv" / ".ready-run").touch()
    if made_in:
        (clone / ".venv" / ".made-in").write_text(f"{clone if made_in == 'here' else made_in}\n")
    setup = subprocess.run(
        [str(clone / "scripts" / "setup.sh"), "run"], env={"PATH": str(tools)}, capture_output=True, text=True
    )
    assert (setup.returncode == 0) == is_used
    assert ("there is no python3" in setup.stderr) != is_used
