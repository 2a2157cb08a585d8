"""A real server on a real socket, over the tests' tiny model."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from engine.tiny_bert import tiny_bert
from engine.tiny_model import tiny_model
from miaotui.adaptive.cascade import Gate
from miaotui.answers.cache import AnswerCache
from miaotui.engine.async_embedder import AsyncEmbedder
from miaotui.engine.async_llm import AsyncLLM
from miaotui.engine.step_turns import StepTurns
from miaotui.server.app import Before, create_app
from miaotui.server.process import Server
from miaotui.server.settings import ServerSettings

__all__ = ["tiny_bert", "tiny_model"]


@dataclass
class Running:
    """A server that runs, its address, its engine, the lines it logs, and uvicorn's object."""

    url: str
    llm: AsyncLLM  # missing where only embeddings are made
    lines: list[str]
    server: Server

    def until(self, holds: Callable[[], object]) -> None:
        """Wait for something that must come."""
        deadline = time.monotonic() + 60
        while not holds():
            assert time.monotonic() < deadline
            time.sleep(0.005)


@contextmanager
def serve(
    model: Path | None,
    settings: ServerSettings,
    *,
    encoder: Path | None = None,
    cache: AnswerCache | None = None,
    first: tuple[Path, Gate] | None = None,
    **options: Any,
) -> Iterator[Running]:
    """first: a model that is asked before the other one, and its gate."""
    turns = None if first is None else StepTurns()
    before: Before | None = None
    made: list[AsyncLLM] = []
    lines: list[str] = []

    def open_llm() -> AsyncLLM:
        made.append(AsyncLLM(model, turns=turns, **{"context_length": 200, "max_sequences": 4, **options}))
        return made[0]

    if first is not None:
        small, gate = first
        before = Before(lambda: AsyncLLM(small, turns=turns, context_length=100, max_sequences=4), gate)

    open_embedder = None if encoder is None else lambda: AsyncEmbedder(encoder)
    app = create_app(
        None if model is None else open_llm,
        settings,
        lines.append,
        open_embedder=open_embedder,
        cache=cache,
        before=before,
    )
    server = Server(app, settings)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        deadline = time.monotonic() + 30
        while not server.started and thread.is_alive() and time.monotonic() < deadline:
            time.sleep(0.01)
        assert server.started
        port = server.servers[0].sockets[0].getsockname()[1]
        yield Running(f"http://127.0.0.1:{port}", made[0] if made else None, lines, server)  # type: ignore[arg-type]
    finally:
        server.should_exit = True
        thread.join(30)
        assert not thread.is_alive()


@contextmanager
def served(model: str, *options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A process of `miaotui serve`, which must end well, and its address."""
    command = [sys.executable, "-m", "miaotui", "serve", model, "--port", "0", "--log-format", "none", *options]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        lines = iter(process.stderr.readline, "")
        found = next(match for line in lines if (match := re.search(r"^url +(http://.*)/v1", line)))
        yield process, found[1]
        process.terminate()
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Iterator[Running]:
    with serve(tiny_model, ServerSettings("tiny")) as running:
        yield running


@pytest.fixture
def start(tiny_model: Path) -> Callable[..., Any]:
    """Starts a server with other settings: `with start(max_waiting=1) as running`."""
    return lambda options={}, **changes: serve(tiny_model, replace(ServerSettings("tiny"), **changes), **options)
