"""`miaotui serve` as a process: it says where it is, answers, and lets what runs end."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Timer

import httpx2 as httpx
import pytest

from miaotui import LLM
from miaotui.cli import main
from miaotui.cli.serve import _listen
from miaotui.cli.serve_models import Served
from miaotui.config import load_serve_config
from miaotui.server.process import Server
from miaotui.server.settings import ServerSettings


@contextmanager
def serving(model: Path, home: Path, *arguments: str, **variables: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    command = [
        sys.executable,
        "-m",
        "miaotui",
        "serve",
        str(model),
        "--port",
        "0",
        "--context-length",
        "200",
        *arguments,
    ]
    environment = {**os.environ, "MIAOTUI_HOME": str(home), **variables}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    assert process.stderr is not None
    lines: list[str] = []
    try:
        while not lines or "try  " not in lines[-1]:
            line = process.stderr.readline()
            assert line, lines
            lines.append(line)
        assert len(lines) <= 12
        yield process, "".join(lines)
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


def url_of(text: str) -> str:
    found = re.search(r"http://127\.0\.0\.1:\d+", text)
    assert found is not None
    return found[0]


def test_near_hits_are_refused_without_what_they_need(tiny_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in ((), ("--cache", "memory"), ("--embed-model", "minilm")):
        assert main(["serve", str(tiny_model), "--near", "guarded", *arguments]) == 2
        assert "needs --cache and --embed-model" in capsys.readouterr().err


def test_a_small_model_needs_its_gate_and_a_gate_its_model(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gate = tmp_path / "gate.json"
    assert main(["serve", str(tiny_model), "--small-model", str(tiny_model)]) == 2
    assert "needs --gate, too; `miaotui cascade calibrate`" in capsys.readouterr().err
    assert main(["serve", str(tiny_model), "--gate", str(gate)]) == 2
    assert "no --small-model is given, so flag --gate has no use" in capsys.readouterr().err
    assert main(["serve", str(tiny_model), "--small-model", str(tiny_model), "--gate", str(gate)]) == 1
    assert "is no file" in capsys.readouterr().err


def test_it_introduces_itself_answers_and_ends_on_sigterm(tiny_model: Path, tmp_path: Path) -> None:
    with serving(tiny_model, tmp_path, MIAOTUI_API_KEYS="one,two") as (process, text):
        assert "2" in next(line for line in text.splitlines() if line.startswith("keys"))
        assert "one" not in text
        assert re.search(r"^model .*, files [0-9a-f]{12}$", text, re.MULTILINE)
        url, headers = url_of(text), {"authorization": "Bearer two"}
        body = {"prompt": "the cat", "max_tokens": 150, "ignore_eos": True, "stream": True}
        assert httpx.get(url + "/v1/models").status_code == 401
        with httpx.stream("POST", url + "/v1/completions", json=body, headers=headers) as reply:
            lines = reply.iter_lines()
            first = next(lines)  # with the whole answer in it, where the machine is busy
            process.send_signal(signal.SIGTERM)
            events = [line for line in (first, *lines) if line.startswith("data: ")]
        assert events[-1] == "data: [DONE]"
        assert json.loads(events[-2][6:])["choices"][0]["finish_reason"] == "length"
        assert process.wait(30) == 0


def test_a_sigterm_that_comes_as_soon_as_it_has_introduced_itself_is_not_lost(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, before = Server.run, signal.getsignal(signal.SIGTERM)
    watchdogs: list[Timer] = []

    def told_before_it_runs(server: Server, sockets: list[socket.socket]) -> None:
        signal.raise_signal(signal.SIGTERM)
        watchdogs.append(Timer(20, server.handle_exit, (signal.SIGTERM, None)))
        watchdogs[0].start()
        run(server, sockets)

    monkeypatch.setattr(Server, "run", told_before_it_runs)
    try:
        assert main(["serve", str(tiny_model), "--port", "0"]) == 0
        assert watchdogs[0].is_alive()
    finally:
        signal.signal(signal.SIGTERM, before)
        for watchdog in watchdogs:
            watchdog.cancel()


def test_the_model_is_told_from_others_without_being_read(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MIAOTUI_HOME", str(tmp_path))
    with LLM(tiny_model, context_length=200) as llm:
        served = Served(llm, None, "tiny", None)

        def first_line() -> str:
            return served.introduction(ServerSettings("tiny"), 2, "http://here")[0]

        with monkeypatch.context() as patch:
            patch.setattr("miaotui.graph.pack_cache._digest", lambda files: pytest.fail("the files are read"))
            before = first_line()
        fingerprint = llm.fingerprint()  # which reads them
        assert re.fullmatch(rf"model    tiny: {re.escape(str(tiny_model))}, files [0-9a-f]{{12}}", before)
        assert first_line() == f"model    tiny: {tiny_model}, fingerprint {fingerprint[:12]}"


@pytest.mark.parametrize("arguments", [("--port", "99999"), ("--host", "256.1.1.1"), ("--api-keys", "/nonexistent")])
def test_what_cannot_be_served_is_one_sentence(tiny_model: Path, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    command = [sys.executable, "-m", "miaotui", "serve", str(tiny_model), "--context-length", "200", *arguments]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        env={**os.environ, "MIAOTUI_HOME": str(tmp_path)},
        timeout=60,
        check=False,
    )
    assert done.returncode in (1, 2)
    assert "Traceback" not in done.stderr
    assert done.stderr.strip().splitlines()[-1].startswith("miaotui: ")


def test_a_stream_that_outlasts_the_server_ends_with_an_error(tiny_model: Path, tmp_path: Path) -> None:
    options = ("--shutdown-timeout", "1.5", "--context-length", "1000")
    with serving(tiny_model, tmp_path, *options) as (process, text):
        body = {"prompt": ["the cat"] * 16, "max_tokens": 900, "ignore_eos": True, "stream": True, "n": 4}
        with httpx.stream("POST", url_of(text) + "/v1/completions", json=body) as reply:
            lines = reply.iter_lines()
            next(lines)
            process.send_signal(signal.SIGTERM)
            rest = [line for line in lines if line.startswith("data: ")]
        assert json.loads(rest[-1][6:])["error"]["code"] == "engine_stopped"
        assert process.wait(30) == 0
        assert process.stderr is not None
        assert "started anew" not in process.stderr.read()


def test_a_line_per_request_is_json_if_asked_for(tiny_model: Path, tmp_path: Path) -> None:
    with serving(tiny_model, tmp_path, "--log-format", "json") as (process, text):
        for line in text.splitlines():
            assert json.loads(line)["level"] == "info"
        httpx.get(url_of(text) + "/v1/models", headers={"x-request-id": "r-1"})
        assert process.stderr is not None
        assert json.loads(process.stderr.readline())["id"] == "r-1"


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_no_token_waits_for_the_client_to_acknowledge_the_one_before(host: str) -> None:
    with (
        _listen(load_serve_config({"host": host, "port": 0}, {})) as listener,
        socket.create_connection(listener.getsockname()[:2]),
        listener.accept()[0] as connection,
    ):
        assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
