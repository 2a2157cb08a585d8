"""A text gives the same bits wherever its model is cut, whoever is beside it and whoever leaves before."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from engine.tiny_bert import HIDDEN, some_texts, write_tiny_bert
from miaotui import Embedder
from miaotui.compress.trials import without_layers
from miaotui.core import ACTIVATIONS
from miaotui.engine.cut_encoder import CutEncoder, check_layers
from miaotui.engine.text_steps import TextSteps
from miaotui.errors import InvalidRequestError, UnsupportedModelError
from miaotui.formats import open_model
from miaotui.graph.compile import CompileOptions, compile_graph
from models.tiny_text_cnn import WHOLE, random_arrays, write_text_cnn

NUM_LAYERS = 4
Choose = Callable[[int, np.ndarray], np.ndarray]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_bert(tmp_path_factory.mktemp("models") / "four-layers", layers=NUM_LAYERS)


@pytest.fixture(scope="module")
def embedder(model: Path) -> Iterator[Embedder]:
    with Embedder(model) as opened:
        yield opened


def walked(
    encoder: CutEncoder, ids: Sequence[Sequence[int]], leaves: Choose = lambda exit, numbers: numbers < 0
) -> list[np.ndarray]:
    """Vectors of each exit [texts, columns]; NaN where a text never came."""
    found = [np.full((len(ids), HIDDEN), np.nan, np.float32) for _ in encoder.depths]

    def leave(exit: int, numbers: np.ndarray, vectors: np.ndarray) -> np.ndarray:
        assert np.isnan(found[exit][numbers]).all()
        found[exit][numbers] = vectors
        return leaves(exit, numbers)

    encoder.walk(ids, leave)
    return found


@pytest.mark.parametrize("activations", ACTIVATIONS)
@pytest.mark.parametrize("layers", [(), (1,), (3,), (1, 3), (1, 2, 3)])
def test_the_whole_depth_gives_the_embedder_s_bits(model: Path, activations: str, layers: tuple[int, ...]) -> None:
    with Embedder(model, activations=activations) as embedder:  # type: ignore[arg-type]
        texts = some_texts(30)
        found = walked(CutEncoder(embedder, layers), embedder.encode(texts))
        assert len(found) == len(layers) + 1
        np.testing.assert_array_equal(found[-1], embedder.embed(texts))


def test_an_exit_gives_what_a_model_of_so_many_layers_would(embedder: Embedder) -> None:
    ids = embedder.encode(some_texts(12))
    found = walked(CutEncoder(embedder, (1, 2, 3)), ids)
    options = CompileOptions(activations="int8", max_sequences=12, max_logit_rows=12)
    for depth in (1, 2, 3):
        graph = without_layers(embedder.graph, range(depth, NUM_LAYERS))
        program = compile_graph(graph, embedder.weights, options=options, packed=embedder.packed).program
        steps = TextSteps(embedder.max_tokens, 512, 12)
        lengths = np.array([len(one) for one in ids], np.int32)
        want = steps.run(program, np.concatenate(ids).astype(np.int32), lengths)
        np.testing.assert_array_equal(found[depth - 1], want)


def test_a_text_has_the_same_bits_alone_and_wherever_others_leave(embedder: Embedder) -> None:
    ids = embedder.encode(some_texts(60))
    encoder = CutEncoder(embedder, (1, 2, 3))
    together = walked(encoder, ids)
    left_at = np.random.default_rng(1).integers(0, 4, 60)
    parted = walked(encoder, ids, lambda exit, numbers: left_at[numbers] == exit)
    for number, last in enumerate(left_at):
        for exit in range(4):
            if exit <= last:
                np.testing.assert_array_equal(parted[exit][number], together[exit][number])
            else:
                assert np.isnan(parted[exit][number]).all()
    for number in (0, 17, 59):
        alone = walked(encoder, [ids[number]])
        for exit in range(4):
            np.testing.assert_array_equal(alone[exit][0], together[exit][number])


def test_steps_and_waves_of_any_size_give_the_same_bits(
    model: Path, embedder: Embedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = embedder.encode(some_texts(50))
    want = walked(CutEncoder(embedder, (1, 3)), ids)
    monkeypatch.setattr("miaotui.engine.cut_encoder.HELD_STEPS", 2)
    with Embedder(model, max_tokens_per_step=1) as small:
        found = walked(CutEncoder(small, (1, 3)), ids)
    for some, others in zip(found, want, strict=True):
        np.testing.assert_array_equal(some, others)


def test_when_all_have_left_nothing_more_is_computed(embedder: Embedder) -> None:
    ids = embedder.encode(some_texts(5))
    found = walked(CutEncoder(embedder, (1, 2)), ids, lambda exit, numbers: numbers >= 0)
    assert np.isfinite(found[0]).all()
    assert np.isnan(found[1]).all()
    assert np.isnan(found[2]).all()
    assert [len(one) for one in walked(CutEncoder(embedder, (1,)), [])] == [0, 0]


@pytest.mark.parametrize("layers", [(0,), (4,), (2, 1), (1, 1), (True,), ("1",), (1.0,)], ids=str)
def test_layers_that_cannot_be_left_behind_are_refused(embedder: Embedder, layers: tuple[int, ...]) -> None:
    with pytest.raises(InvalidRequestError, match="ascending numbers from 1 to 3"):
        CutEncoder(embedder, layers)


def test_models_without_layers_to_leave_are_refused_by_what_they_are(tmp_path: Path) -> None:
    cnn = open_model(write_text_cnn(tmp_path / "cnn.gguf", WHOLE, random_arrays(WHOLE)))
    with pytest.raises(UnsupportedModelError, match="one layer of convolutions side by side"):
        check_layers(cnn.spec, ())
    single = open_model(write_tiny_bert(tmp_path / "single", layers=1))
    with pytest.raises(UnsupportedModelError, match="no text encoder of several layers"):
        check_layers(single.spec, ())


def test_a_fingerprint_names_weights_and_arithmetic(
    model: Path, embedder: Embedder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MIAOTUI_HOME", str(tmp_path / "home"))
    same, other = (write_tiny_bert(tmp_path / str(seed), seed=seed, layers=NUM_LAYERS) for seed in (0, 1))
    with Embedder(same) as one, Embedder(other) as another, Embedder(model, activations="int16") as finer:
        assert one.fingerprint() == embedder.fingerprint()
        assert len({one.fingerprint(), another.fingerprint(), finer.fingerprint()}) == 3
