"""A model without a layer is that model without that layer, for every reader, and the cheapest layers go."""

from __future__ import annotations

import copy
from collections.abc import Collection
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import transformers

from engine.tiny_model import tiny_model as tiny_model  # a fixture
from miaotui.compress.compress import compress, open_source
from miaotui.compress.prune.depth import WithoutLayers, choose, influence_order, order_alone
from miaotui.compress.prune.sliding import period_without, units
from miaotui.compress.trials import Trials, without_layers
from miaotui.errors import ConfigError, InvalidRequestError, UnsupportedModelError
from miaotui.formats import open_model
from miaotui.formats.gguf import read_gguf
from miaotui.formats.weights import TensorType
from miaotui.graph.nodes import Graph
from miaotui.models import build_graph
from models.conftest import Make, Tiny
from models.conftest import make_tiny as make_tiny  # a fixture
from models.sessions import mean_kl, open_session, relative_error
from models.tiny import reference_logits


def with_layers_deleted(model: transformers.PreTrainedModel, layers: Collection[int]) -> transformers.PreTrainedModel:
    """The same in transformers."""
    left = copy.deepcopy(model)
    kept = [layer for at, layer in enumerate(left.model.layers) if at not in layers]
    left.model.layers = torch.nn.ModuleList(kept)
    if types := getattr(left.config, "layer_types", None):
        left.config.layer_types = [kind for at, kind in enumerate(types) if at not in layers]
    left.config.num_hidden_layers = len(kept)
    for at, layer in enumerate(kept):
        layer.self_attn.layer_idx = at
    return left


def written_without(tiny: Tiny, layers: Collection[int], folder: Path) -> Tiny:
    source = WithoutLayers(open_source(tiny.file.path), layers)
    path = compress(source, folder / "out.gguf", TensorType.Q8_0).path
    return Tiny(with_layers_deleted(tiny.model, layers), open_model(path), tiny.tokens)


def logits(model: Tiny | SimpleNamespace, tokens: list[int], backend: str = "native") -> np.ndarray:
    with open_session(backend, model, activations="float32") as session:
        return session.step([(0, tokens)])


CASES = [("llama", [0]), ("llama", [1, 2]), ("llama-tied", [1]), ("qwen2", [2]), ("qwen3", [0, 1]), ("gemma3", [1, 3])]


@pytest.mark.parametrize(("case", "layers"), CASES)
def test_a_file_without_layers_is_the_model_without_them(
    case: str, layers: list[int], make_tiny: Make, tmp_path: Path
) -> None:
    tiny = make_tiny(case, "gguf", "q8_0")
    left = written_without(tiny, layers, tmp_path)
    expected = reference_logits(left.model, tiny.tokens)
    assert relative_error(logits(left, tiny.tokens), expected) <= 1e-3
    assert relative_error(logits(left, tiny.tokens, "numpy"), expected) <= 1e-3
    assert relative_error(expected, tiny.logits) > 1e-2  # the layers did something


@pytest.mark.parametrize(("case", "layers"), CASES)
def test_a_graph_without_layers_computes_the_bits_of_the_file_without_them(
    case: str, layers: list[int], make_tiny: Make, tmp_path: Path
) -> None:
    tiny = make_tiny(case, "gguf", "q8_0")
    left = written_without(tiny, layers, tmp_path)
    past = SimpleNamespace(graph=without_layers(tiny.graph, layers), file=tiny.file)
    np.testing.assert_array_equal(logits(past, tiny.tokens), logits(left, tiny.tokens))


def test_trials_measure_the_divergence_of_the_model_without_layers(make_tiny: Make, tmp_path: Path) -> None:
    tiny = make_tiny("llama", "gguf", "q8_0")
    text = np.random.default_rng(1).integers(0, 320, 256).tolist()
    trials = Trials(tiny.file, text, activations="float32")
    left = written_without(tiny, [1], tmp_path)
    whole, other = (logits(model, text)[127:255] for model in (tiny, left))
    assert trials.kl_without([1]) == pytest.approx(mean_kl(other, whole), rel=1e-2)
    assert trials.kl_without([]) == pytest.approx(0, abs=1e-5)
    with pytest.raises(InvalidRequestError, match="255 tokens"):
        Trials(tiny.file, text[:-1])


def test_the_layers_that_stay_keep_their_bytes_and_the_file_says_what_went(tiny_model: Path, tmp_path: Path) -> None:
    before = read_gguf(tiny_model)
    after = read_gguf(compress(WithoutLayers(open_source(tiny_model), [0]), tmp_path / "o.gguf", TensorType.Q8_0).path)
    assert after.metadata["llama.block_count"] == 1
    assert after.metadata["miaotui.prune.layers"] == "without 0 of 2"
    assert {name for name in after.weights if name.startswith("blk.")} == {
        name for name in before.weights if name.startswith("blk.0.")
    }
    for name, tensor in after.weights.items():
        assert tensor.data.tobytes() == before.weights[name.replace("blk.0.", "blk.1.")].data.tobytes()


