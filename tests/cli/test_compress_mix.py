"""`miaotui compress` with limits and recipes: types by what was measured, options under a name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from engine.tiny_model import tiny_model as tiny_model  # a fixture
from miaotui.cli import main
from miaotui.compress import speed
from miaotui.formats.gguf import read_gguf


@pytest.fixture
def command(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setattr(speed, "CACHED_BYTES", 1 << 14)
    text = tmp_path / "text"
    text.write_text("the cat and the dog in the garden, " * 40)
    return ["compress", str(tiny_model), "-o", str(tmp_path / "out.gguf"), "--mix-text", str(text), "--json"]


def test_a_mix_keeps_within_its_megabytes(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = [*command, "--mix", "q4_0,q5_0,q8_0", "--budget-mb", "10"]
    assert main(whole) == 0
    said = json.loads(capsys.readouterr().out)
    budget_mb = said["output_bytes"] * 0.8 / 1e6
    assert main([*whole, "--force", "--budget-mb", str(budget_mb)]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (tmp_path / "out.gguf").stat().st_size <= budget_mb * 1e6
    assert said["mix"]["kl"] >= 0
    kinds = {t.type.name for t in read_gguf(tmp_path / "out.gguf").weights.values() if len(t.shape) == 2}
    assert kinds == {one["after"] for one in said["tensors"].values() if one["after"][0] == "Q"}
    assert read_gguf(tmp_path / "out.gguf").metadata["miaotui.compress.recipe"] == "mixed search"


def test_options_behind_a_recipe_override_it(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tmp_path / "mine.toml"
    recipe.write_text('mix = "q4_0,q8_0"\nmax-kl = 1e-9\nmethod = "rtn"\n')
    assert main([*command, "--recipe", str(recipe), "--max-kl", "50"]) == 0
    assert json.loads(capsys.readouterr().out)["mix"]["kl"] <= 50
    metadata = read_gguf(tmp_path / "out.gguf").metadata
    assert metadata["miaotui.compress.recipe"] == "mixed rtn"
    recipe.write_text("nonsense = 1\n")
    assert main([*command, "--force", "--recipe", str(recipe)]) == 2
    assert "--nonsense=1" in capsys.readouterr().err


def test_what_a_mix_needs_is_said(command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plain = [*command[:4], "--json"]
    for wrong, problem in (
        ([*plain, "--max-kl", "1"], "--mix-text"),
        ([*plain, "--mix", "q4_0"], "within a limit"),
        ([*command, "--max-kl", "0"], "above 0"),
        ([*command, "--max-kl", "1", "--mix", "q3_x"], "no type"),
        ([*command, "--budget-mb", "0.001"], "the smallest has"),
        ([*command, "--recipe", "tiny"], "no recipe"),
    ):
        assert main(wrong) == 2
        assert problem in capsys.readouterr().err
    (tmp_path / "out.gguf").write_text("mine")
    assert main([*command, "--budget-mb", "10"]) == 1
    assert "--force" in capsys.readouterr().err
    assert (tmp_path / "out.gguf").read_text() == "mine"
