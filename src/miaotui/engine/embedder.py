"""`Embedder`: one text encoder, loaded and ready, that turns texts into vectors of unit length."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Collection, Sequence
from dataclasses import replace
from itertools import chain
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from miaotui.core import Activations
from miaotui.engine.loading import file_digest, find_model
from miaotui.engine.text_steps import TextSteps
from miaotui.errors import ContextLengthError, InvalidRequestError, UnsupportedModelError, brief
from miaotui.formats import ModelFile
from miaotui.formats.quantized import GROUP, Q8Weights
from miaotui.formats.spec import ModelSpec
from miaotui.formats.weights import Weights
from miaotui.formats.wordpiece import TextEncoder
from miaotui.graph.compile import CompiledProgram, CompileOptions, compile_graph, pack_matrices
from miaotui.graph.nodes import FLOAT_TYPES, Graph
from miaotui.graph.pack_cache import Packed
from miaotui.models import build_graph

Vectors = NDArray[np.float32]
STEP_TOKENS = 512
"""Tokens of one native call: enough to share each weight well, few enough to stay in the second cache."""
TEXTS_AT_ONCE = 1024
"""Texts that are turned into tokens before the first of them are computed; more memory would buy nothing."""


class Embedder:
    """A text encoder (BERT's kind: MiniLM, BGE, E5). A context manager; `close` frees its memory.

    model: a name in the model store ("minilm"), the path of a Hugging Face folder or a GGUF file, or an opened file.
    activations: "int8" (default) or "int16" multiply the file's quantized weights, or weights of 8 bits made of its
        floats at load, with rows of so many bits; "float32" multiplies floats: exact, and several times slower.
    max_tokens_per_step: texts go through the model together until they have so many tokens.
    disabled_passes: names of fusions to leave out: slower, the same bits.

    A text's vector does not depend on the texts beside it, to the bit. Methods may be called from several threads.
    Raises UnsupportedModelError for a model that writes text.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | ModelFile,
        *,
        activations: Activations = "int8",
        max_tokens_per_step: int = STEP_TOKENS,
        disabled_passes: Collection[str] = (),
    ) -> None:
        file = model if isinstance(model, ModelFile) else find_model(model)
        if not file.spec.is_encoder:
            raise UnsupportedModelError(
                f"{file.spec.name} makes no embeddings; take a text encoder, for example minilm."
            )
        self.file, self.activations = file, activations
        self.disabled_passes = frozenset(disabled_passes)
        self._text_encoder = TextEncoder.from_model(file)
        self._step_tokens = max(max_tokens_per_step, self.max_tokens)
        self._max_sequences = max(self._step_tokens // max(self._text_encoder.num_around, 1), 1)
        options = CompileOptions(
            activations=activations,
            disabled_passes=self.disabled_passes,
            max_tokens=self._step_tokens,
            max_sequences=self._max_sequences,
            max_logit_rows=self._max_sequences,
        )
        self.weights = file.weights if activations == "float32" else in_8_bits(file)
        self.graph: Graph = build_graph(file.spec, self.weights)
        self.packed: Packed = pack_matrices(self.graph, self.weights)
        self._compiled: CompiledProgram | None = compile_graph(
            self.graph, self.weights, options=options, packed=self.packed
        )
        self._steps = TextSteps(self.max_tokens, self._step_tokens, self._max_sequences)
        self._lock = threading.Lock()

    @property
    def spec(self) -> ModelSpec:
        """Architecture and hyper-parameters."""
        return self.file.spec

    @property
    def dimensions(self) -> int:
        """Width of a whole vector."""
        return self.spec.hidden_size

    @property
    def max_tokens(self) -> int:
        """Most tokens of one text, those around it included: what the model was made for, or its positions."""
        return self.spec.longest_text

    @property
    def step_tokens(self) -> int:
        """Most tokens of one step."""
        return self._step_tokens

    @property
    def step_texts(self) -> int:
        """Most texts of one step."""
        return self._max_sequences

    @property
    def compiled(self) -> CompiledProgram:
        """The native program. Raises InvalidRequestError after `close`."""
        if self._compiled is None:
            raise InvalidRequestError("this embedder is closed; create another one.")
        return self._compiled

    def embed(self, texts: Sequence[str], *, dimensions: int | None = None, truncate: bool = False) -> Vectors:
        """Vectors of unit length, float32 [texts, dimensions], in the order of the texts.

        dimensions: only the first so many of each vector, at unit length again; None: all.
        truncate: whether a text that is too long is cut; otherwise it raises ContextLengthError.
        Raises InvalidRequestError for what is no list of texts, TokenizerError for lone surrogates.
        """
        check_texts(texts)
        check_dimensions(dimensions, self.dimensions)
        vectors = np.empty((len(texts), self.dimensions), np.float32)
        for start in range(0, len(texts), TEXTS_AT_ONCE):
            some = texts[start : start + TEXTS_AT_ONCE]
            vectors[start : start + len(some)] = self.vectors(self.encode(some, truncate=truncate, first=start))
        return shorten(vectors, dimensions)

    def encode(self, texts: Sequence[str], *, truncate: bool = False, first: int = 0) -> list[list[int]]:
        """Token ids of texts, which are called `first`, `first` + 1, … in errors. Raises as `embed` does."""
        encoded = self._text_encoder.encode(texts)
        for i, ids in enumerate(encoded):
            if len(ids) <= self.max_tokens:
                continue
            if not truncate:
                which = f"text {first + i}" if len(texts) > 1 or first else "the text"
                raise ContextLengthError(
                    f"{which} has {len(ids)} tokens, but {self.spec.name} reads at most {self.max_tokens}; "
                    "shorten or split it, or ask for it to be cut (truncate)."
                )
            encoded[i] = self._text_encoder.cut(ids, self.max_tokens)
        return encoded

    def vectors(self, token_ids: Sequence[Sequence[int]]) -> Vectors:
        """Whole vectors of encoded texts, float32 [texts, dimensions]."""
        vectors = np.empty((len(token_ids), self.dimensions), np.float32)
        for chosen in self._steps.groups([*map(len, token_ids)]):
            vectors[chosen] = self.step([token_ids[i] for i in chosen])
        return vectors

    def step(self, token_ids: Sequence[Sequence[int]]) -> Vectors:
        """One native call: whole vectors of encoded texts that have at most `step_tokens` tokens together."""
        lengths = np.fromiter(map(len, token_ids), np.int32, len(token_ids))
        ids = np.fromiter(chain.from_iterable(token_ids), np.int32, int(lengths.sum()))
        with self._lock:
            return self._steps.run(self.compiled.program, ids, lengths).copy()

    def fingerprint(self) -> str:
        """SHA-256, in hexadecimal, of what vectors depend on: the files, settings, vocabulary and arithmetic.

        The first time, the model's files are read, about a second per gigabyte. Raises OSError and ValueError where
        they have gone or changed.
        """
        settings = replace(self.spec, name="")
        vocabulary = sorted(self._text_encoder.vocabulary.items())
        facts = (file_digest(self.file), settings, vocabulary, self.activations)
        return hashlib.sha256(repr(facts).encode("utf-8", "surrogatepass")).hexdigest()

    def close(self) -> None:
        """Give the memory back. Harmless when repeated."""
        with self._lock:
            self._compiled, self.packed = None, {}

    def __enter__(self) -> Embedder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def in_8_bits(file: ModelFile) -> Weights:
    """The file's weights, those that integers can be multiplied with as such."""
    graph = build_graph(file.spec, file.weights)
    products = (node for node in graph.nodes if node.kind in ("linear", "gated_linear"))
    matrices = (weight for node in products for weight in node.matrices)
    return Q8Weights(file.weights, {w.tensor for w in matrices if w.type in FLOAT_TYPES and w.num_cols % GROUP == 0})


def check_texts(texts: object) -> None:
    """Raise InvalidRequestError unless this is a list of texts."""
    if isinstance(texts, str) or not isinstance(texts, Sequence):
        raise InvalidRequestError(f"texts must be a list of texts, not {brief(texts)}; give one text as [text].")
    for i, text in enumerate(texts):
        if not isinstance(text, str):
            raise InvalidRequestError(f"texts must be a list of texts, but item {i} is {brief(text)}.")


def check_dimensions(dimensions: int | None, most: int) -> None:
    """Raise InvalidRequestError unless a vector has so many dimensions."""
    whole = isinstance(dimensions, int) and not isinstance(dimensions, bool)
    if dimensions is not None and not (whole and 1 <= dimensions <= most):
        raise InvalidRequestError(f"dimensions must be a whole number from 1 to {most}, not {brief(dimensions)}.")


def shorten(vectors: Vectors, dimensions: int | None) -> Vectors:
    """The first `dimensions` columns at unit length again (arXiv:2205.13147); None leaves the vectors as they are.

    Each row is summed alone, so that what comes out does not depend on the rows beside it.
    """
    if dimensions is None or dimensions == vectors.shape[1]:
        return vectors
    short = np.ascontiguousarray(vectors[:, :dimensions])
    lengths = np.sqrt(np.square(short).sum(axis=1, keepdims=True))
    np.divide(short, lengths, out=short, where=lengths > 0)
    return short
