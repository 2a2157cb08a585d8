"""People's own questions and answers are read whole or not at all."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from answers.dict_store import DictStore
from answers.test_cache import PLAIN, Clock, entry, question, with_cache
from miaotui.answers.cache import AnswerCache, Found
from miaotui.answers.curated import all_answers, exported, import_pairs, read_pairs
from miaotui.answers.entry import curated_key
from miaotui.errors import InvalidRequestError


def test_csv_and_jsonl_say_the_same(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('﻿Question,answer,tags\n"Is it ""on""?","Yes,\nit is.","lamp, home"\n', "utf-8")
    line = {"question": 'Is it "on"?', "answer": "Yes,\nit is.", "tags": ["lamp", "home"]}
    (tmp_path / "a.jsonl").write_text(json.dumps(line) + "\n\n", "utf-8")
    found = [read_pairs(tmp_path / name, "t", tags=["new"]) for name in ("a.csv", "a.jsonl")]
    for (one,) in found:
        assert (one.question, one.answer, one.tags) == ('Is it "on"?', "Yes,\nit is.", ("lamp", "home", "new"))
        assert (one.tenant, one.origin) == ("t", "curated")


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.csv", "q,a\n1,2\n", "columns"),
        ("a.csv", "question,answer\n,x\n", "line 2: there is no question"),
        ("a.csv", "question,answer\nx\n", "line 2: there is no answer"),
        ("a.csv", 'question,answer\nx,"y\n', "line"),
        ("a.csv", "question,answer\nx,y\nx?,z\n", "line 3: the question of line 2"),
        ("a.jsonl", "[]\n", "line 1 is no object"),
        ("a.jsonl", '{"question": "x", "answer": "y"}\n{', "line 2"),
        ("a.jsonl", '{"question": "x", "answer": 3}', "no answer"),
        ("a.jsonl", '{"question": "x", "answer": "y", "tags": [1]}', "tags"),
        ("a.jsonl", '{"question": "x", "answer": "y", "tags": 1}', "line 1"),
        ("a.jsonl", json.dumps({"question": "x" * 9000, "answer": "y"}), "longer"),
        ("a.txt", "", r"\.csv or \.jsonl"),
    ],
)
def test_what_cannot_be_used_is_named(tmp_path: Path, name: str, text: str, said: str) -> None:
    (tmp_path / name).write_text(text, "utf-8")
    with pytest.raises(InvalidRequestError, match=said):
        read_pairs(tmp_path / name, "")


def test_a_file_that_is_not_there_or_not_utf8_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequestError, match="cannot be read"):
        read_pairs(tmp_path / "none.csv", "")
    (tmp_path / "a.csv").write_bytes(b"question,answer\n\xff,y\n")
    with pytest.raises(InvalidRequestError, match="UTF-8"):
        read_pairs(tmp_path / "a.csv", "")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Polish hams", "polish hams"),
        ("What is 5!", "What is 5?"),
        ("Turkey", "turkey"),
        ("What is n!?", "What is n?"),
        ("Is 5 mW much?", "Is 5 MW much?"),
        ("What does ?? do: a ??", "What does ?? do: a"),
        ("Will Smith come?", "will Smith come?"),
    ],
)
def test_people_s_questions_that_differ_in_what_matters_are_kept_apart(one: str, other: str) -> None:
    assert curated_key("", one) != curated_key("", other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("What is  it?", "what is it"),
        ("Can I pay?", "can I pay."),
        ("怎么去？", "怎么去"),
        ("Will it rain?", "will it rain"),
        ("What's up?", "what's up??"),
    ],
)
def test_people_s_questions_that_differ_in_nothing_are_one(one: str, other: str) -> None:
    assert curated_key("", one) == curated_key("", other)


def test_what_was_exported_can_be_imported(tmp_path: Path) -> None:
    async def work(cache: AnswerCache, stores: list[DictStore], clock: Clock) -> None:
        (tmp_path / "a.csv").write_text("question,answer\nWho are you?,A lamp.\nIs it off?,No.\n", "utf-8")
        await import_pairs(cache, read_pairs(tmp_path / "a.csv", ""))
        await cache.keep(entry(question()))
        await cache.flush()
        lines = [json.dumps(exported(one)) async for one in all_answers(cache, "", only_curated=True)]
        assert len(lines) == 2
        assert len([one async for one in all_answers(cache, "")]) == 3
        (tmp_path / "b.jsonl").write_text("\n".join(lines), "utf-8")
        again = read_pairs(tmp_path / "b.jsonl", "")
        assert {(one.question, one.answer) for one in again} == {("Who are you?", "A lamp."), ("Is it off?", "No.")}
        found = await cache.look_up(question("who are you"), PLAIN)
        assert isinstance(found, Found)
        assert found.entry.answer == "A lamp."

    with_cache(work)
