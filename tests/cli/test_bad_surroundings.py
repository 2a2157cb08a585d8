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


def test_a_closed_standard_output_is_no_traceback(tiny_model: Path) -> None:
    line = f"exec {sys.executable} -m miaotui run {tiny_model} hi --max-tokens 2 >&-"
    done = subprocess.run(["sh", "-c", line], stderr=subprocess.PIPE, encoding="utf-8", timeout=120)
    assert done.returncode == 0
    assert "Traceback" not in done.stderr


def test_endless_piped_text_is_refused_with_its_limit(tiny_model: Path) -> None:
    with subprocess.Popen(["yes", "x"], stdout=subprocess.PIPE) as endless:
        done = command("run", tiny_model, "--max-tokens", "2", stdin=endless.stdout)
        endless.kill()
    assert done.returncode == 1
    assert "more than 16 MiB were piped in" in done.stderr


def test_a_missing_native_module_is_one_sentence(tiny_model: Path, tmp_path: Path) -> None:
    block = "import sys; sys.modules['miaotui._native'] = None"
    (tmp_path / "sitecustomize.py").write_text(block)
    done = command("run", tiny_model, "hi", env=os.environ | {"PYTHONPATH": str(tmp_path)})
    assert done.returncode == 1
    assert "the native module cannot be loaded" in done.stderr
    assert "Traceback" not in done.stderr
