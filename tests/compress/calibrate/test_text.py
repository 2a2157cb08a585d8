"""Text is read whole, in windows that begin as the model wants, and prompts as its chat template writes them."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from pathlib import Path

import pytest

from engine.tiny_model import tiny_model as tiny_model  # a fixture
from engine.tiny_model import write_tiny_model
from miaotui.cli.text import read_text
from miaotui.compress.calibrate.prompts import read_prompts
from miaotui.compress.calibrate.text import windows_of_prompts, windows_of_text
from miaotui.errors import InvalidRequestError
from miaotui.formats import open_model
from miaotui.formats.chat_template import ChatTemplate
from miaotui.formats.tokenizer import Tokenizer


@pytest.fixture
def tokenizer(tiny_model: Path) -> Tokenizer:
    return Tokenizer.from_model(open_model(tiny_model))


def joined(windows: Iterable[list[int]]) -> list[int]:
    return list(chain.from_iterable(windows))


def test_windows_hold_the_whole_text(tokenizer: Tokenizer) -> None:
    text = "the cat and the dog in the house " * 9
    ids = tokenizer.encode(text, add_special=False)
    windows = windows_of_text(tokenizer, text, window_tokens=10)
    assert joined(windows) == ids
    assert {len(window) for window in windows[:-1]} == {10}
    assert joined(windows_of_text(tokenizer, text, window_tokens=10, tokens=25)) == ids[:25]


def test_windows_begin_as_the_model_wants(tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokenizer, "add_bos", True)
    text = "the cat and the dog"
    windows = windows_of_text(tokenizer, text, window_tokens=4)
    assert {window[0] for window in windows} == {tokenizer.bos_id}
    assert joined(window[1:] for window in windows) == tokenizer.encode(text, add_special=False)


def test_prompts_go_through_the_chat_template(tokenizer: Tokenizer) -> None:
    asked = [{"role": "user", "content": "the cat"}]
    answered = [*asked, {"role": "assistant", "content": "and"}]
    template = ChatTemplate.from_tokenizer(tokenizer)
    windows = windows_of_prompts(tokenizer, ["the cat", asked, answered], step_tokens=512)
    assert windows[0] == windows[1] == template.encode(tokenizer, asked)
    assert windows[2] == template.encode(tokenizer, answered, add_generation_prompt=False)
    cut = windows_of_prompts(tokenizer, [answered], step_tokens=5)
    assert joined(cut) == windows[2]
    assert max(map(len, cut)) == 5


def test_models_without_a_template_read_the_text(tmp_path: Path) -> None:
    tokenizer = Tokenizer.from_model(open_model(write_tiny_model(tmp_path / "m.gguf", chat=False)))
    assert windows_of_prompts(tokenizer, ["the cat"], step_tokens=99) == [tokenizer.encode("the cat")]


def test_prompts_are_read_in_every_form(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text(
        '{"prompt": "a"}\n\n"b"\n{"turns": ["c", "d"]}\n{"messages": [{"role": "user", "content": "e\u2028"}]}\n',
        "utf-8",
    )
    assert read_prompts(path) == ["a", "b", "c", "d", [{"role": "user", "content": "e\u2028"}]]


@pytest.mark.parametrize("line", ["{", "3", '{"prompt": 3}', "[]", '{"messages": [{"role": "user"}]}', "[" * 100_000])
def test_what_is_no_prompt_is_refused_with_its_line(line: str, tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text('{"prompt": "a"}\n' + line)
    with pytest.raises(InvalidRequestError, match="line 2"):
        read_prompts(path)


def test_files_that_cannot_be_read_are_refused(tmp_path: Path, tokenizer: Tokenizer) -> None:
    (tmp_path / "latin").write_bytes(b"caf\xe9")
    for read, problem in ((read_text, "cannot read"), (read_prompts, "cannot be read")):
        with pytest.raises(InvalidRequestError, match="UTF-8"):
            read(tmp_path / "latin")
        with pytest.raises(InvalidRequestError, match=problem):
            read(tmp_path / "none")
    with pytest.raises(InvalidRequestError, match="empty"):
        windows_of_text(tokenizer, "")
    with pytest.raises(InvalidRequestError, match="no prompts"):
        windows_of_prompts(tokenizer, [], step_tokens=9)
