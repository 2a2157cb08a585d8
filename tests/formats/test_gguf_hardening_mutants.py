from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from formats.mutate import SANITIZED, Tally, exercise, hostile_files, mutants, seed_files
from miaotui.errors import ModelFileError

PROGRAM = Path(__file__).with_name("mutate.py")
CASES = 10_000


def run_campaign(*options: str) -> tuple[int, dict[str, object]]:
    done = subprocess.run([sys.executable, PROGRAM, *options], capture_output=True, text=True, timeout=540, check=False)
    assert done.stdout, f"the campaign died with status {done.returncode}:\n{done.stderr}"
    return done.returncode, json.loads(done.stdout)


def test_ten_thousand_mutants_load_or_raise_typed_errors(report_faults: Callable[[str, int, int], None]) -> None:
    status, report = run_campaign("--cases", str(CASES), "--seed", "20261121")
    assert report["failures"] == 0, report["first_failures"]
    report_faults("GGUF mutants and truncations", int(str(report["cases"])), int(str(report["failures"])))
    assert status == 0
    assert int(str(report["cases"])) >= CASES
    # Mutants that all fail at the first byte would prove nothing about what comes after it.
    assert int(str(report["loaded"])) >= CASES // 50


def test_a_campaign_without_cases_fails() -> None:
    with pytest.raises(AssertionError, match="the campaign died"):
        run_campaign("--cases", "none")


def test_untyped_errors_are_counted_as_failures(tmp_path: Path) -> None:
    def broken(path: Path) -> None:
        raise KeyError(path)

    def refuses(path: Path) -> None:
        raise ModelFileError("no")

    tally = Tally()
    for check in (broken, refuses, exercise):
        tally.run("case", seed_files()[0].build(), tmp_path / "a.gguf", check)
    assert (tally.cases, tally.loaded, len(tally.failures)) == (3, 1, 1)
    assert "KeyError" in tally.failures[0]


@pytest.mark.skipif(SANITIZED, reason="AddressSanitizer reserves terabytes of address space")
def test_allocations_beyond_the_limit_are_seen() -> None:
    code = (
        "import numpy, sys; sys.path.insert(0, sys.argv[1]); import formats.mutate as m; m.limit_memory();"
        "print(len(bytearray(16 << 20))); numpy.ones(128 << 20, numpy.uint8)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(PROGRAM.parents[1])], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout.strip() == str(16 << 20)
    assert "MemoryError" in done.stderr


def test_the_seed_files_are_sound_and_the_hostile_ones_differ(tmp_path: Path) -> None:
    path = tmp_path / "a.gguf"
    for file in seed_files():
        path.write_bytes(file.build())
        exercise(path)
    contents = [file.build() for file in hostile_files()]
    assert len(set(contents)) > 50


def test_the_same_seed_gives_the_same_mutants() -> None:
    assert list(mutants(50, 7)) == list(mutants(50, 7))
    assert list(mutants(50, 7))[-50:] != list(mutants(50, 8))[-50:]
