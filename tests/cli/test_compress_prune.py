"""What the command leaves out of a model, and what it says of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from engine.tiny_model import tiny_model as tiny_model  # a fixture
from miaotui.cli import main
from miaotui.formats import open_model


def test_layers_are_left_out_by_what_a_text_misses(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text, output = tmp_path / "text", tmp_path / "out.gguf"
    text.write_text("the cat and the dog in the garden, " * 40)
    command = ["compress", str(tiny_model), "-o", str(output), "--type", "q8_0", "--force", "--json", "--prune-layers"]
    for amount in ("1", "50%"):
        assert main([*command, amount, "--prune-text", str(text)]) == 0
        said = json.loads(capsys.readouterr().out)
        assert said["pruned"]["layers"] in ("without 0 of 2", "without 1 of 2")
        assert open_model(output).spec.num_layers == 1
    for wrong, problem in (
        (["2", "--prune-text", str(text)], "2 layers cannot be left out of 2"),
        (["1"], "needs --prune-text"),
        (["0"], "at least 1"),
        (["half"], "whole number"),
        (["1", "--mask", "2:4"], "judge by"),
    ):
        assert main([*command, *wrong]) == 2
        assert problem in capsys.readouterr().err
    assert main([*command, "1", "--prune-text", str(tmp_path / "none")]) == 1
    assert "give a text file" in capsys.readouterr().err


def test_what_needs_a_calibration_says_so(tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["compress", str(tiny_model), "-o", str(tmp_path / "out.gguf")]
    for wrong, problem in (
        (["--prune-width", "20%"], "--prune-width needs a calibration"),
        (["--mask", "2:4", "--type", "q8_0"], "--mask needs a calibration"),
        (["--prune-width", "20"], "as 20%"),
        (["--mask", "2:4", "--method", "gptq", "--text", "x"], "fill the mask's zeros"),
        (["--mask", "wanda"], "wanda:50% or 2:4"),
        (["--prune-layers", "1", "--method", "gptq", "--text", "x"], "go on with that"),
        (["--keep-kv-heads", "1"], "give --prune-width, too"),
        (["--prune-text", "x"], "give --prune-layers, too"),
    ):
        assert main([*command, *wrong]) == 2
        assert problem in capsys.readouterr().err
    assert not (tmp_path / "out.gguf").exists()
