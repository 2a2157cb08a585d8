"""The thread that steps an engine for everybody, and how others talk to it."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

from miaotui.engine.engine import Engine
from miaotui.engine.heartbeat import Heartbeat
from miaotui.engine.results import Delta
from miaotui.engine.sequence import Sequence
from miaotui.engine.step_turns import StepTurns
from miaotui.engine.step_work import StepWork, work_of_step
from miaotui.engine.tuner import IN_PAUSES_S

QUIET_S = 0.2
"""After so long without work, pages are kept on disk, memory is made ready for others, and choices are measured."""
PAGES_SAVED_AT_ONCE = 8
"""Before looking for work again."""


@dataclass(frozen=True, slots=True)
class Step:
    """What a step gave, how many sequences took part, how long it took, when it ended (monotonic), and its work.

    Without sequences it was none: some only ended meanwhile.
    """

    updates: list[tuple[Sequence, Delta]]
    num_sequences: int
    seconds: float
    end_s: float
    work: StepWork


class EngineThread:
    """Runs commands and steps in a thread of its own, in turn.

    engine: nobody else may touch it while the thread lives. deliver: called there after each step that did something.
    died: called there, once, with what ended the thread if that was not `close`. turns: shared with other engines
        of this process, where there are any.
    """

    def __init__(
        self,
        engine: Engine,
        heartbeat: Heartbeat,
        deliver: Callable[[Step], None],
        died: Callable[[BaseException], None],
        turns: StepTurns | None = None,
    ) -> None:
        self._engine = engine
        self._heartbeat = heartbeat
        self._deliver = deliver
        self._died = died
        self._turns = turns
        self._commands: deque[Callable[[Engine], Any]] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self._is_tidy = False
        self._thread = threading.Thread(target=self._run, name="miaotui-engine", daemon=True)
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        """Whether it still steps."""
        return self._thread.is_alive()

    def submit(self, command: Callable[[Engine], Any]) -> None:
        """Have something done between two steps. It must not raise. What comes after the end is dropped."""
        with self._changed:
            self._commands.append(command)
            self._heartbeat.begin()
            self._changed.notify()

    def close(self, timeout_s: float | None = None) -> bool:
        """End after the step under way, waiting for that at most so long; whether it has ended.

        Whoever waits for an answer then waits in vain.
        """
        with self._changed:
            self._closing = True
            self._changed.notify()
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            while self._wait():
                while self._commands:
                    self._commands.popleft()(self._engine)
                    self._heartbeat.go_on()
                if self._engine.scheduler.has_work:
                    self._is_tidy = False
                    self._step()
                else:
                    self._is_tidy = self._tidy()
        except BaseException as error:
            self._died(error)

    def _tidy(self) -> bool:
        """What can be done while there is no work; whether nothing of it is left."""
        ahead = self._engine.ahead
        is_tidy = False
        while not is_tidy and not self._is_called:
            is_tidy = (ahead is None or ahead.go_on()) and self._engine.save_prefixes(PAGES_SAVED_AT_ONCE)
        if is_tidy:
            self._tune()
        return is_tidy

    def _tune(self) -> None:
        """Measure what is fastest until there is work, here or for another engine; the next pause goes on with it."""
        for tuner in self._engine.tuners:
            if not (tuner.is_done or self._is_called):
                with self._turns or nullcontext():
                    tuner.go_on(IN_PAUSES_S, lambda: not (self._is_called or (self._turns and self._turns.is_wanted)))

    @property
    def _is_called(self) -> bool:
        return bool(self._commands or self._closing)

    def _step(self) -> None:
        with self._turn():
            start_s = time.monotonic()
            updates = self._engine.step()
            end_s = time.monotonic()
        slices = self._engine.slices
        if slices:  # else nothing could be done, which is no sign of life
            self._heartbeat.beat(slices, end_s - start_s)
        if slices or updates:
            num_said = sum(len(part.token_ids) for one, part in updates if one.constraint is None)
            work = work_of_step(slices, num_said, self._engine.scheduler.drafting_s)
            self._deliver(Step(updates, len(slices), end_s - start_s, end_s, work))

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """While it is this engine's turn to make a step."""
        if self._turns is None:
            yield
            return
        self._heartbeat.wait_for_turn()
        with self._turns:
            self._heartbeat.have_turn()
            yield

    def _wait(self) -> bool:
        """Until there is something to do, or time to keep pages on disk; False where that is to end."""
        with self._changed:
            while not (self._closing or self._commands or self._engine.scheduler.has_work):
                self._heartbeat.rest()
                if not self._changed.wait(None if self._is_tidy else QUIET_S):
                    break
            return not self._closing
