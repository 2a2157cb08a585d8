"""The same trace at small scale for real: a model in this process, asked as a server asks it."""

from __future__ import annotations

import asyncio
import time
from argparse import Namespace
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from statistics import median
from typing import TYPE_CHECKING, Any

from miaotui.adaptive.simulation.regret import quantile
from miaotui.cli.parsing import config_of, open_llm

if TYPE_CHECKING:
    from miaotui.adaptive.simulation.questions import Question
    from miaotui.core import Plan
    from miaotui.engine.llm import LLM
    from miaotui.engine.results import Completion

CHARACTERS_PER_TOKEN = 4


def run_real(args: Namespace, questions: Sequence[Question], prompts: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """Ask a model these questions when they are due, and compare what was predicted with what it took."""
    args.model = args.real
    config = config_of(args)
    with open_llm(config, fetch=True) as llm:
        report = asyncio.run(_replayed(llm, questions, [text for texts in prompts.values() for text in texts], args))
    return {"model": config.model} | report


async def _replayed(llm: LLM, questions: Sequence[Question], texts: Sequence[str], args: Namespace) -> dict[str, Any]:
    from miaotui.adaptive.energy import EnergyUse
    from miaotui.adaptive.planner import Planner
    from miaotui.answers.cache import AnswerCache, opened
    from miaotui.answers.stores.memory import MemoryStore
    from miaotui.engine.async_llm import AsyncLLM
    from miaotui.server.asking import Asker
    from miaotui.server.ledger import Ledger
    from miaotui.server.metrics import Metrics
    from miaotui.server.planning import Learner, Planning
    from miaotui.server.settings import ServerSettings
    from miaotui.server.supervisor import warm_up

    planner, use = Planner(), EnergyUse.of_this_machine()
    cache = AnswerCache([MemoryStore(64 << 20)], b"s" * 32)
    ledger = Ledger(ServerSettings("real"), Metrics(), planner=planner)
    async with AsyncLLM(llm) as engine, opened(cache):
        await warm_up(engine, Learner(planner))
        engine.watcher = ledger
        asker = Asker(engine, cache, "real", ledger, Planning(planner, llm.context_length))
        start_s, before = time.monotonic(), use.total()
        asked = [_ask(asker, one, _text(one, texts), start_s, args) for one in questions]
        done = await asyncio.gather(*asked)
        used, took_s = use.total() - before, time.monotonic() - start_s
    return _figures(done) | {"energy": used, "energy_unit": use.unit, "took_s": took_s}


async def _ask(asker: Any, question: Question, text: str, start_s: float, args: Namespace) -> Completion:
    from miaotui.core import SamplingParams
    from miaotui.server.asking import Ask

    await asyncio.sleep(max(start_s + question.arrival_s - time.monotonic(), 0.0))
    params = SamplingParams(temperature=0.0, max_tokens=question.output_tokens, ignore_eos=not args.unknown_lengths)
    ask = Ask([{"role": "user", "content": text}], params, "", str(question.number))
    async with aclosing(await asker.ask(ask)) as answer:
        completion: Completion = await answer.whole()
        return completion


def _text(question: Question, texts: Sequence[str]) -> str:
    """What to ask: equal for equal questions, about as long as it should be."""
    from miaotui.load.words import random_words

    if not texts:
        return " ".join(random_words(question.prompt_tokens, "plan", question.text))
    text = f"{question.text}. " + texts[question.text % len(texts)]
    return text[: CHARACTERS_PER_TOKEN * question.prompt_tokens]


def _figures(done: Sequence[Completion]) -> dict[str, Any]:
    """Errors of predictions, in the order in which the questions came."""
    planned: list[tuple[Plan, float]] = [
        (one.receipt.plan, one.receipt.whole_s * 1e3) for one in done if one.receipt.plan is not None
    ]
    errors = [abs(plan.predicted_ms / ms - 1.0) for plan, ms in planned if ms > 0]
    paths: dict[str, list[float]] = {}
    for plan, ms in planned:
        paths.setdefault(plan.path, []).append(abs(plan.predicted_ms / ms - 1.0))
    ordered = sorted(errors)
    return {
        "num_requests": len(done),
        "num_predicted": len(errors),
        "error_p50": quantile(ordered, 0.5),
        "error_p90": quantile(ordered, 0.9),
        "later_error_p50": median(errors[len(errors) // 2 :]),
        "errors_by_path": {path: [len(found), median(found)] for path, found in sorted(paths.items())},
        "pairs": [[plan.predicted_ms / 1e3, ms / 1e3] for plan, ms in planned],
    }
