"""What computing takes of the machine: joules where it tells them, else seconds of processor time, and which."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Literal

from miaotui.adaptive.typical import Typical
from miaotui.energy import EnergyMeter, find_energy

Unit = Literal["J", "CPU-s"]

READ_AFTER_S = 0.5
"""Of steps, between two looks at the meter."""
LEAST_BUSY = 0.5
"""Share of the time between two looks that steps must have taken; else it says more of idling than of them."""


class EnergyUse:
    """Counts up: joules of all packages of this machine, whoever uses them, or this process's processor seconds.

    meter: `miaotui.energy.find_energy`'s; None where joules cannot be read.
    """

    def __init__(self, meter: EnergyMeter | None, processor_s: Callable[[], float] = time.process_time) -> None:
        self._processor_s = processor_s
        self._meter = meter
        self._last = None if meter is None else meter.read()
        self._joules = 0.0
        self.unit: Unit = "CPU-s" if meter is None else "J"

    @classmethod
    def of_this_machine(cls) -> EnergyUse:
        """In joules where they may be read."""
        return cls(find_energy()[0])

    def total(self) -> float:
        """What was used since some moment in the past, in `unit`; as before where that cannot be read any more."""
        if self._meter is None:
            return self._processor_s()
        now = self._meter.read()
        if now is not None and self._last is not None:
            self._joules += self._meter.joules(self._last, now)
        self._last = now or self._last
        return self._joules


class Consumption:
    """What a second of steps uses, learned by a look now and then."""

    def __init__(self, use: EnergyUse | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._use = EnergyUse.of_this_machine() if use is None else use
        self._clock = clock
        self._per_busy_s = Typical(0.0)
        self._busy_s = 0.0
        self._since_s, self._since_total = clock(), self._use.total()

    @property
    def unit(self) -> Unit:
        """What it is counted in."""
        return self._use.unit

    @property
    def per_busy_s(self) -> float:
        """Of a second of steps; 0 while nothing is known."""
        return self._per_busy_s.value

    def observe(self, step_s: float) -> None:
        """A step took so long."""
        self._busy_s += step_s
        if self._busy_s < READ_AFTER_S:
            return
        now_s, total = self._clock(), self._use.total()
        if self._busy_s >= LEAST_BUSY * (now_s - self._since_s):
            self._per_busy_s.observe((total - self._since_total) / self._busy_s)
        self._busy_s, self._since_s, self._since_total = 0.0, now_s, total
