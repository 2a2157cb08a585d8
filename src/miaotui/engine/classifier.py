"""`Classifier`: a text classifier, loaded and ready, from token ids to a score for each label."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from miaotui import _native
from miaotui.core import Activations
from miaotui.engine.embedder import STEP_TOKENS, in_8_bits
from miaotui.errors import ContextLengthError, InvalidRequestError, UnsupportedModelError
from miaotui.formats import ModelFile
from miaotui.graph.compile import CompileOptions, compile_graph
from miaotui.graph.nodes import Graph
from miaotui.models import build_graph

MAX_TEXTS = 256
"""Texts of one native call."""


class Classifier:
    """A model whose "logits" are scores of `labels`. Not safe to share between threads.

    activations: "int8" (default) or "int16" multiply the file's quantized weights, or weights of 8 bits made of its
        floats at load; "float32" multiplies floats.
    disabled_passes: names of fusions to leave out: slower, the same bits.

    A text's scores do not depend on the texts beside it, to the bit. Raises UnsupportedModelError for other models.
    """

    def __init__(
        self, file: ModelFile, *, activations: Activations = "int8", disabled_passes: Collection[str] = ()
    ) -> None:
        spec = file.spec
        if spec.convolutions is None:
            raise UnsupportedModelError(f"{spec.name} has no labels to score; take a text classifier.")
        self.labels = spec.convolutions.labels
        self.max_tokens = spec.context_length
        self._step_tokens = max(STEP_TOKENS, self.max_tokens)
        options = CompileOptions(
            activations=activations,
            disabled_passes=frozenset(disabled_passes),
            max_tokens=self._step_tokens,
            max_sequences=MAX_TEXTS,
            max_logit_rows=MAX_TEXTS,
        )
        weights = file.weights if activations == "float32" else in_8_bits(file)
        self.graph: Graph = build_graph(spec, weights)
        self._weights = weights  # the embedding is read from the file's mapping
        self.compiled = compile_graph(self.graph, weights, options=options)
        # A program reads and checks pages even where it has no use for them: one page stands for all of them.
        self._kv = _native.KvPool(1, 1, 16, 1, "f32")
        num_pages = -(-self.max_tokens // _native.KvPool.BLOCK_TOKENS)
        self._block_tables = np.zeros((MAX_TEXTS, num_pages), np.int32)

    def scores(self, texts: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        """Scores [texts, labels] of texts given as token ids.

        Raises InvalidRequestError for a text without tokens, ContextLengthError for one that is too long.
        """
        for number, ids in enumerate(texts):
            if not ids:
                raise InvalidRequestError(f"text {number} has no tokens; an encoder adds some even to an empty one.")
            if len(ids) > self.max_tokens:
                raise ContextLengthError(
                    f"text {number} has {len(ids)} tokens, but the model reads at most {self.max_tokens}; shorten it."
                )
        scores = np.empty((len(texts), len(self.labels)), np.float32)
        at = 0
        while at < len(texts):
            end, num_tokens = at, 0
            while end < len(texts) and end - at < MAX_TEXTS and num_tokens + len(texts[end]) <= self._step_tokens:
                num_tokens += len(texts[end])
                end += 1
            scores[at:end] = self._step(texts[at:end])
            at = end
        return scores

    def _step(self, texts: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        lengths = np.fromiter(map(len, texts), np.int32, len(texts))
        offsets = np.zeros(len(texts) + 1, np.int32)
        np.cumsum(lengths, out=offsets[1:])
        num_tokens = int(offsets[-1])
        ids = np.fromiter(chain.from_iterable(texts), np.int32, num_tokens)
        positions = np.arange(num_tokens, dtype=np.int32) - np.repeat(offsets[:-1], lengths)
        program = self.compiled.program
        program.run(self._kv, ids, positions, offsets, self._block_tables[: len(texts)], offsets[:-1])
        return program.logits.copy()
