"""Results on standard output, everything else on standard error."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import TextIO

__all__ = ["note", "peak_memory_bytes", "print_json", "print_pairs", "print_table"]


def print_json(value: object) -> None:
    """One JSON document, Chinese readable as it is."""
    import json

    print(json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False))


def print_table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Columns as wide as their widest entry."""
    lines = [list(heads), *(list(row) for row in rows)]
    widths = [max(len(line[at]) for line in lines) for at in range(len(heads))]
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def print_pairs(title: str, pairs: Iterable[tuple[str, str]]) -> None:
    """A heading, and a name and a value per line."""
    lines = list(pairs)
    width = max([21, *(len(name) for name, _ in lines)])
    print(title)
    for name, value in lines:
        print(f"  {name:<{width}}  {value}")


def note(text: str, stream: TextIO | None = None) -> None:
    """A line for people, on standard error."""
    print(text, file=stream or sys.stderr, flush=True)


def peak_memory_bytes() -> int:
    """Most memory this process ever had resident. From /proc where there is one: getrusage counts a parent's, too."""
    try:
        with open("/proc/self/status", encoding="ascii", errors="replace") as status:
            for line in status:
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
