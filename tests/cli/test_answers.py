"""Kept answers from the command line: import, ask, list, reject, verify, purge, export."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from miaotui.answers.cache import opened
from miaotui.answers.decision import KEPT_S, Decision
from miaotui.answers.entry import Entry, generated
from miaotui.answers.question import Question
from miaotui.answers.row import Row
from miaotui.answers.setup import open_cache
from miaotui.cli import main
from miaotui.core import SamplingParams


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("MIAOTUI_CACHE", "MIAOTUI_CACHE_SECRET"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MIAOTUI_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path


@pytest.fixture
def do(home: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    def run(*words: str, code: int = 0) -> Any:
        assert main([*words, "--json"]) == code, capsys.readouterr().err
        out = capsys.readouterr().out
        return json.loads(out) if out.startswith(("{", "[")) and words[1] != "export" else out

    return run


@pytest.fixture
def faq(home: Path) -> str:
    (home / "faq.csv").write_text("question,answer,tags\nWhen are you open?,From 9 to 5.,times\nWho?,Us.,\n")
    return str(home / "faq.csv")


def test_what_was_imported_is_answered_without_a_model(do: Any, faq: str) -> None:
    assert do("answers", "import", faq) == {"imported": 2, "rejected_before": []}
    said = do("answers", "ask", "when are you open", "-m", "no-such-model")
    assert (said["answer"], said["path"]) == ("From 9 to 5.", "curated")
    assert [one["question"] for one in do("answers", "search", "open")] == ["When are you open?"]
    assert len(do("cache", "ls")) == 2
    assert do("cache", "stats")["answers"] == 2


def test_what_was_exported_can_be_imported_elsewhere(do: Any, faq: str, home: Path) -> None:
    do("answers", "import", faq)
    (home / "out.jsonl").write_text(do("answers", "export", "--curated"))
    elsewhere = f"sqlite:{home / 'other.sqlite'}"
    assert do("answers", "import", str(home / "out.jsonl"), "--store", elsewhere) == {
        "imported": 2,
        "rejected_before": [],
    }
    assert len(do("cache", "ls", "--store", elsewhere)) == 2


def test_tenants_are_kept_apart(do: Any, faq: str) -> None:
    do("answers", "import", faq, "--tenant", "alice")
    assert do("cache", "ls") == []
    assert len(do("cache", "ls", "--tenant", "alice")) == 2


def test_a_rejected_answer_is_gone_and_verify_replays_it(do: Any, faq: str) -> None:
    do("answers", "import", faq)
    identity = do("cache", "ls")[0]["id"]
    do("cache", "reject", identity, "--comment", "no")
    assert identity not in [one["id"] for one in do("cache", "ls")]
    assert do("cache", "verify") == {"answers": 1, "pairs": 0, "violations": []}
    said = do("answers", "import", faq)
    assert (said["imported"], len(said["rejected_before"])) == (1, 1)
    assert identity not in [one["id"] for one in do("cache", "ls")]
    assert do("cache", "verify")["violations"] == []
    do("cache", "reject", "00", code=2)
    do("cache", "reject", "00" * 32, code=1)


def test_purge_takes_what_was_named_and_nothing_else(do: Any, faq: str) -> None:
    do("answers", "import", faq)
    do("cache", "purge", code=2)
    do("cache", "purge", "--all", "--expired", code=2)
    assert do("cache", "purge", "--tag", "times") == {"removed": 1}
    assert do("cache", "purge", "--expired") == {"removed": 0}
    assert [one["question"] for one in do("cache", "ls")] == ["Who?"]
    assert do("cache", "purge", "--all") == {"removed": 1}


@pytest.fixture
def stored(home: Path) -> Any:
    """Call it with rows to have them in the home folder's store, sealed."""

    def put(*rows: Row) -> None:
        async def work() -> None:
            cache = open_cache(["sqlite"], home / "home", memory_bytes=1 << 20, store_bytes=1 << 30)
            assert cache is not None
            async with opened(cache):
                await cache.put_now(rows)

        asyncio.run(work())

    return put


def kept(text: str, model: str) -> Entry:
    return generated(Question("", model, [{"role": "user", "content": text}], SamplingParams(temperature=0)), "Yes.")


