"""docs/architecture.md is true: what it names is there, and what is in the rooms it maps is named."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
PACKAGE = REPOSITORY / "src" / "miaotui"
PAGE = (REPOSITORY / "docs" / "architecture.md").read_text("utf-8")
CODE = re.findall(r"`([^`\n]+)`", PAGE)
ENDINGS = (".py", ".cpp", ".h", ".def", ".md")


def row_of(room: str) -> str:
    """What the map says of a room, which may take several rows."""
    rows = [line for line in PAGE.splitlines() if line.startswith(f"| `{room}`")]
    assert rows, f"the map has no {room}"
    return "\n".join(rows)


@pytest.mark.parametrize("room", ["engine", "server", "adaptive", "answers", "graph", "load"])
def test_every_module_of_a_room_is_on_the_map(room: str) -> None:
    named = set(re.findall(r"`([a-z0-9_]+)(?:\.py)?`", row_of(f"{room}/")))
    modules = {file.stem for file in (PACKAGE / room).glob("*.py")} - {"__init__"}
    assert modules - named == set()


@pytest.mark.parametrize("room", ["base", "kernels", "program", "suffix"])
def test_every_header_of_the_native_core_is_on_the_map(room: str) -> None:
    row = row_of(f"{room}/")
    named = set(re.findall(r"`([a-z0-9_*]+)(?:\.(?:h|cpp|def))?`", row))
    headers = {file.stem for file in (REPOSITORY / "csrc" / room).glob("*.h")}
    assert {stem for stem in headers if stem not in named and not stem.startswith("vec_")} == set()


def test_every_file_that_is_named_is_there() -> None:
    paths = [text for text in CODE if "/" in text and text.endswith(ENDINGS)]
    paths = [text for text in paths if "NAME" not in text and "*" not in text]
    assert len(paths) > 10
    assert [text for text in paths if not any((root / text).is_file() for root in (REPOSITORY, PACKAGE))] == []


def test_every_decision_that_is_named_is_there() -> None:
    numbers = {file.name[:4] for file in (REPOSITORY / "docs" / "decisions").glob("*.md")}
    named = set(re.findall(r"\b(0\d{3})\b", PAGE))
    assert len(named) > 5
    assert named <= numbers
