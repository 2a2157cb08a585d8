"""`miaotui compress` with transforms: off unless asked for, and each leaves a file that says what was done."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.tiny_model import tiny_model as tiny_model  # a fixture
from miaotui import LLM
from miaotui.cli import main
from miaotui.formats.gguf import read_gguf


def compressed(model: Path, output: Path, *args: str) -> dict[str, object]:
    assert main(["compress", str(model), "-o", str(output), "--type", "q4_0", *args]) == 0
    with LLM(output) as llm:
        assert llm.generate("the cat", max_tokens=4).token_ids
    return dict(read_gguf(output).metadata)


def test_nothing_is_transformed_unless_asked_for(tiny_model: Path, tmp_path: Path) -> None:
    told = compressed(tiny_model, tmp_path / "plain.gguf")
    always = {f"miaotui.compress.{name}" for name in ("recipe", "source_sha256", "calibration")}
    assert {key for key in told if key.startswith("miaotui.compress.")} == always
    assert told["miaotui.compress.calibration"] == "none"


def test_what_was_done_is_written_down(tiny_model: Path, tmp_path: Path) -> None:
    told = compressed(tiny_model, tmp_path / "turned.gguf", "--rotate", "stream")
    assert told["miaotui.compress.rotate"] == "stream, seed 0"
    told = compressed(tiny_model, tmp_path / "corrected.gguf", "--rank-correction", "8")
    assert told["miaotui.compress.correction"] == "rank 8"
    assert "blk.0.attn_q.weight.lora_a" in read_gguf(tmp_path / "corrected.gguf").weights
    told = compressed(tiny_model, tmp_path / "narrow.gguf", "--low-rank", "0.9")
    assert "matrices" in str(told["miaotui.compress.low_rank"])


def test_an_adapter_lies_beside_a_model_that_runs_anywhere(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    compressed(tiny_model, tmp_path / "out.gguf", "--rank-correction", "8", "--adapter")
    assert "out.lora.gguf" in capsys.readouterr().out
    assert not [name for name in read_gguf(tmp_path / "out.gguf").weights if ".lora_" in name]
    assert all(".lora_" in name for name in read_gguf(tmp_path / "out.lora.gguf").weights)
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["--fold", "awq"], "needs a calibration"),
        (["--rank-correction", "64"], "1 to 32"),
        (["--low-rank", "2"], "share of weights"),
        (["--rank-correction", "8", "--type", "q8_0"], "leave the correction out"),
    ],
)
def test_what_cannot_be_done_is_an_error_that_leaves_nothing(
    args: list[str], says: str, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["compress", str(tiny_model), "-o", str(tmp_path / "out.gguf"), "--type", "q4_0", "--json", *args]
    assert main(command) == 2
    assert says in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
