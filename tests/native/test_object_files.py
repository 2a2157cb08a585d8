from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from native.matrices import FEATURES

REPOSITORY = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("MIAOTUI_BUILD_DIR", REPOSITORY / "build" / "dev"))
SOURCES = sorted((REPOSITORY / "csrc" / "isa").glob("*.cpp"))


def symbols(source: Path) -> list[tuple[str, str]]:
    """Return (name, type letter) of the symbols in a tier's object file."""
    objects = list(BUILD.glob(f"CMakeFiles/miaotui_isa_{source.stem}.dir/**/{source.name}.o"))
    if not objects:
        pytest.skip(f"no object file of {source.name} under {BUILD}; `make build` makes it")
    if shutil.which("nm") is None:
        pytest.skip("nm (binutils) is not installed")
    listing = subprocess.run(["nm", "--format=posix", str(objects[0])], capture_output=True, text=True, check=True)
    return [(fields[0], fields[1]) for line in listing.stdout.splitlines() if len(fields := line.split()) > 1]


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.stem)
def test_tiers_share_no_function_with_the_rest(source: Path) -> None:
    # The linker keeps one copy of a weak symbol: were it an AVX-512 copy, older CPUs would crash in it.
    weak = [name for name, letter in symbols(source) if letter in "WwVvu"]
    assert not weak, f"{source.name} defines functions that other files may share"


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.stem)
def test_a_tier_offers_its_table_and_nothing_else(source: Path) -> None:
    offered = [name for name, letter in symbols(source) if letter.isupper() and letter != "U"]
    assert len(offered) == 1
    assert source.stem in offered[0]
    assert "table" in offered[0]


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.stem)
def test_a_tier_is_compiled_for_what_it_asks_of_the_cpu(source: Path) -> None:
    if not (commands := BUILD / "compile_commands.json").is_file():
        pytest.skip(f"there is no {commands}; `make build` makes it")
    (line,) = (entry["command"] for entry in json.loads(commands.read_text()) if entry["file"] == str(source))
    flags = {word.removeprefix("-m").replace("512vnni", "512_vnni") for word in line.split() if word.startswith("-m")}
    assert flags == FEATURES[source.stem]
