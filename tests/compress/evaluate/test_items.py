"""What a task file says is what is asked; what it should not say is named by line and field."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from miaotui.compress.compare.prompts import COMMON, read_prompts
from miaotui.compress.evaluate import lines
from miaotui.compress.evaluate.items import MAX_CHOICES, read_task, spaced
from miaotui.errors import TaskFileError


def write(path: Path, *rows: Any) -> Path:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def test_choices_come_behind_the_question(tmp_path: Path) -> None:
    rows = [{"question": "Q?", "choices": ["x", "y z"], "answer": answer} for answer in (1, "B", "y z")]
    task = read_task(write(tmp_path / "some.jsonl", *rows, ""))
    assert (task.name, task.kind) == ("some", "choice")
    assert {item.right for item in task.items} == {1}
    assert task.items[0].context == "Question: Q?\nAnswer:"
    assert task.items[0].endings == (" x", " y z")
    assert [item.line for item in task.items] == [1, 2, 3]


def test_a_cloze_asks_for_its_target_or_its_last_word(tmp_path: Path) -> None:
    rows = [{"text": "a b", "target": "c"}, {"text": "a b c\n"}, {"text": "今天天气很", "target": "好"}]
    items = read_task(write(tmp_path / "t.jsonl", *rows)).items
    assert [(item.context, item.endings) for item in items] == [
        ("a b", (" c",)),
        ("a b", (" c",)),
        ("今天天气很", ("好",)),
    ]


def test_an_exact_answer_may_be_a_number(tmp_path: Path) -> None:
    (item,) = read_task(write(tmp_path / "t.jsonl", {"prompt": "1+1", "answer": 2, "regex": r"(\d)"})).items
    assert (item.context, item.answer, item.regex) == ("1+1", "2", r"(\d)")


def test_the_limit_leaves_the_rest_unread(tmp_path: Path) -> None:
    path = write(tmp_path / "t.jsonl", {"text": "a b"}, {"text": "c d"}, "nonsense")
    assert len(read_task(path, 2).items) == 2


GOOD = {"question": "Q", "choices": ["a", "b"], "answer": 0}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("{", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("9" * 5000, "is not JSON"),
        ("[1]", "must be an object"),
        ({}, "there is nothing; give"),
        ({"quest": "x" * 500}, "there is only 'quest'"),
        ({**GOOD, "question": None}, 'no "question"'),
        ({**GOOD, "question": 5}, '"question" must be text, not 5'),
        ({**GOOD, "question": " "}, '"question" is empty'),
        ({**GOOD, "question": "\ud800"}, '"question" holds half a surrogate'),
        ({**GOOD, "choices": "ab"}, '"choices" must be a list'),
        ({**GOOD, "choices": ["a"]}, '"choices" must be a list of 2'),
        ({**GOOD, "choices": ["a"] * (MAX_CHOICES + 1)}, '"choices" must be a list'),
        ({**GOOD, "choices": ["a", 3]}, r'"choices\[1\]" must be text'),
        ({**GOOD, "answer": 2}, '"answer" must be the right choice'),
        ({**GOOD, "answer": True}, '"answer" must be the right choice'),
        ({**GOOD, "answer": "c"}, '"answer" must be the right choice'),
        ({**GOOD, "choices": ["a", "a"], "answer": "a"}, '"answer" must be the right choice'),
        ({"text": "word"}, '"text" has one word only'),
        ({"text": "a b", "target": 1}, '"target" must be text'),
        ({"prompt": "p"}, 'no "answer"'),
        ({"prompt": "p", "answer": [1]}, '"answer" must be text'),
        ({"prompt": "p", "answer": "a", "regex": "("}, '"regex" cannot be used'),
        ({"prompt": "p", "answer": "a", "regex": "a" * 201}, '"regex" has 201 characters'),
    ],
    ids=lambda value: str(value)[:40],
)
def test_bad_lines_are_named(row: Any, message: str, tmp_path: Path) -> None:
    good = GOOD if not isinstance(row, dict) or "question" in row else row | {"x": 1}
    path = write(tmp_path / "t.jsonl", "", row if good is not GOOD else GOOD, row)
    with pytest.raises(TaskFileError, match=message) as caught:
        read_task(path)
    assert f"t.jsonl line {3 if good is GOOD else 2}: " in str(caught.value)
    assert len(str(caught.value)) < 500


def test_kinds_are_not_mixed(tmp_path: Path) -> None:
    with pytest.raises(TaskFileError, match=r"line 2: is the next word.*but those before are multiple choice"):
        read_task(write(tmp_path / "t.jsonl", GOOD, {"text": "a b"}))


def test_files_are_bounded_and_must_be_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TaskFileError, match="cannot read"):
        read_task(tmp_path / "none")
    with pytest.raises(TaskFileError, match="cannot read"):
        read_task(Path("a\0b"))
    with pytest.raises(TaskFileError, match="is empty"):
        read_task(write(tmp_path / "blank.jsonl", " ", ""))
    (tmp_path / "latin.jsonl").write_bytes(b'{"text": "\xe9"}')
    with pytest.raises(TaskFileError, match=r"not UTF-8 text \(byte 10"):
        read_task(tmp_path / "latin.jsonl")
    monkeypatch.setattr(lines, "MAX_BYTES", 10)
    with pytest.raises(TaskFileError, match="is longer than"):
        read_task(write(tmp_path / "long.jsonl", GOOD))
    monkeypatch.undo()
    monkeypatch.setattr(lines, "MAX_LINE_CHARACTERS", 10)
    with pytest.raises(TaskFileError, match="line 1: the line has"):
        read_task(write(tmp_path / "wide.jsonl", GOOD))
    monkeypatch.undo()
    monkeypatch.setattr("miaotui.compress.evaluate.items.MAX_ITEMS", 1)
    with pytest.raises(TaskFileError, match="line 2: there are more than 1 lines"):
        read_task(write(tmp_path / "many.jsonl", GOOD, GOOD))


def test_prompts_are_lines_or_objects(tmp_path: Path) -> None:
    plain = write(tmp_path / "p.txt", "one", "", '{"two": 2}')
    assert read_prompts(plain) == ["one", '{"two": 2}']
    assert read_prompts(write(tmp_path / "p.jsonl", {"prompt": "one\ntwo"})) == ["one\ntwo"]
    with pytest.raises(TaskFileError, match=r'p\.jsonl line 1: there is no "prompt"'):
        read_prompts(write(tmp_path / "p.jsonl", {"text": "x"}))
    assert len(set(COMMON)) == 16


@pytest.mark.parametrize(
    ("before", "behind", "joined"),
    [("a", "b", " b"), ("a ", "b", "b"), ("a", " b", " b"), ("好", "的", "的"), ("a:", "好", "好"), ("好", "b", "b")],
)
def test_words_are_written_apart_where_that_is_usual(before: str, behind: str, joined: str) -> None:
    assert spaced(before, behind) == joined
