"""`miaotui exits`: trained from labelled texts, and labels by them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from adaptive.exits.conftest import labelled
from engine.tiny_bert import write_tiny_bert
from miaotui.adaptive.exits import load_exits
from miaotui.cli import main
from models.tiny_text_cnn import WHOLE, random_arrays, write_text_cnn

Output = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIAOTUI_HOME", str(tmp_path / "home"))


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_tiny_bert(tmp_path_factory.mktemp("models") / "bert", layers=3))


def data(tmp_path: Path, count: int = 400) -> Path:
    path = tmp_path / "rows.tsv"
    path.write_text("".join(f"{text}\t{label}\n" for text, label in labelled(count)))
    return path


def test_exits_are_trained_and_label_texts(model: str, tmp_path: Path, capsys: Output) -> None:
    exits = tmp_path / "a.exits"
    train = ["exits", "train", model, "--data", str(data(tmp_path)), "-o", str(exits)]
    assert main([*train, "--layers", "1,2", "--floor", "0.8", "--confidence", "0.6", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["calibration"]["depths"] == [1, 2, 3]
    assert said["test"]["num_rows"] == 80
    found = load_exits(exits)
    assert (found.labels, found.inner_layers, found.floor) == (("cat", "dog"), (1, 2), 0.8)
    assert found.threshold == said["calibration"]["threshold"]
    lines = tmp_path / "lines.txt"
    lines.write_text("the cat\n\na red dog\n")
    ask = ["exits", "run", model, "--exits", str(exits)]
    assert main([*ask, "--lines", str(lines), "--json"]) == 0
    labels = json.loads(capsys.readouterr().out)
    assert all(one["label"] in ("cat", "dog") and 0.5 <= one["probability"] <= 1 for one in labels)
    assert main([*ask, "the cat", "a red dog"]) == 0
    printed = capsys.readouterr()
    assert printed.out.split() == [one["label"] for one in labels]
    assert "of 3 layers on average" in printed.err
    assert main([*ask, "the cat", "--whole", "--quiet"]) == 0
    assert not capsys.readouterr().err


def test_people_are_told_what_the_exits_do(model: str, tmp_path: Path, capsys: Output) -> None:
    exits = str(tmp_path / "a.exits")
    assert main(["exits", "train", model, "--data", str(data(tmp_path, 60)), "-o", exits]) == 0
    said = capsys.readouterr().out
    assert "nothing leaves early" in said
    assert "on 12 other texts, with 95 % intervals" in said
    more = ["--test", "0", "--limit", "40"]
    assert main(["exits", "train", model, "--data", str(data(tmp_path, 60)), "-o", exits, *more]) == 0
    assert "other texts" not in capsys.readouterr().out


def test_texts_of_conversations_and_other_files(model: str, tmp_path: Path, capsys: Output) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps({"messages": [{"role": "user", "content": "cat"}], "label": "cat"}) + "\n")
    assert main(["exits", "train", model, "--data", str(rows), "-o", str(tmp_path / "a")]) == 1
    assert "reads texts and no conversations" in capsys.readouterr().err
    rows.write_text("".join(json.dumps({"text": text, "label": label}) + "\n" for text, label in labelled(60)))
    assert main(["exits", "train", model, "--data", str(rows), "-o", str(tmp_path / "a"), "--json"]) == 0


@pytest.mark.parametrize(
    ("more", "code", "message"),
    [
        (["--floor", "1.5"], 2, "--floor is above 0"),
        (["-o", "/none/exits.json", "--data", "/none.tsv"], 1, "/none/exits.json: cannot be written"),
        (["--layers", "a"], 2, "--layers: it must be numbers such as 2,4"),
        (["--layers", "3"], 1, "ascending numbers from 1 to 2"),
        (["--data", "/none.tsv"], 1, "cannot read"),
        (["--limit", "10"], 1, "20 to 100000 labelled rows"),
    ],
    ids=str,
)
def test_wrong_usage_is_one_sentence(
    model: str, tmp_path: Path, capsys: Output, more: list[str], code: int, message: str
) -> None:
    exits = tmp_path / "a.exits"
    assert main(["exits", "train", model, "--data", str(data(tmp_path, 30)), "-o", str(exits), *more]) == code
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
    assert not exits.exists()


def test_models_that_have_no_exits_say_so(tmp_path: Path, tiny_model: Path, capsys: Output) -> None:
    cnn = write_text_cnn(tmp_path / "cnn.gguf", WHOLE, random_arrays(WHOLE))
    for path, why in (
        (cnn, "one layer of convolutions side by side"),
        (tiny_model, "no text encoder of several layers"),
    ):
        assert main(["exits", "train", str(path), "--data", str(data(tmp_path, 30)), "-o", str(tmp_path / "a")]) == 1
        assert why in capsys.readouterr().err


def test_exits_of_another_model_and_no_exits_are_one_message(model: str, tmp_path: Path, capsys: Output) -> None:
    exits = str(tmp_path / "a.exits")
    assert main(["exits", "train", model, "--data", str(data(tmp_path, 60)), "-o", exits]) == 0
    other = write_tiny_bert(tmp_path / "other", seed=3, layers=3)
    assert main(["exits", "run", str(other), "--exits", exits, "cat"]) == 1
    assert "trained for another model than" in capsys.readouterr().err
    assert main(["exits", "run", model, "--exits", str(tmp_path / "rows.tsv"), "cat"]) == 1
    assert "exits train" in capsys.readouterr().err
    assert main(["exits", "run", model, "--exits", exits]) == 1
    assert "give texts or --lines" in capsys.readouterr().err


def test_help_shows_examples(capsys: Output) -> None:
    for words in (["exits"], ["exits", "run"], ["exits", "train"]):
        assert main([*words, "--help"]) == 0
        assert "examples:" in capsys.readouterr().out


def test_numbers_of_layers_are_told(tmp_path: Path, model: str, capsys: Output) -> None:
    exits = tmp_path / "a.exits"
    more = ["--layers", "1,2", "--floor", "0.5", "--confidence", "0.5"]
    assert main(["exits", "train", model, "--data", str(data(tmp_path)), "-o", str(exits), *more]) == 0
    said = capsys.readouterr().out
    assert "once the label has a probability of" in said
    assert np.isfinite(load_exits(exits).threshold or 0.0)
