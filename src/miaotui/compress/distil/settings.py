"""How a student is taught."""

from __future__ import annotations

import math
from dataclasses import dataclass

from miaotui.compress.plan import type_named
from miaotui.errors import ConfigError

FULL_RATE, LORA_RATE = 2e-4, 1e-3
"""Learning rates at their highest; low-rank factors begin at nothing and have farther to go."""


@dataclass(frozen=True, slots=True)
class DistilSettings:
    """Creating one checks every field: ConfigError names the one out of range.

    minutes: when to be done, by the clock of the training itself, what was spent before a resumption included; steps:
        end after so many instead, so that two runs do the same whatever the machine's speed.
    lora_rank: train factors of that rank beside each matrix (LoRA, arXiv:2106.09685); None: the matrices themselves.
    learning_rate: at its highest, None: FULL_RATE or LORA_RATE. warmup: share of the run in which it rises;
        it then falls along a cosine to `last_rate` of itself.
    first_layer: layers before it are not trained, which saves the time of their gradients.
    sequence_tokens, batch_sequences: a step learns from so many sequences of so many tokens, `micro_sequences` at once.
    clip: norm that all gradients together are cut to.
    top_k: the teacher's most likely tokens that are kept of each position.
    text_share: of the sequences, as long as there is text that the user gave; the teacher writes the others.
    on_policy: share of sequences that the student writes itself (GKD, arXiv:2306.13649).
    kind: type of the written matrices (see `plan.TYPES`), None: the student's. Block types are rounded to while
        training, anew every `round_steps` steps, by `method`.
    checkpoint_s: the state is kept that often.
    """

    minutes: float = 30.0
    steps: int | None = None
    lora_rank: int | None = None
    learning_rate: float | None = None
    warmup: float = 0.05
    last_rate: float = 0.05
    first_layer: int = 0
    sequence_tokens: int = 512
    batch_sequences: int = 4
    micro_sequences: int = 1
    clip: float = 1.0
    top_k: int = 64
    text_share: float = 0.5
    on_policy: float = 0.0
    kind: str | None = None
    method: str = "rtn"
    round_steps: int = 8
    seed: int = 0
    checkpoint_s: float = 120.0

    def __post_init__(self) -> None:
        _check("minutes", self.minutes, 0.0, 1e5)
        _check("steps", 1 if self.steps is None else self.steps, 1, 10**7)
        _check("lora_rank", 1 if self.lora_rank is None else self.lora_rank, 1, 4096)
        _check("learning_rate", self.rate, 1e-8, 1.0)
        _check("first_layer", self.first_layer, 0, 1024)
        _check("sequence_tokens", self.sequence_tokens, 8, 1 << 16)
        _check("batch_sequences", self.batch_sequences, 1, 4096)
        _check("micro_sequences", self.micro_sequences, 1, self.batch_sequences)
        _check("top_k", self.top_k, 1, 4096)
        _check("round_steps", self.round_steps, 1, 10**6)
        for name in ("warmup", "last_rate", "text_share", "on_policy"):
            _check(name, getattr(self, name), 0.0, 1.0)
        _check("clip", self.clip, 1e-6, 1e6)
        _check("checkpoint_s", self.checkpoint_s, 0.0, 1e6)
        if self.kind is not None:
            type_named(self.kind)

    @property
    def rate(self) -> float:
        """The learning rate at its highest."""
        if self.learning_rate is not None:
            return self.learning_rate
        return FULL_RATE if self.lora_rank is None else LORA_RATE

    def progress(self, steps: int, seconds: float) -> float:
        """How much of the run is behind, 0 to 1."""
        share = steps / self.steps if self.steps is not None else seconds / max(60 * self.minutes, 1e-9)
        return min(share, 1.0)

    def rate_at(self, progress: float) -> float:
        """The learning rate there; at the very first step it is small but not 0."""
        if progress < self.warmup:
            return self.rate * max(progress / self.warmup, 0.02)
        turn = (progress - self.warmup) / max(1 - self.warmup, 1e-9)
        return self.rate * (self.last_rate + (1 - self.last_rate) * (1 + math.cos(math.pi * turn)) / 2)


def _check(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:  # false for NaN, too
        raise ConfigError(f"{name} is {value:g}, but must lie between {low:g} and {high:g}.")