def test_purge_takes_the_beginning_of_a_model_s_digest_that_means_one(do: Any, stored: Any, capsys: Any) -> None:
    stored(*(kept(text, model).row() for text, model in (("a", "abc" * 21), ("b", "abd" * 21), ("c", "abc" * 21))))
    shown = next(one["model"] for one in do("cache", "ls") if one["question"] == "a")
    assert main(["cache", "purge", "--model", "ab"]) == 2
    assert "abd" * 21 in capsys.readouterr().err
    assert main(["cache", "purge", "--model", "abe"]) == 1
    assert "abe" in capsys.readouterr().err
    do("cache", "purge", "--model", "", code=2)
    assert do("cache", "purge", "--model", shown) == {"removed": 2}
    assert do("cache", "purge", "--model", "abd" * 21) == {"removed": 1}


def test_purge_expired_takes_decisions_as_well(do: Any, stored: Any) -> None:
    old = [Decision(f"r{number}", "", "model", "", time.time() - KEPT_S - 10, "Is it on?") for number in range(3)]
    stored(*(one.row() for one in old), Decision("r9", "", "model", "", time.time(), "Is it on?").row())
    assert do("cache", "purge", "--expired") == {"removed": 3}


def test_a_near_answer_that_a_request_was_given_is_told_apart_from_it(do: Any, stored: Any) -> None:
    one = kept("How do I reset my password?", "m")
    seen = {"entry": one.id, "similarity": 0.97, "distance": 0.2}
    decision = Decision("r1", "", "near", "", time.time(), "How can I reset my password?", one.id, candidates=[seen])
    stored(one.row(), decision.row(), replace(decision, request_id="r2", entry="00" * 32).row())
    do("cache", "reject", one.id, "--request", "r1")
    assert [each["id"] for each in do("cache", "ls")] == [one.id]
    assert do("cache", "verify") == {"answers": 0, "pairs": 1, "violations": []}
    for unknown in ("r2", "r3"):
        do("cache", "reject", one.id, "--request", unknown, code=1)


def test_why_is_told_in_words(do: Any, stored: Any, capsys: pytest.CaptureFixture[str]) -> None:
    one = kept("How do I reset my password?", "m")
    seen = {"entry": one.id, "matched": one.question, "similarity": 0.97, "distance": 0.2, "why": "close enough"}
    decision = Decision(
        "r1", "", "near", "all guards passed", time.time(), "How can I reset it?", one.id, candidates=[seen]
    )
    stored(one.row(), replace(decision, guards={"numbers": "passed"}, times_s={"look_up": 0.0021}).row())
    assert main(["why", "r1"]) == 0
    told = {line[:23].strip(): line[23:].strip() for line in capsys.readouterr().out.splitlines()}
    assert told["time to look up"] == "2.1 ms"
    assert told["guard numbers"] == "passed"
    assert told["looked at (0.9700)"] == "How do I reset my password?: close enough"
    assert not any("{" in value for value in told.values())


def test_asking_keeps_the_model_s_answer(do: Any, tiny_model: Path) -> None:
    first = do("answers", "ask", "the cat", "-m", str(tiny_model))
    assert first["path"] == "model"
    again = do("answers", "ask", "the cat", "-m", str(tiny_model))
    kept = [one["id"] for one in do("cache", "ls")]
    assert again["path"] == ("store" if kept else "model")  # a tiny model may talk until its context is full
    assert again["answer"] == first["answer"]
    assert do("answers", "ask", "the cat", "--refresh", "-m", str(tiny_model))["path"] == "model"


def test_wrong_usage_is_one_sentence(do: Any, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (("answers", "eat"), ("answers", "ask"), ("cache", "eat"), ("cache", "ls", "--store", "mysql://x")):
        assert main(list(words)) == 2
        assert capsys.readouterr().err.count("\n") == 1
    assert main(["why", "nobody"]) == 1
    assert "x-request-id" in capsys.readouterr().err


def test_a_store_that_cannot_be_used_is_named(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cache", "ls", "--store", f"sqlite:{home}"]) == 1
    assert "sqlite" in capsys.readouterr().err
