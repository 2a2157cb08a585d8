"""`miaotui compress` with transforms: off unless asked for, and each leaves a file that says what was done."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from engine.tiny_model import tiny_model as tiny_model  # a fixture
from miaotui import LLM
from miaotui.cli import main
from miaotui.compress.compress import compress, open_source
from miaotui.compress.source import Changed
from miaotui.formats.gguf import read_gguf
from miaotui.formats.gguf_write import encode_u32
from miaotui.formats.weights import TensorType


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
        (["--rank-correction", "8", "--type", "q8_0", "--adapter"], "leave the correction out"),
    ],
)
def test_what_cannot_be_done_is_an_error_that_leaves_nothing(
    args: list[str], says: str, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["compress", str(tiny_model), "-o", str(tmp_path / "out.gguf"), "--type", "q4_0", "--json", *args]
    assert main(command) == 2
    assert says in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_an_adapter_that_is_there_stays(tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mine = tmp_path / "out.lora.gguf"
    mine.write_bytes(b"mine")
    command = [
        "compress",
        str(tiny_model),
        "-o",
        str(tmp_path / "out.gguf"),
        "--type",
        "q4_0",
        "--rank-correction",
        "8",
    ]
    assert main([*command, "--adapter"]) == 1
    assert "out.lora.gguf: exists" in capsys.readouterr().err
    assert mine.read_bytes() == b"mine"
    assert main([*command, "--adapter", "--force"]) == 0
    assert mine.read_bytes() != b"mine"


@pytest.mark.parametrize(
    ("metadata", "transform"),
    [
        ({"llama.attention.head_count": 0}, ["--rotate", "heads"]),
        ({"llama.block_count": 10}, ["--rotate", "heads"]),
        ({"llama.block_count": 10}, ["--rotate", "stream"]),
        ({"llama.attention.head_count": 0}, ["--fold", "awq", "--calibration", "known"]),
    ],
)
def test_a_file_that_contradicts_itself_is_refused(
    metadata: dict[str, int],
    transform: list[str],
    tiny_model: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("text").write_text("the cat and the dog in the garden, " * 40)
    assert main(["calibrate", str(tiny_model), "-o", "known", "--text", "text"]) == 0
    fields = {key: encode_u32(value) for key, value in metadata.items()}
    broken = Changed(open_source(tiny_model), {}, metadata=metadata, fields=fields)
    compress(broken, Path("broken.gguf"), TensorType.Q8_0)
    capsys.readouterr()
    assert main(["compress", "broken.gguf", "-o", "out.gguf", "--type", "q4_0", *transform]) == 1
    assert re.search("ownload (it|the file) again", capsys.readouterr().err)
    assert not Path("out.gguf").exists()
