"""A file's tensors with others beside them or in their place."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from miaotui.formats.weights import Tensor, Weights


class WithTensors(Weights):
    """What a graph is compiled with when some of its tensors are not, or not so, in the file."""

    def __init__(self, weights: Weights, others: Mapping[str, Tensor]) -> None:
        super().__init__([])
        self._file = weights
        self._others = others

    def __getitem__(self, name: str) -> Tensor:
        return self._others[name] if name in self._others else self._file[name]

    def __iter__(self) -> Iterator[str]:
        yield from self._others
        yield from (name for name in self._file if name not in self._others)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def release(self, name: str) -> None:
        """See `Weights.release`."""
        if name not in self._others:
            self._file.release(name)
