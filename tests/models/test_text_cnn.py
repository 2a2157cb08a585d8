"""The text classifier against PyTorch: the NumPy interpreter and the native program, whole and separable."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from graph.numpy_reference import NumpyBatch, NumpyKv, NumpyProgram
from miaotui import LLM, Embedder
from miaotui.core import ACTIVATIONS
from miaotui.engine.classifier import Classifier
from miaotui.errors import ContextLengthError, InvalidRequestError, ModelFileError, UnsupportedModelError
from miaotui.formats import open_model
from miaotui.formats.convolutions import Convolutions
from miaotui.graph.cost import Workload, total_cost
from miaotui.graph.passes import PASSES, optimize
from miaotui.models import build_graph
from models.tiny_text_cnn import (
    CONTEXT,
    FILTERS,
    HIDDEN,
    SEPARABLE,
    WHOLE,
    TinyTextCnn,
    random_arrays,
    tiny_text_cnn,
    write_text_cnn,
)

TEXTS = [[5, 7, 9, 11, 2], [1], list(range(20, 57)), [3, 3, 3], [8, 4]]  # most are shorter than the widest window
FORMS = {"whole": WHOLE, "separable": SEPARABLE}


@pytest.fixture(params=FORMS)
def tiny(request: pytest.FixtureRequest, tmp_path: Path) -> TinyTextCnn:
    return tiny_text_cnn(tmp_path, FORMS[request.param])


def run_numpy(tiny: TinyTextCnn) -> np.ndarray:
    offsets = np.cumsum([0, *map(len, TEXTS)]).tolist()
    positions = [i for text in TEXTS for i in range(len(text))]
    batch = NumpyBatch([t for text in TEXTS for t in text], positions, offsets, range(len(TEXTS)), offsets[:-1])
    return NumpyProgram(build_graph(tiny.file.spec, tiny.file.weights), tiny.file.weights).run(batch, NumpyKv())


def test_scores_equal_those_of_pytorch(tiny: TinyTextCnn) -> None:
    want = tiny.scores(TEXTS)
    np.testing.assert_allclose(run_numpy(tiny), want, atol=1e-8)
    np.testing.assert_allclose(Classifier(tiny.file, activations="float32").scores(TEXTS), want, atol=1e-4)


@pytest.mark.parametrize(("activations", "error"), [("int16", 0.02), ("int8", 0.05)])
def test_8_bits_hardly_change_a_score(activations: Any, error: float, tiny: TinyTextCnn) -> None:
    want = tiny.scores(TEXTS)
    got = Classifier(tiny.file, activations=activations).scores(TEXTS)
    assert 0 < np.abs(got - want).max() < error * np.abs(want).max()


@pytest.mark.parametrize("activations", ACTIVATIONS)
def test_switching_off_any_pass_changes_no_bit(activations: Any, tiny: TinyTextCnn) -> None:
    want = Classifier(tiny.file, activations=activations).scores(TEXTS)
    for off in (*([name] for name in PASSES), list(PASSES)):
        got = Classifier(tiny.file, activations=activations, disabled_passes=off).scores(TEXTS)
        np.testing.assert_array_equal(got, want, err_msg=f"without {off}")


@pytest.mark.parametrize("activations", ACTIVATIONS)
def test_a_text_s_scores_do_not_depend_on_its_company(activations: Any, tiny: TinyTextCnn) -> None:
    classifier = Classifier(tiny.file, activations=activations)
    together = classifier.scores(TEXTS)
    np.testing.assert_array_equal(np.concatenate([classifier.scores([text]) for text in TEXTS]), together)
    np.testing.assert_array_equal(classifier.scores(TEXTS[::-1])[::-1], together)
    np.testing.assert_array_equal(classifier.scores(TEXTS * 60)[-len(TEXTS) :], together)  # more than one step


@pytest.mark.parametrize("form", FORMS)
def test_rows_are_quantized_once_whatever_the_number_of_windows(form: str, tmp_path: Path) -> None:
    classifier = Classifier(tiny_text_cnn(tmp_path, FORMS[form]).file)
    kinds = [node.kind for node in optimize(classifier.graph, activations="int8").nodes]
    assert kinds.count("quantize") == 1  # filters and ReLU write codes themselves
    assert kinds.count("windows") == FORMS[form].ranks.count(0)


def test_separable_filters_cost_what_is_said_of_them(tmp_path: Path) -> None:
    costs = {}
    for name, form in FORMS.items():
        file = tiny_text_cnn(tmp_path, form).file
        nodes = [n for n in build_graph(file.spec, file.weights).nodes if n.kind in ("linear", "depthwise")][:-1]
        costs[name] = total_cost(nodes, Workload(num_tokens=10)).flops / 20
    assert costs["whole"] == (3 + 4 + 7) * HIDDEN * FILTERS
    separable = HIDDEN * (3 + FILTERS) + 2 * HIDDEN * (4 + FILTERS) + 7 * HIDDEN * FILTERS
    assert costs["separable"] == separable


def test_texts_that_cannot_be_scored_are_named(tiny: TinyTextCnn) -> None:
    classifier = Classifier(tiny.file)
    assert classifier.labels == ("no", "yes")
    assert classifier.scores([]).shape == (0, 2)
    with pytest.raises(InvalidRequestError, match="text 1 has no tokens"):
        classifier.scores([[1], []])
    with pytest.raises(ContextLengthError, match=f"text 0 has {CONTEXT + 1} tokens"):
        classifier.scores([[1] * (CONTEXT + 1)])


def test_a_classifier_is_not_taken_for_another_kind_of_model(tiny: TinyTextCnn) -> None:
    with pytest.raises(UnsupportedModelError, match="writes none"):
        LLM(tiny.path)
    with pytest.raises(UnsupportedModelError, match="makes no embeddings"):
        Embedder(tiny.file)


HOSTILE: dict[str, tuple[dict[str, Any], str]] = {
    "no taps": ({"taps": (3, 0, 7)}, "sees 0 tokens"),
    "a huge kernel": ({"taps": (3, 2**31 - 1, 7)}, "sees 2147483647 tokens"),
    "a negative kernel": ({"taps": (3, -4, 7)}, "sees -4 tokens"),
    "no convolution": ({"taps": (), "ranks": ()}, "list of 1 to"),
    "a rank that says nothing": ({"ranks": (0, 5, 0)}, "rank 5"),
    "a negative rank": ({"ranks": (0, -1, 0)}, "rank -1"),
    "ranks of other convolutions": ({"ranks": (0, 0)}, "2 ranks are given for 3"),
    "no labels": ({"labels": ()}, "output_labels"),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_hostile_settings_are_refused(what: str, tmp_path: Path) -> None:
    changes, message = HOSTILE[what]
    damaged = object.__new__(Convolutions)
    for name in ("taps", "ranks", "labels"):
        object.__setattr__(damaged, name, changes.get(name, getattr(WHOLE, name)))
    path = write_text_cnn(tmp_path / "bad.gguf", damaged, random_arrays(WHOLE))
    with pytest.raises(ModelFileError, match=message):
        open_model(path)


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("blk.1.conv.weight", (FILTERS, 3 * HIDDEN), "contradicts itself"),
        ("blk.1.conv.weight", (FILTERS + 1, 4 * HIDDEN), "contradicts itself"),
        ("blk.1.conv.bias", (FILTERS - 1,), "contradicts itself"),
        ("cls.output.weight", (2, FILTERS), "contradicts itself"),
        ("token_embd.weight", (90, HIDDEN // 2), "contradicts itself"),
        ("blk.0.conv_depthwise.weight", (3 * HIDDEN,), "not part of architecture"),
    ],
)
def test_channels_that_do_not_match_are_refused(
    name: str, shape: tuple[int, ...], message: str, tmp_path: Path
) -> None:
    arrays = random_arrays(WHOLE) | {name: np.zeros(shape, np.float32)}
    file = open_model(write_text_cnn(tmp_path / "bad.gguf", WHOLE, arrays))
    with pytest.raises((ModelFileError, UnsupportedModelError), match=message):
        Classifier(file)
