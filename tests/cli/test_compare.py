"""`miaotui compare` from the outside."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from engine.tiny_model import write_tiny_model
from miaotui.cli import main
from miaotui.compress.compress import compress, open_source
from miaotui.formats.weights import TensorType

WORDS = "the cat and the dog in the end "


@pytest.fixture(scope="module")
def smaller(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compress(open_source(tiny_model), tmp_path_factory.mktemp("small") / "tiny-q4_0.gguf", TensorType.Q4_0).path


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIAOTUI_HOME", str(tmp_path / "home"))


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text(WORDS * 80)
    return path


def call(capfd: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str, str]:
    capfd.readouterr()
    code = main(["compare", *map(str, arguments)])
    captured = capfd.readouterr()
    return code, captured.out, captured.err


def call_json(capfd: pytest.CaptureFixture[str], *arguments: str | Path) -> Any:
    code, out, err = call(capfd, *arguments, "--json")
    assert code == 0, err
    return json.loads(out, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


def test_everything_is_measured_shown_and_written(
    capfd: pytest.CaptureFixture[str], tiny_model: Path, smaller: Path, text: Path, tmp_path: Path
) -> None:
    task = tmp_path / "words.jsonl"
    task.write_text('{"text": "the cat and the dog"}\n{"text": "the dog in the end"}\n')
    page = tmp_path / "report.html"
    options = ("--rounds", "2", "--windows", "2", "--max-tokens", "5", "--prompt", "the cat", "--task", task)
    code, out, err = call(capfd, tiny_model, smaller, "--text", text, *options, "--report", page)
    assert (code, err) == (0, f"the report is in {page}\n")
    for words in ("tiny-q4_0", "peak memory", "decode tok/s", "perplexity", "KL p99", "same top token", "words:"):
        assert words in out
    assert "> the cat" in out
    assert page.read_text().startswith("<!doctype html>")
    assert list((tmp_path / "home").glob("*")) == []  # nothing of the scratch file stays


def test_perplexity_is_that_of_eval(
    capfd: pytest.CaptureFixture[str], tiny_model: Path, smaller: Path, text: Path
) -> None:
    found = call_json(capfd, tiny_model, smaller, "--text", text, "--skip", "load", "--skip", "speed")
    for model, path in zip(found["models"], (tiny_model, smaller), strict=True):
        assert main(["eval", "ppl", str(path), "--text", str(text), "--json"]) == 0
        exact = json.loads(capfd.readouterr().out)
        assert model["quality"]["ppl"]["value"] == pytest.approx(exact["ppl"], rel=1e-5)
        assert model["quality"]["windows"] == exact["windows"]
    assert found["models"][1]["quality"]["divergence"]["kl"]["value"] > 0.001
    assert found["models"][0]["speed"] is None


def test_models_one_by_one_give_the_same_figures(
    capfd: pytest.CaptureFixture[str], tiny_model: Path, smaller: Path, text: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = (tiny_model, smaller, "--text", text, "--skip", "load", "--skip", "speed", "--scratch", "1")
    together = call_json(capfd, *arguments)
    monkeypatch.setattr("miaotui.cli.compare_models.SHARE", 0.0)
    apart = call_json(capfd, *arguments)
    assert [model["quality"] for model in apart["models"]] == [model["quality"] for model in together["models"]]
    assert any("each was opened" in note for note in apart["notes"])


def test_without_a_text_the_first_models_answers_are_taken(capfd: pytest.CaptureFixture[str], tiny_model: Path) -> None:
    found = call_json(capfd, tiny_model, tiny_model, "--windows", "3", "--skip", "load", "--skip", "speed")
    assert [model["name"] for model in found["models"]] == ["tiny #1", "tiny #2"]
    assert "3 answers that tiny #1 wrote" in found["text"]
    assert any("No --text was given" in note for note in found["notes"])
    same = found["models"][1]["quality"]["divergence"]
    assert abs(same["kl"]["value"]) < 1e-5
    assert same["agreement"]["value"] == 1.0


def test_one_file_can_be_run_in_two_ways(capfd: pytest.CaptureFixture[str], tiny_model: Path, text: Path) -> None:
    other = f"{tiny_model},kv-dtype=int8,activations=int8"
    found = call_json(capfd, tiny_model, other, "--text", text, "--skip", "load", "--skip", "speed")
    model = found["models"][1]
    assert model["name"] == "tiny kv-dtype=int8 activations=int8"
    assert model["settings"] == {"kv-dtype": "int8", "activations": "int8"}
    assert model["quality"]["divergence"]["kl"]["value"] > 1e-6


def test_fresh_processes_tell_load_and_memory(capfd: pytest.CaptureFixture[str], tiny_model: Path) -> None:
    (model,) = call_json(capfd, tiny_model, "--skip", "speed", "--skip", "quality")["models"]
    assert model["start"]["load_s"] > 0
    assert 1 << 20 < model["start"]["peak_memory_bytes"] < 1 << 30


def test_ctrl_c_shows_what_there_is(
    capfd: pytest.CaptureFixture[str], tiny_model: Path, smaller: Path, text: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*args: object, **more: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("miaotui.compress.compare.quality._loss_beside", interrupted)
    code, out, _ = call(capfd, tiny_model, smaller, "--text", text, "--skip", "load", "--rounds", "1", "--json")
    found = json.loads(out)
    assert (code, found["is_whole"]) == (130, False)
    assert found["models"][1]["speed"]
    assert found["models"][1]["quality"] is None


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["{tiny},kv=int8"], 2, "'kv' is no setting of a model"),
        (["{tiny},activations=int4"], 2, "activations is one of"),
        (["{tiny},kv-dtype=f8"], 2, "kv-dtype is one of"),
        (["{tiny}", "--report", "x.pdf"], 2, "--report writes .html"),
        (["{tiny}", "--text", "/none"], 1, "cannot read '/none'"),
        (["{tiny}", "--text", "{short}"], 1, "a window 512; give a longer text"),
        (["{tiny}", "--task", "/none"], 1, "cannot read '/none'"),
        (["{tiny}", "--prompt", " "], 2, "--prompt is empty"),
        (["{tiny}", "--scratch", "lots"], 2, "scratch"),
        (["{bert}"], 1, "makes vectors and writes no text"),
        (["/none.gguf"], 1, "there is no file"),
    ],
    ids=str,
)
def test_what_cannot_be_compared_is_one_sentence(
    capfd: pytest.CaptureFixture[str],
    tiny_model: Path,
    tiny_bert: Path,
    tmp_path: Path,
    arguments: list[str],
    code: int,
    message: str,
) -> None:
    (tmp_path / "short.txt").write_text("the cat")
    named = [a.format(tiny=tiny_model, bert=tiny_bert, short=tmp_path / "short.txt") for a in arguments]
    got, out, err = call(capfd, *named, "--skip", "load", "--skip", "speed")
    assert (got, out) == (code, "")
    assert message in err
    assert err.startswith("miaotui: ")
    assert err.count("\n") == 1


def test_a_process_that_cannot_load_is_told(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from miaotui.cli.load_probe import probe
    from miaotui.errors import EngineStoppedError

    with pytest.raises(EngineStoppedError, match=r"kv_dtype must be one of.*--skip load"):
        probe({"model": str(tiny_model), "kv_dtype": "f8"})


def test_other_vocabularies_are_compared_by_bytes(
    capfd: pytest.CaptureFixture[str], tiny_model: Path, tmp_path: Path, text: Path
) -> None:
    other = write_tiny_model(tmp_path / "other.gguf", infill=True)
    found = call_json(capfd, tiny_model, other, "--text", text, "--skip", "load", "--skip", "speed")
    first, second = (model["quality"] for model in found["models"])
    assert second["divergence"] is None
    assert "another vocabulary" in second["refused"]
    assert second["bits_per_byte"] > 0
    assert first["excess_bits_per_byte"] is None
    assert os.path.basename(other).removesuffix(".gguf") in second["refused"]
