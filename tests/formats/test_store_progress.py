from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from miaotui.formats.store_progress import Progress, format_bytes, format_duration, shown_download


class Screen(io.StringIO):
    """A text stream that is, or is not, a terminal."""

    def __init__(self, terminal: bool) -> None:
        super().__init__()
        self.terminal = terminal

    def isatty(self) -> bool:
        return self.terminal


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def percentages(screen: Screen) -> list[int]:
    return [int(figure) for figure in re.findall(r"(\d+)%", screen.getvalue())]


@given(st.lists(st.tuples(st.floats(0, 5), st.integers(-10, 2000)), max_size=50))
def test_bar_never_moves_backwards_or_past_the_end(steps: list[tuple[float, int]]) -> None:
    screen, clock = Screen(terminal=True), Clock()
    progress = Progress(screen, clock)
    progress.start("model", 1000)
    for elapsed_s, done_bytes in steps:
        clock.now_s += elapsed_s
        progress.update(done_bytes)
    progress.finish()
    seen = percentages(screen)
    assert seen == sorted(seen)
    assert seen[-1] == 100


def test_rate_and_remaining_time_follow_a_steady_download() -> None:
    screen, clock = Screen(terminal=True), Clock()
    progress = Progress(screen, clock)
    progress.start("model", 100_000_000)
    for second in range(1, 6):
        clock.now_s += 1
        progress.update(second * 10_000_000)
    assert "50.0 MB of 100 MB  10.0 MB/s  ETA 0:05" in progress.line(100)


def test_bytes_of_an_earlier_try_do_not_count_as_speed() -> None:
    clock = Clock()
    progress = Progress(Screen(terminal=True), clock)
    progress.start("model", 100_000_000, 90_000_000)
    clock.now_s += 1
    progress.update(91_000_000)
    assert "1.0 MB/s  ETA 0:09" in progress.line(100)


@pytest.mark.parametrize("width", [10, 30, 60, 80, 200])
def test_line_fits_its_terminal(width: int) -> None:
    progress = Progress(Screen(terminal=True), Clock())
    progress.start("a-model:135m", 98_000_000)
    assert len(progress.line(width)) == width


def test_nothing_but_one_line_where_there_is_no_terminal() -> None:
    screen, clock = Screen(terminal=False), Clock()
    progress = Progress(screen, clock)
    progress.start("model", 98_000_000)
    for done_bytes in range(0, 98_000_000, 7_000_000):
        clock.now_s += 1
        progress.update(done_bytes)
    progress.finish()
    assert screen.getvalue() == "miaotui: fetching model (98.0 MB)\n"


def test_failed_download_ends_its_line_and_stops_watching(tmp_path: Path) -> None:
    screen = Screen(terminal=True)
    with pytest.raises(KeyboardInterrupt), shown_download("model", 10, tmp_path, Progress(screen)):
        raise KeyboardInterrupt
    assert screen.getvalue().endswith("\n")
    assert "100%" not in screen.getvalue()


def test_figures_are_written_for_people() -> None:
    figures = [0, 999, 1000, 99_949, 99_950, 98_362_432, 999_499_999, 999_500_000, 5e12]
    texts = ["0 B", "999 B", "1.0 kB", "99.9 kB", "100 kB", "98.4 MB", "999 MB", "1.0 GB", "5.0 TB"]
    assert [format_bytes(figure) for figure in figures] == texts
    assert [format_duration(s) for s in (0.4, 7, 61, 5999, 6000, 10_800)] == [
        "0:00",
        "0:07",
        "1:01",
        "99:59",
        "1 h",
        "3 h",
    ]
