"""`miaotui cascade`: a gate from labelled rows, and answers by it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from engine.tiny_model import write_tiny_model
from miaotui.adaptive.cascade import load_gate
from miaotui.cli import main
from miaotui.cli.cascade_rows import read_rows
from miaotui.errors import TaskFileError

Output = pytest.CaptureFixture[str]
CHOICES = ("yes", "no")


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIAOTUI_HOME", str(tmp_path / "home"))


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("models")
    return [str(write_tiny_model(folder / f"{name}.gguf", seed=seed)) for seed, name in enumerate(("small", "large"))]


def rows(tmp_path: Path, count: int = 60) -> Path:
    path = tmp_path / "rows.tsv"
    path.write_text("".join(f"the cat {number}\t{number % 2}\n" for number in range(count)))
    return path


def calibrate(models: list[str], data: Path, gate: Path, *more: str) -> int:
    command = ["cascade", "calibrate", *models, "--data", str(data), "-o", str(gate), "--kv-memory", "4MiB"]
    return main([*command, *more])


def test_a_gate_is_calibrated_and_answers_by_it(models: list[str], tmp_path: Path, capsys: Output) -> None:
    gate = tmp_path / "gate.json"
    more = ["--choices", "yes,no", "--instruction", "Which?", "--floor", "0.2", "--confidence", "0.5", "--json"]
    assert calibrate(models, rows(tmp_path), gate, *more) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["calibration"]["num_cases"], said["test"]["num_cases"]) == (42, 18)
    found = load_gate(gate)
    assert (found.asking.choices, found.asking.instruction, found.floor) == (CHOICES, "Which?", 0.2)
    assert found.threshold == said["calibration"]["threshold"]
    lines = tmp_path / "lines.txt"
    lines.write_text("a cat\n\na dog\n")
    ask = ["cascade", "run", *models, "--gate", str(gate), "--kv-memory", "4MiB"]
    assert main([*ask, "--lines", str(lines), "--json"]) == 0
    answers = json.loads(capsys.readouterr().out)
    assert len(answers) == 2
    assert all(answer["text"] in CHOICES and answer["stages"] and answer["why"] for answer in answers)
    assert main([*ask, "a cat"]) == 0
    printed = capsys.readouterr()
    assert printed.out.strip() == answers[0]["text"]
    assert "tiny" in printed.err


def test_people_are_told_what_the_gate_does(models: list[str], tmp_path: Path, capsys: Output) -> None:
    assert calibrate(models, rows(tmp_path, 20), tmp_path / "gate.json", "--teacher", "--max-tokens", "4") == 0
    said = capsys.readouterr().out
    assert "always the large model" in said
    assert "14 rows show too little" in said
    assert "on 6 other rows, with 95 % intervals" in said
    assert (
        calibrate(models, rows(tmp_path, 20), tmp_path / "gate.json", "--teacher", "--test", "0", "--limit", "5") == 0
    )
    assert "other rows" not in capsys.readouterr().out


def test_models_in_the_wrong_order_are_one_message(models: list[str], tmp_path: Path, capsys: Output) -> None:
    gate = tmp_path / "gate.json"
    assert calibrate(models, rows(tmp_path, 20), gate, "--teacher", "--max-tokens", "4") == 0
    assert main(["cascade", "run", *models[::-1], "--gate", str(gate), "hi"]) == 1
    assert "calibrated for another model" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "code", "message"),
    [
        (["--floor", "1.5"], 2, "--floor is above 0"),
        (["-o", "/none/gate.json", "--data", "/none.tsv"], 1, "/none/gate.json: cannot be written"),
        (["--signal", "mood"], 2, "--signal: there is no signal 'mood'"),
        (["--signal", "agreement", "--choices", "yes,no"], 2, "tells nothing of answers out of given choices"),
        (["--choices", "yes"], 1, "choices must be none, or 2"),
        (["--data", "/none.tsv"], 1, "cannot read"),
        (["--test", "0.99"], 1, "leaves no rows"),
    ],
    ids=str,
)
def test_wrong_usage_is_one_sentence(
    models: list[str], tmp_path: Path, capsys: Output, more: list[str], code: int, message: str
) -> None:
    assert calibrate(models, rows(tmp_path, 4), tmp_path / "gate.json", *more) == code
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
    assert not (tmp_path / "gate.json").exists()


def test_a_prompt_or_lines_and_a_gate_that_is_one(models: list[str], tmp_path: Path, capsys: Output) -> None:
    gate = tmp_path / "gate.json"
    gate.write_text("{}")
    assert main(["cascade", *models, "--gate", str(gate), "hi"]) == 1
    assert "must be an object of" in capsys.readouterr().err
    assert calibrate(models, rows(tmp_path, 20), gate, "--teacher", "--max-tokens", "4") == 0
    assert main(["cascade", *models, "--gate", str(gate)]) == 1
    assert "give a prompt or --lines" in capsys.readouterr().err


def test_help_shows_examples(capsys: Output) -> None:
    for words in (["cascade"], ["cascade", "run"], ["cascade", "calibrate"]):
        assert main([*words, "--help"]) == 0
        said = capsys.readouterr().out
        assert "examples:" in said
        assert f"usage: miaotui {' '.join(words)} " in said


def test_rows_are_read_from_lines_and_columns_in_an_order_drawn_once(tmp_path: Path) -> None:
    tsv, jsonl = tmp_path / "a.tsv", tmp_path / "a.jsonl"
    tsv.write_text("one\tyes\ntwo\t1\nthree\tin\tno\n")
    talk = [{"role": "user", "content": "three\tin"}]
    objects = [{"prompt": "one", "answer": "yes"}, {"text": "two", "label": 1}, {"messages": talk, "answer": "no"}]
    jsonl.write_text("".join(json.dumps(one) + "\n" for one in objects))
    columns, lines = (read_rows(path, CHOICES, teacher=False) for path in (tsv, jsonl))
    assert [row.wanted for row in columns] == [row.wanted for row in lines]
    assert {row.given for row in columns} == {"one", "two", "three\tin"}
    assert sorted(row.wanted or "" for row in lines) == ["no", "no", "yes"]
    assert [row.given for row in read_rows(tsv, CHOICES, teacher=True)] == [row.given for row in columns]
    assert {row.wanted for row in read_rows(jsonl, CHOICES, teacher=True)} == {None}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"prompt": "a"}', 'line 1: there is no "answer"'),
        ('{"prompt": "a", "answer": "maybe"}', "must be one of"),
        ('{"prompt": "a", "answer": 2}', "must be one of"),
        ('{"prompt": 3, "answer": "yes"}', '"prompt" must be text'),
        ('{"messages": [], "answer": "yes"}', "a list of 1 to"),
        ('{"messages": [{"content": "a"}], "answer": "yes"}', "an object with a role"),
        ('{"messages": [{"role": "user", "content": 1}], "answer": "yes"}', "must be text"),
        ("[1]", "must be an object"),
        ("", "is empty"),
    ],
)
def test_rows_that_cannot_be_used_are_named(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(content)
    with pytest.raises(TaskFileError, match=message):
        read_rows(path, CHOICES, teacher=False)


def test_a_line_without_a_tab_is_named(tmp_path: Path) -> None:
    path = tmp_path / "rows.tsv"
    path.write_text("a\tyes\nb\n")
    with pytest.raises(TaskFileError, match="line 2: there is no tab"):
        read_rows(path, CHOICES, teacher=False)


def test_a_cascade_has_no_use_for_a_draft_model(models: list[str], tmp_path: Path, capsys: Output) -> None:
    assert calibrate(models, rows(tmp_path, 20), tmp_path / "gate.json", "--draft-model", models[0]) == 2
    assert "so flag --draft-model has no use; unset it" in capsys.readouterr().err
