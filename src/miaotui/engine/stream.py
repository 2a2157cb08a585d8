"""An answer as it comes, part by part."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from types import TracebackType
from typing import TYPE_CHECKING

from miaotui.engine.results import Completion, Delta
from miaotui.engine.sequence import Sequence

if TYPE_CHECKING:
    from miaotui.engine.llm import LLM


class Stream(Iterator[Delta]):
    """Iterator over the parts of one request's completions.

    Leaving it early (`close`, the end of a `with` block, Ctrl-C, an error, or simply dropping it) frees its memory at
    once; `completion` then holds what was said, with finish_reason "cancelled".
    """

    def __init__(self, llm: LLM, sequences: list[Sequence], parts: deque[Delta]) -> None:
        self._llm = llm
        self._sequences = sequences
        self._parts = parts

    def __next__(self) -> Delta:
        while not self._parts:
            if self._finished:
                raise_error_of(self._sequences)
                raise StopIteration
            try:
                self._llm._step()
            except BaseException:
                self.close()
                raise
        return self._parts.popleft()

    @property
    def completion(self) -> Completion | None:
        """The whole answer once it has ended, however it ended; None while it goes on."""
        return completion_of(self._sequences) if self._finished else None

    @property
    def _finished(self) -> bool:
        return all(sequence.finish_reason is not None for sequence in self._sequences)

    def close(self) -> None:
        """Cancel what has not finished. Parts not yet fetched can still be iterated over. Harmless when repeated."""
        self._llm._cancel(self._sequences)

    def __enter__(self) -> Stream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        self._llm._drop(self._sequences)


def raise_error_of(sequences: list[Sequence]) -> None:
    """Raise what ended one of these where that was no fault of the request."""
    for sequence in sequences:
        if sequence.error is not None:
            raise sequence.error


def completion_of(sequences: list[Sequence]) -> Completion:
    """The result of a request's finished sequences."""
    first, *others = sequences
    return first.completion(tuple(sequence.completion() for sequence in others))
