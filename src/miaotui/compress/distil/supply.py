"""Where the next sequences to learn from come from: the user's text, the teacher, or the student itself."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from miaotui.compress.distil.corpus import Corpus, Origin, Records
from miaotui.compress.distil.loss import top_of
from miaotui.compress.distil.settings import DistilSettings
from miaotui.errors import ConfigError

BLOCK_SEQUENCES = 16
"""Written and appended together, since the engine writes so many at nearly the price of one."""

_GOLDEN = (math.sqrt(5) - 1) / 2

Ids = Sequence[int]


class Writer(Protocol):
    """A model that goes on from prompts."""

    def write(self, prompts: Sequence[Ids], num_tokens: int, seed: int) -> list[list[int]]:
        """Each prompt and what follows, drawn from the model's own distribution, `num_tokens` in all."""


class Teacher(Writer, Protocol):
    """A model that also tells how likely it finds every token."""

    def logits(self, ids: Ids) -> NDArray[np.float32]:
        """Scores [tokens, vocabulary]; row i is about the token behind token i."""


OpenWriter = Callable[[Path], AbstractContextManager[Writer]]
"""Runs the model in a file, as long as the context lasts."""


@dataclass(frozen=True, slots=True)
class Material:
    """What is given to learn from, in tokens: one long text (may be empty), and prompts to go on from (one or more)."""

    text: NDArray[np.int32]
    prompts: Sequence[Ids]


class Supply:
    """The sequences of a run, by number: kept in a corpus, and made when they are asked for the first time.

    export: writes the student as it is to a path, for the sequences that it writes itself with what `open_writer`
    gives. Raises ConfigError without prompts, or for shares of sequences that nobody can write.
    """

    def __init__(
        self,
        corpus: Corpus,
        teacher: Teacher,
        material: Material,
        settings: DistilSettings,
        *,
        export: Callable[[Path], None],
        open_writer: OpenWriter | None,
        draft: Path,
    ) -> None:
        if not material.prompts:
            raise ConfigError("there are no prompts to write from; give at least one.")
        if settings.on_policy and open_writer is None:
            raise ConfigError("nobody can run the student; set on_policy to 0.")
        self._corpus, self._teacher, self._material, self._settings = corpus, teacher, material, settings
        self._export, self._open_writer, self._draft = export, open_writer, draft
        count = len(material.text) // settings.sequence_tokens
        self._windows = random.Random(settings.seed).sample(range(count), count)  # noqa: S311 (nothing secret)

    def sequences(self, first: int, last: int) -> Records:
        """Sequences first … last of the run; whoever asks for the same ones gets the same ones."""
        while len(self._corpus) < last:
            self._corpus.append(self._block(len(self._corpus)))
        return self._corpus.read(first, last)

    def _block(self, start: int) -> list[Records]:
        used = self._corpus.count(Origin.TEXT)
        origins: list[Origin] = []
        for number in range(start, start + BLOCK_SEQUENCES):
            left = len(self._windows) - used - origins.count(Origin.TEXT)
            origins.append(self._origin(number, left > 0))
        ids: dict[Origin, list[list[int]]] = {
            Origin.TEXT: [self._window(used + at) for at in range(origins.count(Origin.TEXT))]
        }
        prompts = self._prompts(len(origins), start)
        for origin in (Origin.TEACHER, Origin.STUDENT):
            chosen = [prompt for prompt, by in zip(prompts, origins, strict=True) if by is origin]
            ids[origin] = self._write(origin, chosen, start) if chosen else []
        return [self._record(origin, ids[origin].pop(0)) for origin in origins]

    def _origin(self, number: int, is_text_left: bool) -> Origin:
        """Spread evenly, by the fractional parts of multiples of the golden ratio."""
        at = (number + 1) * _GOLDEN % 1
        if at < self._settings.on_policy:
            return Origin.STUDENT
        rest = (at - self._settings.on_policy) / max(1 - self._settings.on_policy, 1e-9)
        return Origin.TEXT if rest < self._settings.text_share and is_text_left else Origin.TEACHER

    def _window(self, number: int) -> list[int]:
        start = self._windows[number] * self._settings.sequence_tokens
        window: list[int] = self._material.text[start : start + self._settings.sequence_tokens].tolist()
        return window

    def _prompts(self, count: int, start: int) -> list[Ids]:
        chosen = random.Random(f"{self._settings.seed} {start // len(self._material.prompts)}")  # noqa: S311
        order = chosen.sample(range(len(self._material.prompts)), len(self._material.prompts))
        most = self._settings.sequence_tokens - 1
        return [self._material.prompts[order[(start + at) % len(order)]][:most] for at in range(count)]

    def _write(self, origin: Origin, prompts: Sequence[Ids], seed: int) -> list[list[int]]:
        tokens = self._settings.sequence_tokens
        if origin is Origin.TEACHER or self._open_writer is None:
            return self._teacher.write(prompts, tokens, seed)
        try:
            self._export(self._draft)
            with self._open_writer(self._draft) as student:
                return student.write(prompts, tokens, seed)
        finally:
            self._draft.unlink(missing_ok=True)

    def _record(self, origin: Origin, ids: Ids) -> Records:
        record = np.zeros((), self._corpus.record)
        top_ids, top_logprobs = top_of(torch.from_numpy(self._teacher.logits(ids)), self._settings.top_k)
        record["origin"], record["ids"] = origin, ids
        record["top_ids"], record["top_logprobs"] = top_ids.numpy(), top_logprobs.numpy()
        return record
