"""Losses outlive the run that measured them, and are never taken for another run's."""

from __future__ import annotations

from pathlib import Path

import pytest

from miaotui.compress.kept_losses import KeptLosses, Measured
from miaotui.errors import ConfigError, ModelFileError, OutputError
from miaotui.formats.weights import TensorType

MADE_BY = ["model", "text", "q4_0,q8_0"]
UP = Measured(("blk.0.ffn_gate.weight", "blk.0.ffn_up.weight"), {TensorType.Q4_0: 2.5, TensorType.Q8_0: 0.01}, 0.003)
DOWN = Measured(("blk.0.ffn_down.weight",), {TensorType.Q4_0: 1.5, TensorType.Q8_0: 0.0}, 0.0)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "out.losses"
    kept = KeptLosses(path, MADE_BY)
    kept.keep(UP)
    kept.keep(DOWN)
    return path


def test_what_was_kept_is_found_again(path: Path) -> None:
    kept = KeptLosses(path, MADE_BY)
    assert len(kept) == 2
    assert [kept.find(one.names) for one in (UP, DOWN)] == [UP, DOWN]
    assert kept.find(("blk.1.ffn_down.weight",)) is None


@pytest.mark.parametrize("torn", [1, 20])
def test_a_torn_line_is_measured_again(path: Path, torn: int) -> None:
    path.write_bytes(path.read_bytes()[:-torn])
    kept = KeptLosses(path, MADE_BY)
    assert kept.find(UP.names) == UP
    assert kept.find(DOWN.names) is None
    kept.keep(DOWN)
    assert KeptLosses(path, MADE_BY).find(DOWN.names) == DOWN


def test_losses_measured_with_something_else_are_refused_and_stay(path: Path) -> None:
    before = path.read_bytes()
    with pytest.raises(ConfigError, match="--mix-losses"):
        KeptLosses(path, [*MADE_BY[:2], "q4_0"])
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "line",
    [
        "[]",
        "{}",
        "nonsense",
        '{"names": ["a"], "errors": {}, "kl": 0}',
        '{"names": ["a"], "errors": {"Q4_0": NaN}, "kl": 0}',
        '{"names": ["a"], "errors": {"Q4_0": 1}, "kl": -1}',
        '{"names": ["a"], "errors": {"Q9": 1}, "kl": 0}',
        '{"names": 3, "errors": {"Q4_0": 1}, "kl": 0}',
        '{"names": ["a"], "errors": {"Q4_0": 1' + "0" * 400 + '}, "kl": 0}',
        "[" * 100_000,
    ],
)
def test_damaged_losses_are_refused_by_line(path: Path, line: str) -> None:
    path.write_bytes(path.read_bytes() + line.encode() + b"\n")
    with pytest.raises(ModelFileError, match="line 4 holds no losses"):
        KeptLosses(path, MADE_BY)


@pytest.mark.parametrize("contents", [b"a diary\n", b"no end", b"GGUF\x00\xff\n"])
def test_another_kind_of_file_is_refused_and_stays(tmp_path: Path, contents: bytes) -> None:
    path = tmp_path / "diary"
    path.write_bytes(contents)
    with pytest.raises(ModelFileError, match="no file of losses"):
        KeptLosses(path, MADE_BY)
    assert path.read_bytes() == contents


def test_where_nothing_can_be_written_is_said(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot be kept"):
        KeptLosses(tmp_path / "no" / "folder", MADE_BY)
    with pytest.raises(OutputError, match="cannot be kept"):
        KeptLosses(tmp_path, MADE_BY)
