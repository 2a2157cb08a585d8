"""The text encoder against transformers: the NumPy interpreter and the native program, every pass on and off."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from graph.numpy_reference import NumpyBatch, NumpyKv, NumpyProgram
from miaotui import _native
from miaotui.errors import ModelFileError, UnsupportedModelError
from miaotui.formats import ModelFile, open_model
from miaotui.formats.quantized import Q8Weights
from miaotui.formats.weights import Tensor
from miaotui.graph.compile import CompileOptions, compile_graph
from miaotui.graph.nodes import Graph
from miaotui.graph.passes import PASSES, optimize
from miaotui.models import build_graph

VOCAB = 200
TEXTS = [[5, 7, 9, 11, 2], [1], list(range(20, 57)), [3, 3, 3]]
CASES: dict[str, dict[str, Any]] = {
    "minilm": {},
    "tanh": {"hidden_act": "gelu_new"},
    "narrow heads": {"num_attention_heads": 8},
}


@dataclass
class Tiny:
    """A model of transformers, and its folder opened."""

    model: transformers.BertModel
    file: ModelFile

    def vectors(self, pooling: str = "mean") -> np.ndarray:
        """What transformers makes of TEXTS one by one."""
        rows = []
        for text in TEXTS:
            with torch.no_grad():
                hidden = self.model(torch.tensor([text])).last_hidden_state[0].double().numpy()
            row = hidden.mean(0) if pooling == "mean" else hidden[0]
            rows.append(row / np.linalg.norm(row))
        return np.array(rows)


Make = Callable[..., Tiny]


def save_bert(folder: Path, **changes: Any) -> transformers.BertModel:
    sizes = {"hidden_size": 128, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 256}
    config = transformers.BertConfig(vocab_size=VOCAB, max_position_embeddings=64, **(sizes | changes))
    torch.manual_seed(1)
    model = transformers.BertModel(config, add_pooling_layer=False).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "LayerNorm" in name and name.endswith("weight"):
                parameter.add_(0.3 * torch.randn_like(parameter))
            elif parameter.dim() == 1:
                parameter.normal_(0, 0.3)
            else:
                parameter.normal_(0, 1.0 / parameter.shape[1] ** 0.5)
    model.save_pretrained(folder)
    return model


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Make:
    made: dict[str, Tiny] = {}

    def make(case: str = "minilm") -> Tiny:
        if case not in made:
            folder = tmp_path_factory.mktemp("bert")
            model = save_bert(folder, **CASES[case])
            made[case] = Tiny(model, open_model(folder))
        return made[case]

    return make


def batch_of(texts: list[list[int]]) -> NumpyBatch:
    offsets = np.cumsum([0, *map(len, texts)]).tolist()
    positions = [i for text in texts for i in range(len(text))]
    return NumpyBatch([t for text in texts for t in text], positions, offsets, range(len(texts)), offsets[:-1])


def run_native(graph: Graph, weights: Any, texts: list[list[int]], **options: Any) -> np.ndarray:
    compiled = compile_graph(graph, weights, options=CompileOptions(max_tokens=128, max_sequences=8, **options))
    batch = batch_of(texts)
    arrays = (np.array(x, np.int32) for x in (batch.token_ids, batch.positions, batch.offsets))
    tables = np.zeros((len(texts), 4), np.int32)
    compiled.program.run(_native.KvPool(1, 1, 16, 1, "f32"), *arrays, tables, np.array(batch.logit_rows, np.int32))
    return compiled.program.logits.copy()


def run_numpy(graph: Graph, weights: Mapping[str, Tensor], texts: list[list[int]]) -> np.ndarray:
    return NumpyProgram(graph, weights).run(batch_of(texts), NumpyKv())


def in_8_bits(file: ModelFile) -> Q8Weights:
    return Q8Weights(file.weights, {n for n, t in file.weights.items() if "encoder" in n and len(t.shape) == 2})


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


@pytest.mark.parametrize("case", CASES)
def test_float_vectors_equal_those_of_transformers(case: str, make: Make) -> None:
    tiny = make(case)
    graph = build_graph(tiny.file.spec, tiny.file.weights)
    want = tiny.vectors()
    np.testing.assert_allclose(run_numpy(graph, tiny.file.weights, TEXTS), want, atol=1e-6)
    native = run_native(graph, tiny.file.weights, TEXTS, activations="float32")
    np.testing.assert_allclose(native, want, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(native, axis=1), 1, atol=1e-6)


@pytest.mark.parametrize(("activations", "least"), [("int16", 0.9998), ("int8", 0.9995)])
def test_8_bit_weights_hardly_turn_a_vector(activations: str, least: float, make: Make) -> None:
    tiny = make()
    weights = in_8_bits(tiny.file)
    graph = build_graph(tiny.file.spec, weights)
    native = run_native(graph, weights, TEXTS, activations=activations)
    assert least <= cosines(native, tiny.vectors()).min() < 1 - 1e-9
    numpy = run_numpy(optimize(graph, activations=activations), weights, TEXTS)
    assert cosines(native, numpy).min() >= 1 - 1e-5


@pytest.mark.parametrize("activations", ["int16", "int8", "float32"])
def test_switching_off_any_pass_changes_no_bit(activations: str, make: Make) -> None:
    tiny = make()
    weights = tiny.file.weights if activations == "float32" else in_8_bits(tiny.file)
    graph = build_graph(tiny.file.spec, weights)
    expected = run_native(graph, weights, TEXTS, activations=activations)
    for off in (*([name] for name in PASSES), list(PASSES)):
        got = run_native(graph, weights, TEXTS, activations=activations, disabled_passes=frozenset(off))
        np.testing.assert_array_equal(got, expected, err_msg=f"without {off}")


@pytest.mark.parametrize("activations", ["int16", "int8", "float32"])
def test_a_text_s_vector_does_not_depend_on_its_company(activations: str, make: Make) -> None:
    tiny = make()
    weights = tiny.file.weights if activations == "float32" else in_8_bits(tiny.file)
    graph = build_graph(tiny.file.spec, weights)
    together = run_native(graph, weights, TEXTS, activations=activations)
    for text, expected in zip(TEXTS, together, strict=True):
        np.testing.assert_array_equal(run_native(graph, weights, [text], activations=activations)[0], expected)
    reverse = run_native(graph, weights, TEXTS[::-1], activations=activations)
    np.testing.assert_array_equal(reverse[::-1], together)


def test_codes_are_written_where_floats_are_made(make: Make) -> None:
    weights = in_8_bits(make().file)
    graph = optimize(build_graph(make().file.spec, weights), activations="int8")
    kinds = [node.kind for node in graph.nodes]
    assert kinds.count("quantize") == 0
    assert kinds.count("add") == 0
    layer = ["linear", "self_attention", "linear", "norm", "linear", "activate", "linear", "norm"]
    assert kinds == ["embedding", "add_positions", "norm", *3 * layer, "mean_pool", "norm"]


def test_the_first_token_s_row_is_the_vector_where_the_folder_says_so(tmp_path: Path) -> None:
    model = save_bert(tmp_path)
    (tmp_path / "1_Pooling").mkdir()
    (tmp_path / "1_Pooling" / "config.json").write_text('{"pooling_mode_cls_token": true}')
    tiny = Tiny(model, open_model(tmp_path))
    graph = build_graph(tiny.file.spec, tiny.file.weights)
    native = run_native(graph, tiny.file.weights, TEXTS, activations="float32")
    np.testing.assert_allclose(native, tiny.vectors("first"), atol=1e-5)
    # The last layer's MLP is computed for the rows that are wanted, and for no others.
    assert optimize(graph, activations="float32").nodes[-2].inputs[0].rows == "logits"


def test_a_missing_bias_is_named(make: Make) -> None:
    file = make().file
    without = {n: t for n, t in file.weights.items() if n != "encoder.layer.1.output.dense.bias"}
    with pytest.raises(ModelFileError, match=r"encoder\.layer\.1\.output\.dense\.bias"):
        build_graph(file.spec, without)


def test_a_tensor_of_a_layer_that_nothing_reads_is_refused(make: Make) -> None:
    file = make().file
    more = {**file.weights, "encoder.layer.0.crossattention.self.query.weight": next(iter(file.weights.values()))}
    with pytest.raises(UnsupportedModelError, match="crossattention"):
        build_graph(file.spec, more)


def test_names_may_begin_with_bert(make: Make) -> None:
    tiny = make()
    renamed = {f"bert.{name}": tensor for name, tensor in tiny.file.weights.items()}
    graph = build_graph(tiny.file.spec, renamed)
    np.testing.assert_allclose(run_numpy(graph, renamed, TEXTS), tiny.vectors(), atol=1e-6)
