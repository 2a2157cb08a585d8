"""Energy that the processor counts: Intel's RAPL, which AMD has as well, as Linux shows it under /sys.

Its counters are those of whole packages and of their memory, whoever uses them (Linux, Documentation/power/powercap).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

POWERCAP = Path("/sys/class/powercap")


@dataclass(frozen=True, slots=True)
class _Zone:
    counter: Path
    range_uj: int


class EnergyMeter:
    """Reads all packages' counters, and those of memory where it has its own."""

    def __init__(self, zones: Sequence[_Zone]) -> None:
        self._zones = zones

    def read(self) -> tuple[int, ...] | None:
        """The counters in microjoules, for `joules`; None where they cannot be read any more."""
        try:
            return tuple(int(zone.counter.read_text()) for zone in self._zones)
        except (OSError, ValueError):
            return None

    def joules(self, before: Sequence[int], after: Sequence[int]) -> float:
        """Between two readings; a counter may have begun anew once."""
        used = [a - b if a >= b else a - b + z.range_uj for a, b, z in zip(after, before, self._zones, strict=True)]
        return sum(used) / 1e6


def find_energy(root: Path = POWERCAP) -> tuple[EnergyMeter | None, str]:
    """A meter, or None; and what it counts, or why there is none and what helps."""
    found = sorted(root.glob("intel-rapl:*")) if root.is_dir() else []
    zones: list[_Zone] = []
    names: list[str] = []
    for folder in found:
        try:
            name = (folder / "name").read_text().strip()
            if name == "psys" or (folder.name.count(":") > 1 and name != "dram"):
                continue  # the whole platform, or a part of its package; packages are counted
            counter = folder / "energy_uj"
            int(counter.read_text())
            zones.append(_Zone(counter, int((folder / "max_energy_range_uj").read_text())))
            names.append(name)
        except PermissionError:
            return None, f"only root may read {folder}/energy_uj: run as root, or let this user read that file"
        except (OSError, ValueError):
            continue
    if not zones:
        return None, f"there is no counter under {root}: a virtual machine, or a kernel without intel_rapl"
    return EnergyMeter(zones), f"of {', '.join(names)}, with all else that ran there"
