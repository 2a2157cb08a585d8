"""`miaotui calibrate` writes what it says, from text and from prompts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from engine.tiny_model import tiny_model as tiny_model  # a fixture
from miaotui import Embedder
from miaotui.cli import main
from miaotui.compress.calibrate.load import load_calibration

Output = pytest.CaptureFixture[str]


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text("the cat and the dog in the house " * 40)
    return path


def test_it_writes_a_calibration(tiny_model: Path, text: Path, tmp_path: Path, capsys: Output) -> None:
    output = tmp_path / "c.gguf"
    command = ["calibrate", str(tiny_model), "-o", str(output), "--text", str(text), "--tokens", "300"]
    assert main([*command, "--hessians", "--json"]) == 0
    said, calibration = json.loads(capsys.readouterr().out), load_calibration(output)
    assert (said["tokens"], said["matrices"]) == (300, 15)
    assert said["digest"] == calibration.digest
    assert said["bytes"] == output.stat().st_size
    assert len(said["influence"]) == 2
    assert calibration.inputs["blk.1.ffn_down.weight"].hessian().shape == (128, 128)
    assert main(command) == 1
    assert "--force" in capsys.readouterr().err
    assert main([*command, "--force"]) == 0
    assert "15 matrices over 300 tokens" in capsys.readouterr().out
    assert load_calibration(output).inputs["blk.1.ffn_down.weight"].hessian is None


@pytest.mark.parametrize("name", ["m.gguf", "m.dat"])
def test_it_writes_importance_matrices_from_prompts(name: str, tiny_model: Path, tmp_path: Path) -> None:
    prompts = tmp_path / "p.jsonl"
    prompts.write_text('{"prompt": "the cat"}\n{"messages": [{"role": "user", "content": "and the dog"}]}\n')
    output = tmp_path / name
    assert main(["calibrate", str(tiny_model), "-o", str(output), "--prompts", str(prompts), "--imatrix"]) == 0
    inputs = load_calibration(output).inputs
    assert len(inputs) == 15
    assert all(one.means is None for one in inputs.values())


def test_a_text_encoder_reads_a_text_line_by_line(tiny_bert: Path, tmp_path: Path, capsys: Output) -> None:
    lines = ["the cat and the dog", "", "12 dogs", "the cat " * 99]
    (tmp_path / "t.txt").write_text("\n".join(lines))
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    with Embedder(tiny_bert) as embedder:
        tokens = sum(map(len, embedder.encode([line for line in lines if line], truncate=True)))
    found = []
    for what in ("--text=t.txt", "--prompts=p.jsonl"):
        output = tmp_path / f"{what[2]}.gguf"
        source = what.replace("=", f"={tmp_path}/")
        assert main(["calibrate", str(tiny_bert), "-o", str(output), source, "--json"]) == 0
        found.append(json.loads(capsys.readouterr().out))
    assert [one["tokens"] for one in found] == [tokens, tokens]
    assert found[0]["digest"] == found[1]["digest"]
    output = tmp_path / "m.gguf"
    method = ["--type", "q4_0", "--method", "gptq", "--text", str(tmp_path / "t.txt")]
    assert main(["compress", str(tiny_bert), "-o", str(output), *method]) == 0
    assert main(["embed", str(output), "the cat"]) == 0


def test_wrong_usage_leaves_nothing(tiny_model: Path, text: Path, tmp_path: Path, capsys: Output) -> None:
    output = tmp_path / "c.gguf"
    command = ["calibrate", str(tiny_model), "-o", str(output)]
    assert main(command) == 2
    assert main([*command, "--text", str(text), "--imatrix", "--hessians"]) == 2
    assert "leave one of" in capsys.readouterr().err
    assert main([*command, "--text", str(tmp_path / "none")]) == 1
    assert not output.exists()
