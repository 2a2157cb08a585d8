"""What computing takes of the machine: joules where it tells them, else seconds of processor time, and which."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from miaotui.adaptive.typical import Typical

Unit = Literal["J", "CPU-s"]

POWERCAP = Path("/sys/class/powercap")
"""Where Linux shows RAPL's counters (Documentation/power/powercap/powercap.rst); only root may read them."""
READ_AFTER_S = 0.5
"""Of steps, between two looks at the meter."""
LEAST_BUSY = 0.5
"""Share of the time between two looks that steps must have taken; else it says more of idling than of them."""


class EnergyMeter:
    """Counts up: joules of all packages of this machine, whoever uses them, or this process's processor seconds."""

    def __init__(self, folder: Path = POWERCAP, processor_s: Callable[[], float] = time.process_time) -> None:
        self._processor_s = processor_s
        self._zones = [zone for path in sorted(folder.glob("intel-rapl:*")) if (zone := _Zone.open(path)) is not None]
        self.unit: Unit = "J" if self._zones else "CPU-s"

    def total(self) -> float:
        """What was used since some moment in the past, in `unit`."""
        if not self._zones:
            return self._processor_s()
        return sum(zone.joules() for zone in self._zones)


class _Zone:
    """One package's counter of microjoules, which begins again at its range."""

    def __init__(self, path: Path, range_uj: int) -> None:
        self._path, self._range_uj = path / "energy_uj", range_uj
        self._last_uj = int(self._path.read_text())
        self._total_uj = 0

    @classmethod
    def open(cls, path: Path) -> _Zone | None:
        """None for what is no package, is no package's whole, or may not be read."""
        if path.name.count(":") != 1:
            return None
        try:
            if not (path / "name").read_text().startswith("package"):
                return None
            return cls(path, int((path / "max_energy_range_uj").read_text()))
        except (OSError, ValueError):
            return None

    def joules(self) -> float:
        """Since it was opened; as before where it cannot be read any more."""
        try:
            now_uj = int(self._path.read_text())
        except (OSError, ValueError):
            return self._total_uj / 1e6
        self._total_uj += (now_uj - self._last_uj) % (self._range_uj + 1)
        self._last_uj = now_uj
        return self._total_uj / 1e6


class Consumption:
    """What a second of steps uses, learned from a meter that is looked at now and then."""

    def __init__(self, meter: EnergyMeter | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._meter = EnergyMeter() if meter is None else meter
        self._clock = clock
        self._per_busy_s = Typical(0.0)
        self._busy_s = 0.0
        self._since_s, self._since_total = clock(), self._meter.total()

    @property
    def unit(self) -> Unit:
        """What it is counted in."""
        return self._meter.unit

    @property
    def per_busy_s(self) -> float:
        """Of a second of steps; 0 while nothing is known."""
        return self._per_busy_s.value

    def observe(self, step_s: float) -> None:
        """A step took so long."""
        self._busy_s += step_s
        if self._busy_s < READ_AFTER_S:
            return
        now_s, total = self._clock(), self._meter.total()
        if self._busy_s >= LEAST_BUSY * (now_s - self._since_s):
            self._per_busy_s.observe((total - self._since_total) / self._busy_s)
        self._busy_s, self._since_s, self._since_total = 0.0, now_s, total