def test_what_cannot_be_left_out_is_refused(tiny_model: Path, make_tiny: Make) -> None:
    source = open_source(tiny_model)
    with pytest.raises(ConfigError, match="no layer 2; the model has layers 0 to 1"):
        WithoutLayers(source, [2])
    for layers in ([], [0, 1]):
        with pytest.raises(ConfigError, match="give a number from 1 to 1"):
            WithoutLayers(source, layers)
    with pytest.raises(ConfigError, match="5 layers cannot be left out of 5"):
        choose(lambda layers: 0.0, 5, range(5))
    with pytest.raises(UnsupportedModelError, match=r"'bert' are not pruned"):
        WithoutLayers(SimpleNamespace(path="x", metadata={"general.architecture": "bert"}), [0])
    tiny = make_tiny("llama", "gguf", "q8_0")
    with pytest.raises(ValueError, match="ways in"):
        without_layers(Graph(tiny.graph.nodes[:8]), [0])


def test_the_layer_that_costs_least_goes_first_and_costs_are_measured_anew() -> None:
    alone = [5.0, 1.0, 4.0, 1.5, 9.0]
    asked: list[tuple[int, ...]] = []

    def measure(layers: Collection[int]) -> float:
        asked.append(tuple(layers))
        return sum(alone[layer] for layer in layers) + 3 * ({1, 3} <= set(layers))  # a pair that is worse than its sum

    told: list[int] = []
    chosen = choose(measure, 2, [0, 1, 2, 3, 4], progress=lambda layers, kl, ahead: told.append(ahead))
    assert chosen == [1, 2]
    assert asked == [(0,), (1,), (2,), (3,), (4,), (1, 0), (1, 2), (1, 3), (1, 4)]
    assert told == [23, 22, 21, 20, 19, 11, 10, 9, 8]


def test_only_the_layers_of_least_influence_are_tried() -> None:
    asked: list[int] = []
    order = influence_order(np.array([0.5, 0.1, 0.4, 0.2], np.float32))
    assert order == [1, 3, 2, 0] == order_alone(lambda layers: [0.5, 0.1, 0.4, 0.2][layers[0]], 4)
    chosen = choose(lambda layers: asked.append(layers[-1]) or -layers[-1], 2, order, candidates=2)
    assert asked == [1, 3, 1, 2]
    assert chosen == [3, 2]


def gemma(layers: int, **more: object) -> SimpleNamespace:
    metadata = {"general.architecture": "gemma3", "gemma3.block_count": layers, "gemma3.attention.sliding_window": 8}
    return SimpleNamespace(path="x", metadata=metadata | {f"gemma3.{key}": value for key, value in more.items()})


def test_global_layers_still_alternate_with_local_ones() -> None:
    key = "gemma3.attention.sliding_window_pattern"
    every = set(range(18))
    assert units(gemma(18)) == [(0, 6, 12), (1, 7, 13), (2, 8, 14), (3, 9, 15), (4, 10, 16)]
    assert period_without(gemma(18), sorted(every - {1, 7, 13})) == {key: 5}
    assert period_without(gemma(18), sorted(every - {1, 7, 13, 4, 10, 16})) == {key: 4}
    assert period_without(gemma(18), sorted(every - {17})) == {key: 6}
    with pytest.raises(ConfigError, match="every 6th layer is global"):
        period_without(gemma(18), sorted(every - {1}))
    assert units(gemma(7, **{"attention.sliding_window_pattern": 3})) == [(0, 3, 6), (1, 4)]
    with pytest.raises(UnsupportedModelError, match="is a list"):
        units(gemma(2, **{"attention.sliding_window_pattern": np.array([True, False])}))
    with pytest.raises(UnsupportedModelError, match="62 layers"):
        period_without(gemma(62), range(61))


def test_layers_of_alternating_models_go_together() -> None:
    order = list(range(18))
    chosen = choose(lambda layers: -float(sum(layers)), 3, order, units=units(gemma(18)))
    assert chosen == [4, 10, 16]
    with pytest.raises(ConfigError, match="go 3 at a time; leave out 3"):
        choose(lambda layers: 0.0, 4, order, units=units(gemma(18)))


def test_a_mistral_whose_layers_all_slide_loses_any(make_tiny: Make, tmp_path: Path) -> None:
    tiny = make_tiny("mistral-window", "gguf", "q8_0")
    source = open_source(tiny.file.path)
    assert units(source) is None
    left = written_without(tiny, [1], tmp_path)
    assert left.file.spec.sliding_layers == (True, True)
    assert relative_error(logits(left, tiny.tokens), reference_logits(left.model, tiny.tokens)) <= 1e-3
    assert build_graph(left.file.spec, left.file.weights)


def test_units_that_do_not_add_up_are_told_before_anything_is_tried() -> None:
    def measure(layers: Collection[int]) -> float:
        tried.append(list(layers))
        return float(sum(layers))

    tried: list[list[int]] = []
    fives = [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]]
    fours = [[10, 11, 12, 13], [14, 15, 16, 17]]
    with pytest.raises(ConfigError, match="leave out"):
        choose(measure, 3, range(18), units=[*fives, *fours])
    assert tried == []
    assert sorted(choose(measure, 8, range(18), units=[*fives, *fours])) == list(range(10, 18))  # a five is a dead end
