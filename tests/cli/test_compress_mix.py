"""`miaotui compress` with limits and recipes: types by what was measured, options under a name."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from engine.tiny_model import tiny_model as tiny_model  # a fixture
from miaotui.cli import main
from miaotui.cli.compress_mix import _shower
from miaotui.compress import speed
from miaotui.compress.calibration import Calibration, InputStatistics, check_fits
from miaotui.compress.compress import open_source
from miaotui.compress.sensitivity import Blocks
from miaotui.compress.trials import Trials
from miaotui.errors import ConfigError
from miaotui.formats.gguf import read_gguf


@pytest.fixture
def command(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setattr(speed, "CACHED_BYTES", 1 << 14)
    monkeypatch.setattr(speed, "MIN_SECONDS", 0.0)
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


def test_an_interrupted_mix_goes_on_and_other_limits_measure_nothing(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[tuple[str, ...]] = []
    kl_with = Trials.kl_with

    def counting(self: Trials, changes: Mapping[str, Blocks]) -> float:
        asked.append(tuple(changes))
        if len(asked) == 4:
            raise KeyboardInterrupt
        return kl_with(self, changes)

    monkeypatch.setattr(Trials, "kl_with", counting)
    whole = [*command, "--mix", "q4_0,q8_0", "--budget-mb", "10"]
    losses = tmp_path / "out.gguf.losses"
    assert main(whole) == 130
    assert len(losses.read_text().splitlines()) == 1 + 3
    first = len(asked)
    assert main(whole) == 0
    num_groups = len(asked) - 1 - 1  # without the interrupted one and that of the whole mix
    assert len(set(asked[: first - 1]) & set(asked[first:])) == 0
    assert not losses.exists()
    assert main([*whole, "--force", "--mix-losses", str(tmp_path / "mine")]) == 0
    del asked[:]
    asked.extend([()] * 4)
    assert main([*whole, "--force", "--mix-losses", str(tmp_path / "mine"), "--budget-mb", "9"]) == 0
    assert len(asked) == 4 + 1
    assert f"{num_groups} groups of matrices are measured already" in capsys.readouterr().err


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
    assert "'nonsense' is not for a recipe" in capsys.readouterr().err


def test_what_a_mix_needs_is_said(command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plain = [*command[:4], "--json"]
    for wrong, problem in (
        ([*plain, "--max-kl", "1"], "--mix-text"),
        ([*plain, "--mix", "q4_0"], "within a limit"),
        ([*command, "--max-kl", "0"], "above 0"),
        ([*command, "--max-kl", "1", "--mix", "q3_x"], "no type"),
        ([*command, "--max-kl", "1", "--mix", "q4_0,f16"], "not f16"),
        ([*command, "--max-kl", "1", "--prune-layers", "1", "--text", "nowhere"], "as it is"),
        ([*command, "--budget-mb", "0.001"], "the smallest has"),
        ([*command, "--recipe", "tiny"], "no recipe"),
    ):
        assert main(wrong) == 2
        assert problem in capsys.readouterr().err
    (tmp_path / "out.gguf").write_text("mine")
    assert main([*command, "--budget-mb", "10"]) == 1
    assert "--force" in capsys.readouterr().err
    assert (tmp_path / "out.gguf").read_text() == "mine"


def test_gptq_calibrates_on_the_way(command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = command[command.index("--mix-text") + 1]
    plain = [*command[:4], "--json", "--method", "gptq", "--type", "q4_0"]
    assert main(plain) == 2
    assert "--text FILE" in capsys.readouterr().err
    assert main([*plain, "--text", text]) == 0
    told = read_gguf(tmp_path / "out.gguf").metadata
    assert str(told["miaotui.compress.calibration"]).endswith("with Hessians")
    assert main([*plain[:-4], "--recipe", "small", "--text", text, "--max-kl", "9", "--force"]) == 0
    assert read_gguf(tmp_path / "out.gguf").metadata["miaotui.compress.recipe"] == "mixed gptq"


def test_options_that_would_spoil_each_other_are_refused(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = [*command[:4], "--json", "--type", "q4_0"]
    for wrong, problem in (
        (["--method", "nonsense"], "no method"),
        (["--adapter"], "--rank-correction"),
        (["--mask", "2:4", "--rotate", "stream", "--type", "q8_0"], "fill the mask"),
        (["--rank-correction", "2", "--budget-mb", "9", "--mix-text", "x"], "budget"),
    ):
        assert main([*plain, *wrong]) == 2
        assert problem in capsys.readouterr().err
    assert main([*plain, "--rank-correction", "2"]) == 0
    corrected = tmp_path / "corrected.gguf"
    (tmp_path / "out.gguf").rename(corrected)
    capsys.readouterr()
    assert main(["compress", str(corrected), *plain[2:], "--rotate", "stream"]) == 2
    assert "holds factors already" in capsys.readouterr().err


def test_a_model_is_never_written_over(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    model, text = Path(command[1]), command[command.index("--mix-text") + 1]
    before = model.read_bytes()
    for words in (
        ["compress", str(model), "-o", str(model), "--force", "--type", "q4_0", "--rank-correction", "2"],
        ["compress", str(model), "-o", str(model), "--force", "--type", "q4_0"],
        ["calibrate", str(model), "-o", str(model), "--force", "--text", text],
    ):
        assert main(words) == 1
        assert "is the model itself" in capsys.readouterr().err
    assert model.read_bytes() == before


@pytest.mark.parametrize(("name", "columns"), [("blk.0.attn_q.weight", 5), ("encoder.layer", 64)])
def test_a_calibration_of_another_model_is_refused(name: str, columns: int, tiny_model: Path) -> None:
    inputs = {name: InputStatistics(7, np.ones(columns, np.float32))}
    with pytest.raises(ConfigError, match="of another model"):
        check_fits(Calibration("", 7, inputs), open_source(tiny_model))


def test_progress_says_what_is_to_come_and_how_long(capsys: pytest.CaptureFixture[str]) -> None:
    show = _shower(7)
    show(0, 4)
    assert "4 groups of matrices, each in 7 types" in capsys.readouterr().err
    show(2, 4)
    assert re.search(r"losses 2/4, 0:\d\d left", capsys.readouterr().err)
