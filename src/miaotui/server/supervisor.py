"""Keeps the engine going: notices when it hangs, starts it anew when it has died. docs/decisions/0014 says why so."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable, Sequence

from miaotui.core import SamplingParams
from miaotui.engine.async_llm import AsyncLLM
from miaotui.engine.watcher import Watcher
from miaotui.errors import EngineStoppedError
from miaotui.server.metrics import Metrics
from miaotui.server.settings import ServerSettings

PERIOD_S = 0.1
FIRST_DELAY_S, LONGEST_DELAY_S, WELL_S = 0.1, 30.0, 60.0
STALLED_FACTOR, HUNG_FACTOR = 4.0, 10.0
"""A step may take so many times as long as the longest of its size before it is remarked on, or given up."""
EXIT_CODE = 70
WARM_UP_TOKENS = 32

log = logging.getLogger(__name__)


class Backoff:
    """How long to wait before the next start: twice as long each time, from the beginning after a minute's peace."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._next_s = FIRST_DELAY_S
        self._started_s: float | None = None

    def started(self) -> None:
        """It runs again."""
        self._started_s = self._clock()

    def delay_s(self) -> float:
        """It has ended: for how long to wait."""
        if self._started_s is None or self._clock() - self._started_s >= WELL_S:
            self._next_s = FIRST_DELAY_S
        delay_s, self._next_s = self._next_s, min(2 * self._next_s, LONGEST_DELAY_S)
        return delay_s


class Supervisor:
    """Watches one engine. `leave` ends the process when a step hangs for good; for tests.

    beside: engines that take turns with it: where one of its steps hangs, those who wait for them wait in vain, too.
    """

    def __init__(
        self,
        llm: AsyncLLM,
        settings: ServerSettings,
        metrics: Metrics,
        leave: Callable[[int], object] = os._exit,
        *,
        beside: Sequence[AsyncLLM] = (),
    ) -> None:
        self._llm = llm
        self._settings = settings
        self._metrics = metrics
        self._leave = leave
        self._beside = tuple(beside)
        self._backoff = Backoff()
        self._hung_since_s: float | None = None
        self._retired = False

    @property
    def is_hung(self) -> bool:
        """Whether a step has been given up and has not ended since: nobody else has a turn then."""
        return self._hung_since_s is not None

    def problem(self) -> str | None:
        """What is wrong with the engine; None while it is well."""
        if self._hung_since_s is not None:
            return "a step hangs"
        if not self._llm.is_alive:
            return "the engine is being started anew"
        if self._is_late(self._settings.stalled_s, STALLED_FACTOR):
            return "a step takes too long"
        return None

    async def run(self) -> None:
        """Watch until cancelled or retired."""
        self._backoff.started()
        while not self._retired:
            try:
                await asyncio.sleep(PERIOD_S)
                await self._look()
            except Exception as error:  # whatever it is, nobody else would look after the engine
                log.error("the engine could not be started anew", exc_info=error)

    def retire(self) -> None:
        """The server ends: what ends now is not to be started anew."""
        self._retired = True

    async def _look(self) -> None:
        if self._retired:
            return
        if self._llm.has_ended:
            if all(one.is_alive or one.has_ended for one in self._beside):  # else its turn would never come
                await self._restart()
        elif self._hung_since_s is not None:
            self._leave_if_hung()
        elif self._is_late(self._settings.hung_s, HUNG_FACTOR):
            self._give_up()

    def _is_late(self, least_s: float, factor: float) -> bool:
        stalled_s = self._llm.stalled_s
        return stalled_s > least_s and stalled_s > factor * (self._llm.expected_s or 0.0)

    async def _restart(self) -> None:
        """What waits is over; new requests find an engine again as soon as it runs."""
        self._hung_since_s = None
        delay_s = self._backoff.delay_s()
        log.error("the engine has ended; it is started anew in %.1f s", delay_s)
        await asyncio.sleep(delay_s)
        if self._retired:
            return
        self._llm.restart()
        self._backoff.started()
        self._metrics.restarts.inc()

    def _give_up(self) -> None:
        """Nobody is to wait any longer for the step; if it ends after all, the engine is started anew."""
        log.critical("a step has hung for %.1f s; those who wait for it are told", self._llm.stalled_s)
        self._hung_since_s = time.monotonic()
        self._metrics.hangs.inc()
        for llm in (self._llm, *self._beside):
            llm.fail(EngineStoppedError("a step of the engine hangs."))

    def _leave_if_hung(self) -> None:
        limit_s, since_s = self._settings.exit_when_hung_s, self._hung_since_s
        if limit_s is not None and since_s is not None and time.monotonic() - since_s >= limit_s:
            log.critical("the step still hangs; the process ends with code %d", EXIT_CODE)
            time.sleep(PERIOD_S)  # for the line to be written
            self._leave(EXIT_CODE)


async def warm_up(llm: AsyncLLM, watcher: Watcher) -> None:
    """Have the weights in memory, and know how long a step takes, before anybody asks.

    watcher: learns what steps cost once the weights are there.
    """
    length = min(WARM_UP_TOKENS, llm.llm.context_length // 2)
    params = SamplingParams(temperature=0.0, max_tokens=4, ignore_eos=True)
    for round_number in range(2):  # the first one reads the weights from disk
        llm.heartbeat.forget()
        await llm.generate([round_number] * length, params, tenant="\0warm-up", keep=False)
        llm.watcher = watcher
