"""`CutEncoder`: a text encoder that texts may leave behind some of its layers."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from miaotui import _native
from miaotui.engine.embedder import Embedder, Vectors
from miaotui.engine.text_steps import Ints, TextSteps
from miaotui.errors import InvalidRequestError, UnsupportedModelError, brief
from miaotui.formats.spec import ModelSpec
from miaotui.formats.weights import Tensor, TensorType
from miaotui.formats.with_tensors import WithTensors
from miaotui.graph.compile import CompileOptions, compile_graph
from miaotui.graph.cut import Cut, Part, cut

HELD_STEPS = 8
"""Texts go from layer to layer together, until they have so many steps' tokens: each layer's steps are full, then."""
TABLES = ("rows.even", "rows.odd")
"""Where the rows between two parts are: a part reads one of them and writes the other."""

Leave = Callable[[int, NDArray[np.int64], Vectors], NDArray[np.bool_]]
"""Which texts leave: called with the number of the exit (from 0 on; the last is the whole depth), the texts' numbers
and their vectors there; what it says of the last exit doesn't matter."""


class CutEncoder:
    """The embedder's model as programs of some layers each, which share its packed weights.

    layers: behind how many layers a text may leave, ascending; each at least 1 and below the model's own number.
    max_tokens_per_step: as of `Embedder`; None: as the embedder has it.

    What a text gives behind a layer has the same bits whatever texts are beside it and wherever others leave; behind
    the last one it is the embedder's vector. Rows between parts take 2 · `HELD_STEPS` steps' floats. Methods may be
    called from several threads; the embedder must stay open.
    Raises InvalidRequestError for other layers, UnsupportedModelError for models whose layers cannot be parted.
    """

    def __init__(self, embedder: Embedder, layers: Sequence[int]) -> None:
        self.embedder = embedder
        self.layers = check_layers(embedder.spec, layers)
        self._steps = TextSteps(embedder.max_tokens, embedder.step_tokens, embedder.step_texts)
        self._held_tokens = HELD_STEPS * embedder.step_tokens
        self._rows = [np.zeros((self._held_tokens, embedder.dimensions), np.float32) for _ in TABLES]
        tensors = {name: _tensor(name, rows) for name, rows in zip(TABLES, self._rows, strict=True)}
        weights = WithTensors(embedder.weights, tensors)
        tables = [TABLES[number % 2] for number in range(len(self.layers))]
        self._cut: Cut = cut(embedder.graph, self.layers, tables, self._held_tokens)

        def compiled(part: Part, *, every_token: bool = False) -> _native.Program:
            options = CompileOptions(
                activations=embedder.activations,
                # Where all rows are wanted, selecting them earlier would only be more copies.
                disabled_passes=embedder.disabled_passes | ({"select_rows_early"} if every_token else set()),
                max_tokens=embedder.step_tokens,
                max_sequences=embedder.step_texts,
                max_logit_rows=embedder.step_tokens if every_token else embedder.step_texts,
            )
            return compile_graph(part.graph, weights, options=options, packed=embedder.packed).program

        *inner, last = self._cut.parts
        self._parts = [compiled(part, every_token=True) for part in inner]
        self._last = compiled(last)
        self._tails = [compiled(part) for part in self._cut.tails[: len(TABLES)]]
        self._lock = threading.Lock()

    @property
    def depths(self) -> tuple[int, ...]:
        """Layers behind which each exit stands; the last one is the whole depth."""
        return (*self.layers, self.embedder.spec.num_layers)

    def walk(self, token_ids: Sequence[Sequence[int]], leave: Leave) -> None:
        """Take encoded texts through the layers, together, until each has left. Raises what `leave` does."""
        with self._lock:
            for texts in self._waves(token_ids):
                self._walk(texts, [token_ids[i] for i in texts], leave)

    def _waves(self, token_ids: Sequence[Sequence[int]]) -> Iterator[list[int]]:
        """Texts, by number, whose rows can be held together."""
        wave: list[int] = []
        num_tokens = 0
        for number, ids in enumerate(token_ids):
            if wave and num_tokens + len(ids) > self._held_tokens:
                yield wave
                wave, num_tokens = [], 0
            wave.append(number)
            num_tokens += len(ids)
        if wave:
            yield wave

    def _walk(self, texts: Sequence[int], token_ids: Sequence[Sequence[int]], leave: Leave) -> None:
        numbers = np.array(texts, np.int64)
        lengths = np.fromiter(map(len, token_ids), np.int32, len(token_ids))
        ids = np.fromiter(chain.from_iterable(token_ids), np.int32, int(lengths.sum()))
        starts = np.cumsum(lengths, dtype=np.int32) - lengths  # of each text, in `ids` or in the table
        for exit, part in enumerate(self._parts):
            starts, vectors = self._pass(exit, part, ids if exit == 0 else None, starts, lengths)
            stays = ~leave(exit, numbers, vectors)
            numbers, lengths, starts = numbers[stays], lengths[stays], starts[stays]
            if not len(numbers):
                return
        vectors = np.empty((len(numbers), self.embedder.dimensions), np.float32)
        for group in self._steps.groups(lengths):
            read = _rows_of(starts[group], lengths[group])
            vectors[group] = self._steps.run(self._last, read if self._parts else ids[read], lengths[group])
        leave(len(self._parts), numbers, vectors)

    def _pass(
        self, exit: int, part: _native.Program, ids: Ints | None, starts: Ints, lengths: Ints
    ) -> tuple[Ints, Vectors]:
        """Through one part: where the texts' rows begin in the next table, and the vectors of its exit.

        ids: the tokens; None: what the part reads are rows of the table before.
        """
        table, tail = self._rows[exit % 2], self._tails[exit % 2]
        begins = np.empty_like(starts)
        vectors = np.empty((len(lengths), self.embedder.dimensions), np.float32)
        at = 0
        for group in self._steps.groups(lengths):
            read, some = _rows_of(starts[group], lengths[group]), lengths[group]
            end = at + len(read)
            table[at:end] = self._steps.run(part, read if ids is None else ids[read], some, every_token=True)
            begins[group] = at + np.cumsum(some, dtype=np.int32) - some
            vectors[group] = self._steps.run(tail, np.arange(at, end, dtype=np.int32), some)
            at = end
        return begins, vectors


