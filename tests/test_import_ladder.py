"""Imports point down the ladder of docs/architecture.md, in Python and in C++; nothing lower imports the higher."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
PACKAGE = REPOSITORY / "src" / "miaotui"
NATIVE = REPOSITORY / "csrc"

BASE = {"errors", "core", "config", "_native", "__init__"}
ROOMS: dict[str, set[str]] = {
    "errors": set(),
    "core": {"errors"},
    "config_values": set(),
    "config": {"errors", "core", "config_values"},
    "drawing": set(),
    "energy": set(),
    "formats": BASE,
    "graph": BASE | {"formats"},
    "models": BASE | {"formats", "graph"},
    "engine": BASE | {"formats", "graph", "models"},
    "adaptive": BASE | {"formats", "engine", "drawing", "energy"},
    "compress": BASE | {"formats", "graph", "models", "drawing", "energy"},
    "answers": {"errors", "core", "config", "_native"},
    "server": BASE | {"engine", "adaptive", "answers"},
    "load": {"errors", "core", "config", "drawing"},
    "cli": BASE
    | {"formats", "graph", "models", "engine", "adaptive", "server", "load", "answers", "compress"}
    | {"drawing", "energy"},
    "__init__": BASE | {"engine"},  # the public names, fetched at first use
    "__main__": {"cli"},
}
NATIVE_ROOMS: dict[str, set[str]] = {
    "base": set(),
    "kernels": {"base"},
    "isa": {"kernels"},
    "program": {"base", "kernels"},
    "suffix": {"base"},
    "bindings": {"base", "kernels", "program", "suffix"},
}


def imported_rooms(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}:{node.lineno} imports relatively; the ladder wants full names"
            whole = node.module == "miaotui"
            names = [f"miaotui.{alias.name}" for alias in node.names] if whole else [node.module or ""]
        else:
            continue
        for name in names:
            parts = name.split(".")
            if parts[0] == "miaotui":
                yield "__init__" if len(parts) == 1 or parts[1].startswith("__version") else parts[1]


def room_of(file: Path, root: Path) -> str:
    return file.relative_to(root).parts[0].removesuffix(".py")


@pytest.mark.parametrize("file", sorted(PACKAGE.rglob("*.py")), ids=lambda file: str(file.relative_to(PACKAGE)))
def test_module_imports_only_rooms_below_its_own(file: Path) -> None:
    room = room_of(file, PACKAGE)
    assert room in ROOMS, f"{room} has no place on the ladder yet; give it one"
    assert set(imported_rooms(file)) - ROOMS[room] - {room} == set()


@pytest.mark.parametrize(
    "file", sorted(file for file in NATIVE.rglob("*") if file.is_file()), ids=lambda file: str(file.relative_to(NATIVE))
)
def test_source_includes_only_rooms_below_its_own(file: Path) -> None:
    room = room_of(file, NATIVE)
    assert room in NATIVE_ROOMS, f"{room} has no place on the ladder yet; give it one"
    text = file.read_text()
    included = {path.split("/")[0] for path in re.findall(r'^\s*#\s*include\s*"([^"]+/[^"]+)"', text, re.MULTILINE)}
    assert included - NATIVE_ROOMS[room] - {room} == set()
    uses_python = re.search(r"#\s*include\s*[<\"](nanobind|Python\.h)", text)
    assert room == "bindings" or not uses_python, "only csrc/bindings may know of Python"


def test_instruction_set_files_hold_no_code_of_their_own() -> None:
    sources = list((NATIVE / "isa").iterdir())
    assert sources
    assert [file.name for file in sources if len(file.read_text().splitlines()) > 10] == []
