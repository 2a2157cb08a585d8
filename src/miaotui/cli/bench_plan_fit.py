"""A model's prices, measured on this machine: steps of many kinds, and how far requests are from their sum."""

from __future__ import annotations

import asyncio
import math
import random
import time
from argparse import Namespace
from statistics import median
from typing import TYPE_CHECKING, Any

from miaotui.cli.output import note
from miaotui.cli.parsing import config_of, open_llm

if TYPE_CHECKING:
    from miaotui.adaptive.simulation.world import World
    from miaotui.engine.async_llm import AsyncLLM
    from miaotui.engine.llm import LLM

CLIENTS, ROUND_S = (1, 2, 4, 8, 1), 12.0
"""So many ask at a time, for so long each."""
PROMPT_TOKENS, OUTPUT_TOKENS = (16, 60, 150, 400), (8, 24, 60, 120)
NORMAL = 1.4826
"""From the median of absolute deviations to a standard deviation, where they are normal."""


def fitted(args: Namespace) -> World:
    """The prices of the model that `--fit` names."""
    args.model = args.fit
    config = config_of(args)
    note(f"measuring {config.model} for {len(CLIENTS) * ROUND_S:.0f} s; nothing else should run meanwhile")
    with open_llm(config, fetch=True, drafter=None) as llm:
        return asyncio.run(_measured(llm, config.model))


async def _measured(llm: LLM, name: str) -> World:
    from miaotui import _native
    from miaotui.adaptive.planner import Planner
    from miaotui.adaptive.simulation.world import World
    from miaotui.engine.async_llm import AsyncLLM
    from miaotui.server.planning import Learner
    from miaotui.server.supervisor import warm_up

    planner, off = Planner(adaptive=False), list[float]()
    async with AsyncLLM(llm) as engine:
        await warm_up(engine, Learner(planner))
        for number, clients in enumerate(CLIENTS):
            off.clear()  # the last round counts, in which one asks at a time: company is added by simulations
            end_s = time.monotonic() + ROUND_S
            await asyncio.gather(*(_client(engine, planner, off, 100 * number + one, end_s) for one in range(clients)))
    info = _native.cpu_info()
    middle = median(off)
    spread = NORMAL * median(abs(one - middle) for one in off)
    prices = tuple(round(price, 6) for price in planner.costs.steps.prices_ms)
    source = f"{name} on {info['model']}, {info['threads']} threads"
    return World(prices, round(spread, 4), source=source)


async def _client(engine: AsyncLLM, planner: Any, off: list[float], seed: int, end_s: float) -> None:
    from miaotui.core import SamplingParams
    from miaotui.engine.prospect import Admission

    dice = random.Random(seed)  # noqa: S311 (lengths)
    while time.monotonic() < end_s:
        ids = [dice.randrange(100, engine.llm.spec.vocab_size) for _ in range(dice.choice(PROMPT_TOKENS))]
        params = SamplingParams(temperature=0.0, max_tokens=dice.choice(OUTPUT_TOKENS), ignore_eos=True)
        done = await engine.generate(ids, params, admit=lambda prospect: Admission(planner.admit(prospect)))
        plan, receipt = done.receipt.plan, done.receipt
        if plan is not None and receipt.whole_s > 0:
            off.append(math.log(receipt.whole_s * 1e3 / plan.predicted_ms))
            planner.learn(plan, receipt, "")
