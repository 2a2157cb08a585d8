"""Models whose logits are a table, and whose clock says what the test wants."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from miaotui.compress.compare.candidate import Scored, Written

LETTERS = [bytes([byte]) for byte in b"abcdefghijklmnopqrstuvwxyz .?"]


class FakeModel:
    """The next token's logits depend on the last one alone; token i is the i-th letter."""

    def __init__(self, name: str, *, seed: int, noise: float = 0.0, vocabulary: str = "letters") -> None:
        self.name, self.vocabulary, self.bos_id = name, vocabulary, None
        self.vocab_size = len(LETTERS)
        table = np.random.default_rng(7).normal(size=(self.vocab_size,) * 2) * 3
        self.table = (table + noise * np.random.default_rng(seed).normal(size=table.shape)).astype(np.float32)
        self.times: list[tuple[float, float]] = [(1.0, 0.1)]
        self.log: list[str] = []
        self.num_open = 0
        self.answers: dict[str, str] = {}

    def token_bytes(self, id: int) -> bytes:
        return LETTERS[id]

    def encode(self, text: str, special: bool = True) -> list[int]:
        return [LETTERS.index(bytes([byte])) for byte in text.encode() if bytes([byte]) in LETTERS]

    def ask(self, question: str) -> list[int]:
        return self.encode(question + "?")

    @contextmanager
    def open(self) -> Iterator[FakeModel]:
        self.num_open += 1
        yield self

    def logits(self, ids: Sequence[int], first: int) -> np.ndarray:
        return self.table[list(ids[first:])]

    def log_probs(self, ids: Sequence[int]) -> np.ndarray:
        rows = self.table[list(ids)].astype(np.float64)
        return rows - np.log(np.exp(rows).sum(axis=1, keepdims=True))

    def score(self, pairs: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list[Scored]:
        found = []
        for before, behind in pairs:
            rows = self.log_probs([before[-1], *behind[:-1]])
            total = float(rows[np.arange(len(behind)), list(behind)].sum())
            found.append(Scored(total, len(behind), rows.argmax(axis=1).tolist() == list(behind)))
        return found

    def write(self, prompts: Sequence[Sequence[int]], *, most: int, seed: int | None = None) -> list[Written]:
        written = []
        for prompt in prompts:
            asked = b"".join(LETTERS[id] for id in prompt).decode()
            text = self.answers.get(asked, "a b c")[:most]
            written.append(Written(text, tuple(self.encode(text)), True))
        return written

    def read_s(self, num_tokens: int, turn: int) -> float:
        self.log.append(f"{self.name} reads")
        return self.times[turn // 2 % len(self.times)][0]

    def token_s(self, num_tokens: int, turn: int) -> float:
        return self.times[turn // 2 % len(self.times)][1]
