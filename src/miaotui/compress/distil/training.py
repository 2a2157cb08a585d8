"""The loop: sequences, divergence, gradient, step; interrupted at any time, resumed from its last state."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, TracebackType

import numpy as np
import torch
from torch import Tensor

from miaotui.compress.distil import checkpoint
from miaotui.compress.distil.corpus import Origin, Records
from miaotui.compress.distil.framework import casting
from miaotui.compress.distil.loss import Targets, accumulate
from miaotui.compress.distil.parameters import Parameters
from miaotui.compress.distil.rounding import Rounding
from miaotui.compress.distil.settings import DistilSettings
from miaotui.compress.distil.student import Student
from miaotui.compress.distil.supply import Supply
from miaotui.errors import ConfigError

_FORGETTING = 0.9
_BETAS = (0.9, 0.95)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far it is: steps and tokens so far, the divergence of late in nats per token, seconds spent and left."""

    steps: int
    tokens: int
    loss: float
    seconds: float
    left_s: float


Report = Callable[[Progress], None]


class Interrupts:
    """Context in which the first Ctrl-C only sets `came`; the second one raises KeyboardInterrupt at once.

    Outside the main thread nothing changes.
    """

    def __init__(self) -> None:
        self.came = False

    def __enter__(self) -> Interrupts:
        self._is_main = threading.current_thread() is threading.main_thread()
        if self._is_main:
            self._before = signal.signal(signal.SIGINT, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._is_main:
            signal.signal(signal.SIGINT, self._before)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.came:
            raise KeyboardInterrupt
        self.came = True


class Training:
    """One student's training. `state`: where its state is kept; made_by: what has to be the same to go on from it."""

    def __init__(
        self,
        student: Student,
        parameters: Parameters,
        rounding: Rounding,
        supply: Supply,
        settings: DistilSettings,
        *,
        state: Path,
        made_by: Mapping[str, str],
    ) -> None:
        self.position = checkpoint.Position()
        self._student, self._parameters, self._rounding, self._supply = student, parameters, rounding, supply
        self._settings = settings
        self._state, self._made_by = state, made_by
        self._is_whole = True  # not while the optimizer changes weights one by one
        self._learning = list(parameters.learning().values())
        self._optimizer = torch.optim.AdamW(self._learning, betas=_BETAS, weight_decay=0.0, fused=True)

    def resume(self) -> None:
        """Raises what `checkpoint.load` does."""
        self.position = checkpoint.load(self._state, self._made_by, self._parameters, self._optimizer)

    def run(self, report: Report | None = None) -> None:
        """Until the time or the steps are over. On Ctrl-C, or any error, the state of the last whole step is kept."""
        kept_at = self.position.steps if self.position.steps else -1
        last_s = kept_s = time.monotonic()
        with Interrupts() as interrupts:
            try:
                while self._settings.progress(self.position.steps, self.position.seconds) < 1:
                    if not self._step(interrupts):
                        raise KeyboardInterrupt
                    now_s = time.monotonic()
                    self.position.seconds += now_s - last_s
                    last_s = now_s
                    if report is not None:
                        report(self._progress())
                    if now_s - kept_s >= self._settings.checkpoint_s:
                        self._keep()
                        kept_at, kept_s = self.position.steps, time.monotonic()
            finally:
                if self.position.steps > kept_at and self._is_whole:
                    self._keep()

    def _step(self, interrupts: Interrupts) -> bool:
        """One update of the weights; False where an interrupt came before it was made."""
        settings, at = self._settings, self.position
        if at.steps % settings.round_steps == 0:
            self._parameters.refresh(self._rounding)
        first = at.steps * settings.batch_sequences
        records = self._supply.sequences(first, first + settings.batch_sequences)
        tokens = records["ids"].size
        loss = 0.0
        for start in range(0, len(records), settings.micro_sequences):
            if interrupts.came:
                self._optimizer.zero_grad()
                return False
            loss += self._learn(records[start : start + settings.micro_sequences], tokens)
        norm = torch.nn.utils.clip_grad_norm_(self._learning, settings.clip)
        if not math.isfinite(loss) or not bool(norm.isfinite()):
            self._optimizer.zero_grad()
            raise ConfigError(f"step {at.steps + 1} has no finite gradient; begin anew with a lower learning rate.")
        rate = settings.rate_at(settings.progress(at.steps, at.seconds))
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        self._is_whole = False
        self._optimizer.step()
        self._optimizer.zero_grad()
        at.first_loss = loss if at.steps == 0 else at.first_loss
        at.loss = loss if at.steps == 0 else _FORGETTING * at.loss + (1 - _FORGETTING) * loss
        at.steps += 1
        at.tokens += tokens
        self._is_whole = True
        return True

    def _learn(self, records: Records, tokens: int) -> float:
        """Adds the gradient of these sequences' share of the batch's `tokens`; gives their share of its divergence."""
        ids = torch.from_numpy(records["ids"].astype(np.int64))
        with casting(self.position.arithmetic):
            hidden = self._student.hidden(ids).flatten(0, 1)
            return accumulate(self._student.logits, hidden, _targets(records, ids), 1 / tokens) / tokens

    def _keep(self) -> None:
        checkpoint.save(self._state, self._made_by, self.position, self._parameters, self._optimizer)

    def _progress(self) -> Progress:
        at = self.position
        share = self._settings.progress(at.steps, at.seconds)
        return Progress(at.steps, at.tokens, at.loss, at.seconds, at.seconds * (1 - share) / max(share, 1e-9))


def _targets(records: Records, ids: Tensor) -> Targets:
    following = torch.full_like(ids, -1)
    following[:, :-1] = ids[:, 1:]
    following[torch.from_numpy(records["origin"] == Origin.STUDENT)] = -1
    top_ids = torch.from_numpy(records["top_ids"].astype(np.int64)).flatten(0, 1)
    return Targets(top_ids, torch.from_numpy(records["top_logprobs"].copy()).flatten(0, 1), following.flatten())