def check_layers(spec: ModelSpec, layers: Sequence[int]) -> tuple[int, ...]:
    """The layers behind which a model may be left, checked.

    Raises UnsupportedModelError for a model that has none, InvalidRequestError for what is no ascending list of them.
    """
    if spec.is_classifier:
        raise UnsupportedModelError(
            f"{spec.name} has one layer of convolutions side by side, and none to leave before; take a text encoder."
        )
    if not spec.is_encoder or spec.num_layers < 2:
        raise UnsupportedModelError(
            f"{spec.name} is no text encoder of several layers, which could be left before the last; take one such as "
            "minilm."
        )
    given = tuple(layers)
    whole = all(isinstance(one, int) and not isinstance(one, bool) for one in given)
    if not whole or any(not 1 <= one < spec.num_layers for one in given) or list(given) != sorted(set(given)):
        raise InvalidRequestError(
            f"the layers to leave behind must be ascending numbers from 1 to {spec.num_layers - 1} for {spec.name}, "
            f"not {brief(list(given))}."
        )
    return given


def _rows_of(starts: Ints, lengths: Ints) -> Ints:
    """Places of texts' rows, text by text."""
    ends = np.cumsum(lengths, dtype=np.int32)
    rows: Ints = np.arange(int(ends[-1]), dtype=np.int32) + np.repeat(starts - (ends - lengths), lengths)
    return rows


def _tensor(name: str, rows: Vectors) -> Tensor:
    return Tensor(name, TensorType.F32, rows.shape, rows.reshape(-1).view(np.uint8))
