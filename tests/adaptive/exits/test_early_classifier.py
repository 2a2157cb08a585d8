"""Labels do not depend on company, keep to the threshold, and are the whole depth's where nothing leaves early."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from adaptive.exits.conftest import NUM_LAYERS, labelled
from engine.tiny_bert import write_tiny_bert
from miaotui import Embedder
from miaotui.adaptive.exits import EarlyClassifier, Exits, Trained, evaluate, train
from miaotui.adaptive.exits.head import surest
from miaotui.errors import ContextLengthError, ExitsError, InvalidRequestError, UnsupportedModelError


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trained]:
    """On an encoder of its own, for the module's length; every layer has an exit."""
    home = tmp_path_factory.mktemp("models")
    folder = write_tiny_bert(home / "four-layers", layers=NUM_LAYERS)
    with pytest.MonkeyPatch.context() as patch, Embedder(folder) as embedder:
        patch.setenv("MIAOTUI_HOME", str(home))
        yield train(embedder, labelled(1500, noise=0.2), floor=0.95, layers=(1, 2, 3))


@pytest.fixture
def exits(trained: Trained, embedder: Embedder) -> Exits:
    """With a threshold that half of the texts pass behind the first layer."""
    first = EarlyClassifier(embedder, replace(trained.exits, threshold=0.0))
    sure = [one.probability for one in first.classify([text for text, _ in labelled(101, seed=9)])]
    return replace(trained.exits, threshold=float(np.median(sure)))


@pytest.fixture
def classifier(encoder_path: Path, exits: Exits) -> Iterator[EarlyClassifier]:
    with EarlyClassifier(encoder_path, exits) as opened:
        yield opened


def test_what_was_learned_holds_on_other_texts(trained: Trained, encoder_path: Path) -> None:
    found = trained.calibration
    assert found.depths == (1, 2, 3, NUM_LAYERS)
    assert found.num_rows == pytest.approx(0.45 * 1500, abs=1)
    assert found.whole_accuracy > 0.75  # 0.9 could be had
    with EarlyClassifier(encoder_path, trained.exits) as classifier:
        outcome = evaluate(classifier, labelled(300, seed=1))
    assert outcome.whole.value > 0.8
    assert outcome.kept_accuracy.value > 0.9
    assert sum(outcome.leaving.values()) == pytest.approx(1.0)


def test_a_label_is_the_same_alone_and_in_any_company(classifier: EarlyClassifier) -> None:
    texts = [text for text, _ in labelled(120, seed=2)]
    together = classifier.classify(texts)
    assert len({one.layers for one in together}) > 1
    for number in (0, 50, 119):
        assert classifier.classify([texts[number]]) == [together[number]]
    order = np.random.default_rng(0).permutation(120)
    assert classifier.classify([texts[i] for i in order]) == [together[i] for i in order]


def test_a_text_leaves_by_the_first_exit_that_is_sure(classifier: EarlyClassifier, exits: Exits) -> None:
    texts = [text for text, _ in labelled(80, seed=3)]
    for one in classifier.classify(texts):
        assert one.layers == NUM_LAYERS or one.probability >= (exits.threshold or 0.0)
    sooner = EarlyClassifier(classifier.embedder, replace(exits, threshold=0.0))
    assert {one.layers for one in sooner.classify(texts)} == {1}
    later = EarlyClassifier(classifier.embedder, replace(exits, threshold=1.0))
    assert {one.layers for one in later.classify(texts)} == {NUM_LAYERS}


def test_the_whole_depth_is_the_last_head_on_the_embedder_s_vectors(classifier: EarlyClassifier, exits: Exits) -> None:
    texts = [text for text, _ in labelled(50, seed=4)]
    labels, shares = surest(exits.heads[-1].scores(classifier.embedder.embed(texts)))
    whole = classifier.classify(texts, whole=True)
    assert [(one.label, one.probability) for one in whole] == [
        (exits.labels[label], share) for label, share in zip(labels, shares.tolist(), strict=True)
    ]
    never = EarlyClassifier(classifier.embedder, replace(exits, threshold=None))
    assert never.classify(texts) == whole
    cut = EarlyClassifier(classifier.embedder, replace(exits, threshold=1.0))
    assert cut.classify(texts) == whole


def test_more_texts_than_are_read_at_once_come_back_in_order(
    classifier: EarlyClassifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [text for text, _ in labelled(25, seed=5)]
    want = classifier.classify(texts)
    monkeypatch.setattr("miaotui.adaptive.exits.early_classifier.TEXTS_AT_ONCE", 4)
    assert classifier.classify(texts) == want
    assert classifier.classify([]) == []


def test_the_order_of_rows_and_equal_rows_train_the_same(embedder: Embedder) -> None:
    rows = labelled(200, noise=0.1)
    some, again = train(embedder, rows), train(embedder, rows)
    assert some.calibration == again.calibration
    for head, same in zip(some.exits.heads, again.exits.heads, strict=True):
        np.testing.assert_array_equal(head.weights, same.weights)


def test_exits_are_for_their_own_model_and_arithmetic(tmp_path: Path, encoder_path: Path, exits: Exits) -> None:
    other = write_tiny_bert(tmp_path / "other", seed=7, layers=NUM_LAYERS)
    with pytest.raises(ExitsError, match="trained for another model than other"):
        EarlyClassifier(other, exits)
    with Embedder(encoder_path, activations="int16") as finer, pytest.raises(ExitsError, match="activations int8"):
        EarlyClassifier(finer, exits)


def test_rows_that_teach_nothing_are_refused(embedder: Embedder) -> None:
    for rows, why in (
        (labelled(5), "20 to 100000 labelled rows"),
        ([(text, "cat") for text, _ in labelled(30)], "2 to 256 labels apart, not 1"),
        ([(text, str(number)) for number, (text, _) in enumerate(labelled(300))], "2 to 256 labels apart, not 300"),
        ([(text, str(number % 25)) for number, (text, _) in enumerate(labelled(25))], "too rare to learn from"),
    ):
        with pytest.raises(InvalidRequestError, match=why):
            train(embedder, rows)
    with pytest.raises(InvalidRequestError, match="floor must be"):
        train(embedder, labelled(30), floor=2.0)
    with pytest.raises(InvalidRequestError, match="ascending numbers from 1 to 3"):
        train(embedder, labelled(30), layers=(4,))


def test_long_texts_are_refused_by_number_unless_they_are_to_be_cut(embedder: Embedder) -> None:
    rows = [*labelled(40), ("cat " * 40, "cat")]
    with pytest.raises(ContextLengthError, match="at most 32"):
        train(embedder, rows)
    assert train(embedder, rows, truncate=True).exits.labels == ("cat", "dog")


def test_an_encoder_of_one_layer_has_no_exits(tmp_path: Path) -> None:
    why = "no text encoder of several layers"
    single = write_tiny_bert(tmp_path / "single", layers=1)
    with Embedder(single) as embedder, pytest.raises(UnsupportedModelError, match=why):
        train(embedder, labelled(30))
