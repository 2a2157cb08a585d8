"""What surrounds the command may be broken: one sentence, no traceback, no abort."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from miaotui.cli import COMMANDS


def command(*arguments: object, **options: object) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "miaotui", *map(str, arguments)]
    return subprocess.run(line, capture_output="stdout" not in options, encoding="utf-8", timeout=120, **options)


@pytest.mark.parametrize("name", ["run", "bench", "show", "doctor"])
@pytest.mark.parametrize("writer", ["flag --isa", "environment variable MIAOTUI_ISA"])
def test_a_tier_that_does_not_exist_is_one_sentence_about_what_was_written(
    name: str, writer: str, tiny_model: Path
) -> None:
    arguments = {"run": [tiny_model, "hi"], "doctor": []}.get(name, [tiny_model])
    if writer == "flag --isa":
        done = command(name, *arguments, "--isa", "avx9000")
    else:
        done = command(name, *arguments, env=os.environ | {"MIAOTUI_ISA": "avx9000"})
    assert done.returncode == (1 if name == "doctor" else 2)
    assert f"{writer} is 'avx9000', which cannot run on this machine" in done.stdout + done.stderr
    assert "MIAOTUI_ISA=" not in done.stdout + done.stderr
    assert done.stderr.count("\n") == (name != "doctor")


@pytest.mark.parametrize("writer", ["flag --threads", "environment variable MIAOTUI_THREADS"])
def test_more_threads_than_processors_are_warned_of_in_one_line(writer: str, tiny_model: Path) -> None:
    flags = ["--threads", 99] if writer == "flag --threads" else []
    environ = os.environ if flags else os.environ | {"MIAOTUI_THREADS": "99"}
    done = command("run", tiny_model, "hi", "--max-tokens", "2", "--quiet", *flags, env=environ)
    assert done.returncode == 0
    assert done.stderr.startswith(f"{writer} asks for 99 threads")
    assert done.stderr.count("\n") == 1
    assert "99 threads" in command("doctor", *flags, env=environ).stdout.split("to do")[1]


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
    shown = r'\{"\w+": |\{\w+(,\w+)+\}'  # lines of JSON, choices
    said = re.sub(shown, "", command(name, "--help").stdout)
    assert "{" not in said.replace("{ppl}", "")


def test_a_closed_standard_output_is_no_traceback(tiny_model: Path) -> None:
    line = f"exec {sys.executable} -m miaotui run {tiny_model} hi --max-tokens 2 >&-"
    done = subprocess.run(["sh", "-c", line], stderr=subprocess.PIPE, encoding="utf-8", timeout=120)
    assert done.returncode == 0
    assert "Traceback" not in done.stderr


def test_messages_do_not_land_in_the_answer_when_standard_error_is_closed(tiny_model: Path) -> None:
    line = f"exec {sys.executable} -m miaotui run {tiny_model} hi --max-tokens 2 --json --threads 99 2>&-"
    done = subprocess.run(["sh", "-c", line], stdout=subprocess.PIPE, encoding="utf-8", timeout=120)
    assert json.loads(done.stdout)["text"] is not None


def test_endless_piped_text_is_refused_with_its_limit(tiny_model: Path) -> None:
    with subprocess.Popen(["yes", "x"], stdout=subprocess.PIPE) as endless:
        done = command("run", tiny_model, "--max-tokens", "2", stdin=endless.stdout)
        endless.kill()
    assert done.returncode == 1
    assert "more than 16.0 MB were piped in" in done.stderr


def test_a_missing_native_module_is_one_sentence(tiny_model: Path, tmp_path: Path) -> None:
    block = "import sys; sys.modules['miaotui._native'] = None"
    (tmp_path / "sitecustomize.py").write_text(block)
    done = command("run", tiny_model, "hi", env=os.environ | {"PYTHONPATH": str(tmp_path)})
    assert done.returncode == 1
    assert "the native module cannot be loaded" in done.stderr
    assert "Traceback" not in done.stderr
