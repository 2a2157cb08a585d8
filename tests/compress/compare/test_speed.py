"""Models take turns, and ratios are those of each round."""

from __future__ import annotations

from pathlib import Path

import pytest

from compress.compare.fake import FakeModel
from miaotui.compress.compare.speed import measure_speed
from miaotui.energy import find_energy


def test_models_take_turns_backwards_every_second_time() -> None:
    models = [FakeModel(name, seed=1) for name in "abc"]
    log: list[str] = []
    for model in models:
        model.log = log
    measure_speed(models, 3)
    assert [line[0] for line in log] == list("abccbaabc")


def test_ratios_are_those_of_the_rounds_not_of_the_medians() -> None:
    first, second = FakeModel("a", seed=1), FakeModel("b", seed=1)
    first.times = [(1.0, 0.1), (4.0, 0.4), (2.0, 0.2)]  # the machine was slower for a while
    second.times = [(0.5, 0.2), (2.0, 0.8), (1.0, 0.4)]
    a, b = measure_speed([first, second], 3, read_tokens=100)
    assert (a.read.value, a.read.low, a.read.high) == (50, 25, 100)
    assert (b.read.value, b.write.value) == (100, 2.5)
    assert (b.read_ratio.low, b.read_ratio.value, b.read_ratio.high) == (2, 2, 2)
    assert b.write_ratio.value == 0.5
    assert a.read_ratio.value == 1
    assert a.read_j is None


def zone(root: Path, name: str, label: str, energy: int, most: int = 1000) -> Path:
    folder = root / name
    folder.mkdir(parents=True)
    (folder / "name").write_text(label + "\n")
    (folder / "energy_uj").write_text(f"{energy}\n")
    (folder / "max_energy_range_uj").write_text(f"{most}\n")
    return folder / "energy_uj"


def test_energy_is_that_of_packages_and_memory_through_a_counters_end(tmp_path: Path) -> None:
    package = zone(tmp_path, "intel-rapl:0", "package-0", 900)
    zone(tmp_path, "intel-rapl:0:0", "core", 5)
    memory = zone(tmp_path, "intel-rapl:0:1", "dram", 10)
    meter, what = find_energy(tmp_path)
    assert meter is not None
    assert what.startswith("of package-0, dram")
    before = meter.read()
    package.write_text("100\n")  # it began anew at 1000
    memory.write_text("40\n")
    after = meter.read()
    assert before is not None
    assert after is not None
    assert meter.joules(before, after) == pytest.approx(230e-6)
    memory.unlink()
    assert meter.read() is None


def test_energy_that_cannot_be_read_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_energy(tmp_path / "none")[0] is None
    assert "virtual machine" in find_energy(tmp_path)[1]
    zone(tmp_path, "intel-rapl:0", "package-0", 900)
    whole = Path.read_text

    def guarded(path: Path, *more: object) -> str:
        if path.name == "energy_uj":
            raise PermissionError(13, "no")
        return whole(path, *more)

    monkeypatch.setattr(Path, "read_text", guarded)
    assert "only root may read" in find_energy(tmp_path)[1]


def test_energy_a_token_is_the_median_of_the_rounds() -> None:
    class Meter:
        readings = iter([0, 10, 30, 100, 120, 140])

        def read(self) -> tuple[int, ...]:
            return (next(self.readings),)

        def joules(self, before: tuple[int, ...], after: tuple[int, ...]) -> float:
            return float(after[0] - before[0])

    (speed,) = measure_speed([FakeModel("a", seed=1)], 2, energy=Meter(), read_tokens=5, write_tokens=10)  # type: ignore[arg-type]
    assert (speed.read_j, speed.write_j) == (3.0, 2.0)
