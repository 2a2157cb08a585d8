"""`miaotui run`: the answer alone on standard output, pipes, Ctrl-C, the chat."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.tiny_model import CONTEXT, write_tiny_model
from miaotui import LLM, SamplingParams
from miaotui.cli import main
from miaotui.cli.run import DEFAULT_MAX_TOKENS
from miaotui.engine import tuning

GREEDY = SamplingParams(temperature=0.0, max_tokens=12)


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIAOTUI_HOME", str(tmp_path / "home"))


def command(*arguments: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    """A whole process with pipes."""
    line = [sys.executable, "-m", "miaotui", *map(str, arguments)]
    return subprocess.run(line, capture_output=True, encoding="utf-8", timeout=120, **options)


def expected(model: Path, messages: list[dict[str, str]] | str, params: SamplingParams = GREEDY) -> str:
    with LLM(model) as llm:
        return (llm.generate(messages, params) if isinstance(messages, str) else llm.chat(messages, params)).text


def turns(question: str, system: str = "") -> list[dict[str, str]]:
    start = [{"role": "system", "content": system}] if system else []
    return [*start, {"role": "user", "content": question}]


def test_answer_is_on_stdout_and_everything_else_on_stderr(tiny_model: Path) -> None:
    done = command("run", tiny_model, "the", "cat", "--max-tokens", "12")
    text = expected(tiny_model, turns("the cat"))
    assert done.returncode == 0
    assert done.stdout == text if text.endswith("\n") else text + "\n"
    for part in ("first token", "tok/s", "tokens", "MB peak", "cut off at the token limit"):
        assert part in done.stderr


def test_what_is_fastest_is_measured_when_the_answer_is_out(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tuning, "MIN_WEIGHT_BYTES", 0)
    monkeypatch.setenv("MIAOTUI_TUNE", "1")
    said: list[str] = []
    measure = tuning.measure

    def after_the_answer(*args: Any, **options: Any) -> tuning.Tuning:
        said.append(capsys.readouterr().out)
        return measure(*args, **options)

    monkeypatch.setattr(tuning, "measure", after_the_answer)
    assert main(["run", str(tiny_model), "the cat", "--max-tokens", "12"]) == 0
    monkeypatch.setenv("MIAOTUI_TUNE", "0")
    assert said == [expected(tiny_model, [{"role": "user", "content": "the cat"}]) + "\n"]


def test_piped_text_follows_the_prompt_or_is_the_prompt(tiny_model: Path) -> None:
    options = ("--max-tokens", "12", "--quiet")
    both = command("run", tiny_model, "the cat", *options, input="and the dog\n\n")
    alone = command("run", tiny_model, *options, input="and the dog\n")
    assert both.stdout.strip("\n") == expected(tiny_model, turns("the cat\n\nand the dog")).strip("\n")
    assert alone.stdout.strip("\n") == expected(tiny_model, turns("and the dog\n")).strip("\n")
    assert both.stderr == alone.stderr == ""


def test_raw_prompts_skip_the_chat_template_and_models_without_one_say_so(tiny_model: Path, tmp_path: Path) -> None:
    raw = command("run", tiny_model, "the cat", "--raw", "--max-tokens", "12", "--quiet")
    base = command("run", write_tiny_model(tmp_path / "b.gguf", chat=False), "the cat", "--max-tokens", "12", "--quiet")
    assert raw.stdout == base.stdout
    assert raw.stdout.strip("\n") == expected(tiny_model, "the cat").strip("\n")
    assert "no chat template" in base.stderr
    assert raw.stderr == ""


def test_json_is_the_whole_of_stdout_and_repeats_with_its_seed(tiny_model: Path) -> None:
    options = ("--json", "--temperature", "1", "--max-tokens", "9")
    first = json.loads(command("run", tiny_model, "the cat", *options).stdout)
    again = json.loads(command("run", tiny_model, "the cat", *options, "--seed", str(first["seed"])).stdout)
    assert first["text"] == again["text"]
    assert first["finish_reason"] == (
        "length" if first["output_tokens"] == 9 else "stop"
    )  # what is drawn may be the end
    assert first["model"] == str(tiny_model)
    assert first["first_token_s"] > 0
    assert first["tokens_per_s"] is None if first["output_tokens"] == 1 else first["tokens_per_s"] > 0
    assert 1e6 < first["peak_memory_bytes"] < 1e10


@pytest.mark.parametrize("as_json", [False, True])
def test_without_a_token_there_is_no_time_to_the_first(tiny_model: Path, as_json: bool) -> None:
    done = command("run", tiny_model, "the cat", "--max-tokens", "0", *(["--json"] if as_json else []))
    assert done.returncode == 0
    assert "first token" not in done.stderr
    assert not as_json or json.loads(done.stdout)["first_token_s"] is None


def test_bytes_that_are_no_text_mean_the_same_however_they_arrive(tiny_model: Path) -> None:
    options = ("--max-tokens", "12", "--quiet")
    answer = command("run", tiny_model, "the \ufffd cat", *options).stdout
    raw = os.fsdecode(b"the \xff cat")
    assert command("run", tiny_model, raw, *options).stdout == answer
    assert command("run", tiny_model, *options, input=raw, errors="surrogateescape").stdout == answer
    keyboard, terminal = pty.openpty()
    os.write(keyboard, b"the \xff cat\n/bye\n")
    assert command("run", tiny_model, *options, stdin=terminal).stdout.removeprefix("> ").startswith(answer)
    os.close(keyboard)
    os.close(terminal)


def test_json_on_a_terminal_wants_a_question(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert chat(tiny_model, monkeypatch, [], "--json") == 2
    assert "--json needs a question" in capsys.readouterr().err


def test_a_template_of_ones_own_comes_from_a_file(tiny_model: Path, tmp_path: Path) -> None:
    (tmp_path / "own.jinja").write_text("{{ messages[0].content }}")
    options = ("the cat", "--max-tokens", "8", "--quiet")
    own = command("run", tiny_model, *options, "--chat-template", tmp_path / "own.jinja")
    assert own.stdout == command("run", tiny_model, *options, "--raw").stdout
    missing = command("run", tiny_model, *options, "--chat-template", tmp_path / "none.jinja")
    assert missing.returncode == 1
    assert "none.jinja' cannot be read" in missing.stderr


def test_nothing_to_answer_is_a_usage_error(tiny_model: Path) -> None:
    for empty in ({"stdin": subprocess.DEVNULL}, {"input": " \n"}):
        done = command("run", tiny_model, **empty)
        assert (done.returncode, done.stdout) == (2, "")
        assert "nothing to answer" in done.stderr


def test_system_text_is_the_users_or_the_models_own(tiny_model: Path) -> None:
    for system in ("speak", ""):
        done = command("run", tiny_model, "the cat", "--max-tokens", "12", "--quiet", "--system", system)
        assert done.stdout.strip("\n") == expected(tiny_model, turns("the cat", system)).strip("\n")


def test_without_a_limit_an_answer_ends_with_the_default_or_the_context(
    tiny_model: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert CONTEXT <= DEFAULT_MAX_TOKENS  # here the context is the shorter one
    assert main(["run", str(tiny_model), "the cat", "--json"]) == 0
    answer = json.loads(capfd.readouterr().out)
    assert answer["finish_reason"] == "stop" or answer["prompt_tokens"] + answer["output_tokens"] == CONTEXT


def talking(model: Path) -> subprocess.Popen[bytes]:
    """A process that has begun a long answer, unread but for its first byte."""
    line = [sys.executable, "-m", "miaotui", "run", str(model), "the cat", "--temperature", "1", "--seed", "1"]
    process = subprocess.Popen(line, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert len(process.stdout.read(1)) == 1
    return process


def test_ctrl_c_keeps_what_was_said_and_exits_130(tiny_model: Path) -> None:
    with talking(tiny_model) as process:
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert out.endswith(b"\n")
    assert b"cancelled" in err
    assert b"Traceback" not in err


def test_a_reader_that_leaves_ends_the_command_quietly(tiny_model: Path) -> None:
    with talking(tiny_model) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(timeout=60) == 141


class Keyboard:
    """A terminal whose user types these lines; an exception is raised in their place."""

    def __init__(self, lines: list[str | type[BaseException]]) -> None:
        self.lines: Iterator[str | type[BaseException]] = iter(lines)

    def __call__(self, prompt: str = "") -> str:
        line = next(self.lines, EOFError)
        if isinstance(line, str):
            return line
        raise line

    def isatty(self) -> bool:
        return True

    def fileno(self) -> int:
        return os.open("/dev/null", os.O_RDONLY)


def chat(model: Path, monkeypatch: pytest.MonkeyPatch, lines: list[str | type[BaseException]], *options: str) -> int:
    keyboard = Keyboard(lines)
    monkeypatch.setattr("sys.stdin", keyboard)
    monkeypatch.setattr("builtins.input", keyboard)
    return main(["run", str(model), *options])


def test_chat_remembers_until_it_is_cleared(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines: list[str | type[BaseException]] = [
        "the cat",
        "",
        KeyboardInterrupt,
        "and the dog",
        "/clear",
        "/what",
        "the cat",
    ]
    assert chat(tiny_model, monkeypatch, lines, "--max-tokens", "12") == 0
    captured = capsys.readouterr()
    first = expected(tiny_model, turns("the cat"))
    history = [*turns("the cat"), {"role": "assistant", "content": first}, {"role": "user", "content": "and the dog"}]
    second = expected(tiny_model, history)
    answers = [text if text.endswith("\n") else text + "\n" for text in (first, second, first)]
    assert captured.out == "".join(answers)
    assert captured.err.count("/bye") == 3  # at the start, for Ctrl-C, for /what
    assert captured.err.count("first token") == 3


def test_a_chat_that_outgrows_the_context_says_how_to_go_on(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert chat(tiny_model, monkeypatch, ["x" * (CONTEXT + 1), "the cat", "/bye"], "--max-tokens", "12") == 0
    captured = capsys.readouterr()
    assert "/clear makes room" in captured.err
    assert captured.out.strip("\n") == expected(tiny_model, turns("the cat")).strip("\n")


def test_a_draft_model_changes_no_answer(tiny_model: Path, tmp_path: Path) -> None:
    options = ("--max-tokens", "12", "--quiet", "--kv-memory", "4MiB")
    plain = command("run", tiny_model, "the cat", *options)
    drafted = command("run", tiny_model, "the cat", *options, "--draft-model", tiny_model)
    assert drafted.returncode == 0
    assert drafted.stdout == plain.stdout
    other = write_tiny_model(tmp_path / "other.gguf", turned=5)
    refused = command("run", tiny_model, "the cat", *options, "--draft-model", other)
    assert refused.returncode == 1
    assert "another vocabulary" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_drafting_that_was_switched_off_opens_no_draft_model(tiny_model: Path) -> None:
    options = ("--max-tokens", "4", "--draft-model", "/nowhere/small.gguf")
    done = command("run", tiny_model, "the cat", *options, "--drafting", "off")
    assert done.returncode == 0
    assert "the draft model /nowhere/small.gguf is not opened" in done.stderr
    assert command("run", tiny_model, "the cat", *options).returncode == 1
