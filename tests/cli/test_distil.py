"""`miaotui distil`: what it says, what it leaves, and what it needs."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from compress.distil.models import write_noisy
from miaotui.cli import main
from miaotui.formats.gguf import read_gguf

SHORT = ["--steps", "3", "--sequence", "24", "--batch", "2"]


@pytest.fixture
def student(tiny_model: Path, tmp_path: Path) -> Path:
    return write_noisy(tiny_model, tmp_path / "student.gguf")


def test_a_student_is_trained_and_written(
    tiny_model: Path, student: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output, text, prompts = (tmp_path / name for name in ("out.gguf", "text.txt", "prompts.jsonl"))
    text.write_text("the cat and the dog " * 40)
    prompts.write_text('{"prompt": "the cat"}\n\n{"messages": [{"role": "user", "content": "the dog"}]}\n')
    given = ["distil", str(tiny_model), str(student), "-o", str(output), *SHORT, "--text", str(text)]
    given += ["--prompts", str(prompts), "--lora", "4", "--type", "q4_0", "--on-policy", "0.3", "--json"]
    assert main(given) == 0
    said = capsys.readouterr()
    document = json.loads(said.out)
    assert document["steps"] == 3
    assert document["tokens"] == 3 * 2 * 24
    assert document["peak_memory_bytes"] > 0
    assert "of memory" in said.err
    assert read_gguf(output).weights["blk.0.attn_q.weight"].type.name == "Q4_0"
    assert {p.name for p in tmp_path.iterdir()} == {output.name, text.name, prompts.name, student.name}


def test_without_torch_it_says_what_to_install(
    tiny_model: Path, student: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    output = tmp_path / "out.gguf"
    assert main(["distil", str(tiny_model), str(student), "-o", str(output)]) == 2
    assert "pip install 'miaotui[train]'" in capsys.readouterr().err
    assert not output.exists()


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("--prompts", "{}", "is no prompt"),
        ("--prompts", "nonsense", "not JSON"),
        ("--prompts", "\n", "holds no prompts"),
        ("--text", "short", "a sequence 24"),
        ("--lora", "0", "at least 1"),
        ("--on-policy", "1.5", "must lie between 0 and 1"),
        ("--type", "q9", "choose one of"),
    ],
)
def test_unusable_arguments_are_one_sentence(
    name: str,
    content: str,
    problem: str,
    tiny_model: Path,
    student: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    value = content
    if name in ("--prompts", "--text"):
        file = tmp_path / "given"
        file.write_text(content)
        value = str(file)
    code = main(["distil", str(tiny_model), str(student), "-o", str(tmp_path / "out.gguf"), *SHORT, name, value])
    assert code in (1, 2)
    assert problem in capsys.readouterr().err
    assert not (tmp_path / "out.gguf").exists()
