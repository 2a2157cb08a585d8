"""What a comparison asks of a model, whoever runs it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Step = Callable[[str, int, int], None]
"""Told a model's name, and how many parts of how many are done over all models."""


@dataclass(frozen=True, slots=True)
class Scored:
    """Log-probability (nats) of given tokens after what was before them, and whether each is the most likely one."""

    total: float
    num_tokens: int
    is_greedy: bool


@dataclass(frozen=True, slots=True)
class Written:
    """What a model wrote, without the token that ended it, and whether it came to an end by itself."""

    text: str
    ids: tuple[int, ...]
    has_ended: bool


class OpenModel(Protocol):
    """A model in memory."""

    def encode(self, text: str, *, special: bool) -> list[int]:
        """Token ids of plain text; `special`: with BOS where the model was trained with one."""

    def ask(self, question: str) -> list[int]:
        """Token ids of a question as a user would put it: through the chat template where there is one."""

    def logits(self, ids: Sequence[int], first: int) -> NDArray[np.float32]:
        """Rows first … len(ids) - 1, float32 [rows, vocabulary]; each predicts the token behind it."""

    def score(self, pairs: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list[Scored]:
        """Each pair's second part after its first."""

    def write(self, prompts: Sequence[Sequence[int]], *, most: int, seed: int | None = None) -> list[Written]:
        """At most so many tokens behind each prompt: the most likely ones, or drawn at temperature 1 with a seed."""

    def read_s(self, num_tokens: int, turn: int) -> float:
        """Seconds until a prompt of so many tokens is read that was never read before; every turn has its own."""

    def token_s(self, num_tokens: int, turn: int) -> float:
        """Seconds a token takes when so many are written one by one."""


class Candidate(Protocol):
    """A model that takes part, in memory only while it is open."""

    @property
    def name(self) -> str:
        """Short, and no other's."""

    @property
    def vocabulary(self) -> str:
        """The same for models whose token ids mean the same."""

    @property
    def vocab_size(self) -> int:
        """Columns of its logits."""

    @property
    def bos_id(self) -> int | None:
        """What every text begins with; None where the model was trained without."""

    def token_bytes(self, id: int) -> bytes:
        """What a token stands for."""

    def encode(self, text: str) -> list[int]:
        """Token ids of plain text, with BOS where the model was trained with one; needs no weights."""

    def open(self) -> AbstractContextManager[OpenModel]:
        """The model in memory, which may stay there for the next time."""
