from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest

from engine.tiny_bert import HIDDEN, MAX_TOKENS, PIECES, some_texts, write_tiny_bert
from miaotui import LLM, Embedder
from miaotui.errors import (
    ContextLengthError,
    InvalidRequestError,
    ModelFileError,
    TokenizerError,
    UnsupportedModelError,
)

TOO_LONG = "cat " * 40


@pytest.fixture(scope="module")
def embedder(tiny_bert: Path) -> Embedder:
    return Embedder(tiny_bert)


def test_a_vector_has_unit_length_and_float32(embedder: Embedder) -> None:
    vectors = embedder.embed(some_texts(20))
    assert vectors.shape == (20, HIDDEN)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)


def test_a_vector_has_the_same_bits_alone_and_in_any_company(embedder: Embedder) -> None:
    texts = some_texts(60)
    together = embedder.embed(texts)
    for at in (0, 7, 59):
        np.testing.assert_array_equal(embedder.embed([texts[at]])[0], together[at])
    order = np.random.default_rng(1).permutation(60)
    np.testing.assert_array_equal(embedder.embed([texts[i] for i in order]), together[order])


def test_steps_of_any_size_give_the_same_bits(tiny_bert: Path, embedder: Embedder) -> None:
    texts = some_texts(40)
    with Embedder(tiny_bert, max_tokens_per_step=1) as small:  # never less than one text may need
        assert small.step_tokens == MAX_TOKENS
        np.testing.assert_array_equal(small.embed(texts), embedder.embed(texts))


def test_more_texts_than_are_read_at_once_come_back_in_order(
    embedder: Embedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = some_texts(25)
    expected = embedder.embed(texts)
    monkeypatch.setattr("miaotui.engine.embedder.TEXTS_AT_ONCE", 4)
    np.testing.assert_array_equal(embedder.embed(texts), expected)


def test_8_bits_hardly_turn_a_vector(tiny_bert: Path, embedder: Embedder) -> None:
    texts = some_texts(30)
    with Embedder(tiny_bert, activations="float32") as exact, Embedder(tiny_bert, activations="int16") as finer:
        want = exact.embed(texts)
        assert (embedder.embed(texts) * want).sum(1).min() > 0.9995
        assert (finer.embed(texts) * want).sum(1).min() > 0.9998
        assert np.abs(embedder.embed(texts) - want).max() > 1e-5  # 8 bits were really taken


def test_no_texts_make_no_vectors_and_an_empty_text_makes_one(embedder: Embedder) -> None:
    assert embedder.embed([]).shape == (0, HIDDEN)
    assert np.isfinite(embedder.embed([""])).all()


@pytest.mark.parametrize("dimensions", [1, 7, HIDDEN])
def test_fewer_dimensions_are_the_first_ones_at_unit_length(embedder: Embedder, dimensions: int) -> None:
    texts = some_texts(5)
    whole, short = embedder.embed(texts), embedder.embed(texts, dimensions=dimensions)
    assert short.shape == (5, dimensions)
    np.testing.assert_allclose(np.linalg.norm(short, axis=1), 1, atol=1e-6)
    first = whole[:, :dimensions]
    np.testing.assert_allclose(short, first / np.linalg.norm(first, axis=1, keepdims=True), atol=1e-6)
    np.testing.assert_array_equal(embedder.embed(texts[2:3], dimensions=dimensions)[0], short[2])


@pytest.mark.parametrize("dimensions", [0, -1, HIDDEN + 1, 1.5, True, "8"])
def test_dimensions_that_do_not_exist_are_refused(embedder: Embedder, dimensions: object) -> None:
    with pytest.raises(InvalidRequestError, match=f"dimensions must be a whole number from 1 to {HIDDEN}"):
        embedder.embed(["a"], dimensions=dimensions)  # type: ignore[arg-type]


def test_a_text_that_is_too_long_is_refused_by_number_unless_it_is_to_be_cut(embedder: Embedder) -> None:
    with pytest.raises(ContextLengthError, match=r"text 1 has 42 tokens, but .* reads at most 32; .*truncate"):
        embedder.embed(["a cat", TOO_LONG])
    with pytest.raises(ContextLengthError, match="the text has 42 tokens"):
        embedder.embed([TOO_LONG])
    cut = embedder.embed([TOO_LONG], truncate=True)
    np.testing.assert_array_equal(cut, embedder.embed(["cat " * (MAX_TOKENS - 2)]))


@pytest.mark.parametrize("texts", ["one text", 5, [1], ["a", None], [["a"]], [b"a"]])
def test_what_is_no_list_of_texts_is_refused(embedder: Embedder, texts: object) -> None:
    with pytest.raises(InvalidRequestError, match="texts must be a list of texts"):
        embedder.embed(texts)  # type: ignore[arg-type]


def test_half_a_surrogate_pair_is_refused(embedder: Embedder) -> None:
    with pytest.raises(TokenizerError, match="half a surrogate pair"):
        embedder.embed(["\ud800"])


def test_control_tokens_in_a_text_are_text(embedder: Embedder) -> None:
    (ids,) = embedder.encode(["a [SEP] cat"])
    assert ids.count(PIECES.index("[SEP]")) == 1


def test_threads_share_an_embedder(embedder: Embedder) -> None:
    texts = [some_texts(10, seed) for seed in range(4)]
    expected = [embedder.embed(part) for part in texts]
    got: dict[int, np.ndarray] = {}
    threads = [
        threading.Thread(target=lambda i=i: got.update({i: embedder.embed(texts[i])}))  # type: ignore[misc]
        for i in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i in range(4):
        np.testing.assert_array_equal(got[i], expected[i])


def test_a_closed_embedder_says_so(tiny_bert: Path) -> None:
    with Embedder(tiny_bert) as embedder:
        pass
    embedder.close()
    with pytest.raises(InvalidRequestError, match="closed"):
        embedder.embed(["a"])


def test_a_model_that_writes_is_refused(tiny_model: Path) -> None:
    with pytest.raises(UnsupportedModelError, match=r"makes no embeddings.* minilm"):
        Embedder(tiny_model)


def test_weights_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    damaged = write_tiny_bert(tmp_path, damage="encoder.layer.1.output.dense.weight")
    with pytest.raises(ModelFileError, match=r"encoder\.layer\.1\.output\.dense\.weight.*not finite"):
        Embedder(damaged)


def test_an_llm_of_a_text_encoder_embeds_and_writes_nothing(tiny_bert: Path) -> None:
    texts = some_texts(3)
    with LLM(tiny_bert, activations="int8") as llm, Embedder(tiny_bert) as embedder:
        np.testing.assert_array_equal(llm.embed(texts, dimensions=8), embedder.embed(texts, dimensions=8))
        assert llm.spec.is_encoder
        with pytest.raises(InvalidRequestError, match=r"makes embeddings and writes no text; call embed"):
            llm.generate("Hi")
    with pytest.raises(InvalidRequestError, match="closed"):
        llm.embed(texts)


def test_an_llm_that_writes_makes_no_embeddings(tiny_model: Path) -> None:
    with LLM(tiny_model) as llm, pytest.raises(InvalidRequestError, match=r"makes no embeddings; .* minilm"):
        llm.embed(["a"])
