"""What a cascade has a model do, apart from who steps that model.

How prompts are asked is written as generators: they yield `Work` and are sent what came of it. A loop of one's own
(`done_by`) and a server's engine, which has others to answer beside it, do the same work.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Generic, TypeVar

from miaotui.core import SamplingParams
from miaotui.engine.llm import LLM
from miaotui.engine.results import Completion

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Work:
    """Prompts of token ids that are answered in the same way, together."""

    prompts: list[list[int]]
    params: SamplingParams


@dataclass(frozen=True, slots=True)
class Done(Generic[T]):
    """Nothing more is to be done; what came of all of it."""

    value: T


Asks = Generator[Work, list[Completion], T]
"""Yields work, is sent a completion for each of its prompts, and returns what came of it."""


def go_on(asks: Asks[T], done: list[Completion] | None = None) -> Work | Done[T]:
    """What is to be done next. done: what came of the work before; None at the beginning."""
    try:
        return next(asks) if done is None else asks.send(done)
    except StopIteration as end:
        return Done(end.value)


def done_by(llm: LLM, asks: Asks[T], tenant: str = "") -> T:
    """All of it, done by a model that nobody else uses meanwhile. Raises what `LLM.generate` does."""
    step = go_on(asks)
    while isinstance(step, Work):
        step = go_on(asks, llm.generate(step.prompts, step.params, progress=False, tenant=tenant))
    return step.value
