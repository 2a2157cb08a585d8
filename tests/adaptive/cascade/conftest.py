"""Two random models that share a vocabulary, and one that has another."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.tiny_model import write_tiny_model
from miaotui import LLM
from miaotui.adaptive.drafters.given import GivenDrafter

KV_BYTES = 4 << 20


@pytest.fixture(scope="session")
def paths(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("cascade")
    return {
        "small": write_tiny_model(folder / "small.gguf", seed=1),
        "large": write_tiny_model(folder / "large.gguf", seed=2),
        "other": write_tiny_model(folder / "other.gguf", seed=3, infill=True),
        "base": write_tiny_model(folder / "base.gguf", seed=4, chat=False),
    }


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIAOTUI_HOME", str(tmp_path / "home"))


@pytest.fixture
def small(paths: dict[str, Path]) -> Iterator[LLM]:
    with LLM(paths["small"], kv_memory_bytes=KV_BYTES) as llm:
        yield llm


@pytest.fixture
def large(paths: dict[str, Path]) -> Iterator[LLM]:
    with LLM(paths["large"], kv_memory_bytes=KV_BYTES, drafter=GivenDrafter()) as llm:
        yield llm
