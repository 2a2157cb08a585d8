"""What surrounds the command may be broken: one sentence, no traceback, no abort."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from miaotui.cli import COMMANDS


def command(*arguments: object, **options: object) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "miaotui", *map(str, arguments)]
    return subprocess.run(line, capture_output="stdout" not in options, encoding="utf-8", timeout=120, **options)


@pytest.mark.parametrize("name", ["run", "bench", "show"])
def test_a_tier_that_does_not_exist_is_one_sentence_and_not_an_abort(name: str, tiny_model: Path) -> None:
    question = ["hi"] if name == "run" else []
    done = command(name, tiny_model, *question, env=os.environ | {"MIAOTUI_ISA": "avx9000"})
    assert done.returncode == 1
    assert "avx9000" in done.stderr
    assert "Traceback" not in done.stderr
    assert "terminate" not in done.stderr


def test_a_full_disk_under_the_output_is_one_sentence(tiny_model: Path) -> None:
    with open("/dev/full", "w") as full:
        done = command("run", tiny_model, "the cat", "--max-tokens", "4", stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 1
    assert "No space left" in done.stderr
    assert "Traceback" not in done.stderr


def test_characters_that_a_terminal_lacks_are_shown_as_escapes() -> None:
    done = command("ls", "no-such-\u79d2", env=os.environ | {"PYTHONIOENCODING": "ascii"})
    assert "Traceback" not in done.stderr
    assert "UnicodeEncodeError" not in done.stderr
    assert "\\u" in command("--help", env=os.environ | {"PYTHONIOENCODING": "ascii"}).stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_help_has_no_unfilled_placeholders(name: str) -> None:
    assert "{" not in command(name, "--help").stdout.replace("{ppl}", "")
