"""Computes which tokens grammars allow next, beside the model's forward pass."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Sequence as Row
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext

from miaotui.engine.grammar import Constraint
from miaotui.engine.scheduler import Slice

_NOTHING = nullcontext()


class MaskWorker:
    """One thread, which exists once a grammar is in use; it waits for processors while the model has them all."""

    def __init__(self) -> None:
        self._thread: ThreadPoolExecutor | None = None

    def computing(self, slices: Row[Slice]) -> AbstractContextManager[None]:
        """Until the end of the block, every sequence whose next token is about to be chosen knows what it may be."""
        constraints = [
            part.sequence.constraint
            for part in slices
            if part.sequence.constraint is not None and part.num_logit_rows > 0
        ]
        return self._computing(constraints) if constraints else _NOTHING

    @contextmanager
    def _computing(self, constraints: list[Constraint]) -> Iterator[None]:
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="miaotui-masks")
        done = self._thread.submit(_compute, constraints)
        try:
            yield
        finally:
            done.result()


def _compute(constraints: list[Constraint]) -> None:
    for constraint in constraints:
        constraint.compute()
