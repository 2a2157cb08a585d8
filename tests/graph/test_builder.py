from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from graph.toy import make_tensor, run_toy, toy, toy_spec, toy_weights
from miaotui.errors import ModelFileError, UnsupportedModelError
from miaotui.formats.weights import Tensor, TensorType
from miaotui.graph.builder import GraphBuilder
from miaotui.graph.nodes import Graph, Node, Value, Weight
from miaotui.models import build_graph
from miaotui.models.llama import TENSORS


@pytest.mark.parametrize("name", ["token_embd.weight", "blk.1.attn_k.weight", "blk.2.ffn_norm.weight", "output.weight"])
def test_a_missing_tensor_is_named(name):
    spec, weights = toy_spec(), toy_weights(toy_spec())
    del weights[name]
    with pytest.raises(ModelFileError, match=f"'{name}' is missing"):
        build_graph(spec, weights)


@pytest.mark.parametrize("name", ["token_embd.weight", "blk.1.attn_k.weight", "blk.2.ffn_norm.weight", "output.weight"])
def test_a_misshapen_tensor_is_named_with_both_shapes(name):
    spec, weights = toy_spec(), toy_weights(toy_spec())
    shape = (weights[name].shape[0] + 32, *weights[name].shape[1:])
    weights[name] = make_tensor(name, shape, TensorType.F32, np.random.default_rng(0))
    with pytest.raises(ModelFileError, match=rf"'{name}' has shape \({shape[0]}.*make it"):
        build_graph(spec, weights)


def test_a_bias_of_the_wrong_length_is_named():
    weights = toy_weights(toy_spec())
    weights["blk.0.attn_q.bias"] = make_tensor("blk.0.attn_q.bias", (63,), TensorType.F32, np.random.default_rng(0))
    with pytest.raises(ModelFileError, match=r"blk\.0\.attn_q\.bias"):
        build_graph(toy_spec(), weights)


def test_biases_that_the_settings_promise_must_be_there():
    with pytest.raises(ModelFileError, match=r"'blk\.0\.attn_q\.bias' is missing"):
        build_graph(toy_spec(attention_bias=True), toy_weights(toy_spec()))


def test_a_layer_tensor_that_the_architecture_does_not_know_is_refused():
    weights = toy_weights(toy_spec())
    weights["blk.1.attn_q_norm.weight"] = weights["output_norm.weight"]
    with pytest.raises(UnsupportedModelError, match=r"blk\.1\.attn_q_norm\.weight"):
        build_graph(toy_spec(), weights)


def test_tensors_outside_the_layers_are_left_alone():
    weights = toy_weights(toy_spec())
    weights["mm.projector.weight"] = weights["output_norm.weight"]
    build_graph(toy_spec(), weights)


def test_a_tied_model_reads_its_embedding_as_head():
    graph, _ = toy(tie_embeddings=True)
    assert graph.nodes[-1].matrices[0].tensor == "token_embd.weight"


@pytest.mark.parametrize("prefix", ["model.", "model.language_model.", "language_model.model."])
def test_multimodal_prefixes_of_hugging_face_names_are_found(prefix):
    spec, weights = toy_spec(), toy_weights(toy_spec())
    renamed: dict[str, Tensor] = {}
    for name, (gguf_name, hub_name) in TENSORS.items():
        for layer in range(spec.num_layers if "{}" in gguf_name else 1):
            tensor = weights[gguf_name.format(layer) + ".weight"]
            new = hub_name.format(layer) + ".weight"
            new = new if name == "head" else new.replace("model.", prefix, 1)
            renamed[new] = replace(tensor, name=new)
    graph = build_graph(replace(spec, source="safetensors"), renamed)
    np.testing.assert_array_equal(run_toy(graph, renamed), run_toy(build_graph(spec, weights), weights))


def test_attention_outside_a_layer_is_a_mistake_of_the_model_file():
    spec = toy_spec()
    b = GraphBuilder(spec, toy_weights(spec), TENSORS)
    x = b.embed()
    with pytest.raises(ValueError, match="layers"):
        b.attention(x, x, x)


def test_split_gives_consecutive_views_with_the_same_numbers():
    spec = toy_spec()
    b = GraphBuilder(spec, toy_weights(spec), TENSORS)
    x = b.embed()
    left, right = b.split(x, 24, 40)
    assert (left.base, left.column, right.column, right.width) == (x, 0, 24, 40)


X, Y, Z = Value("x", 64), Value("y", 64), Value("z", 64, "logits")
TABLE = Weight("embedding", "t", TensorType.Q8_0, (8, 64))
SQUARE, TALL = (Weight("w", "w", kind, (64, 64)) for kind in (TensorType.F16, TensorType.Q8_0))
EMBED, SELECT = Node("embedding", (), (X,), (TABLE,)), Node("select_rows", (Y,), (Z,))


@pytest.mark.parametrize(
    ("node", "message"),
    [
        (Node("warp", (X,), (Y,)), "unknown kind"),
        (Node("norm", (Z,), (Y,)), "before they are computed"),
        (Node("norm", (X,), (X,)), "computed twice"),
        (Node("norm", (replace(X, base=X, column=1),), (Y,)), "columns"),
        (Node("rope", (X,), (Y,), attrs={"table": "main"}), "rope table"),
        (Node("add", (X,), (Y,)), "fit together"),
        (Node("quantize", (X,), (Y,)), "fit together"),
        (Node("linear", (X,), (Y,), (replace(SQUARE, shape=(32, 64)), None)), "fit together"),
        (Node("linear", (X,), (Y,), (SQUARE,)), "fit together"),
        (Node("linear", (X,), (Y,), (SQUARE, replace(SQUARE, shape=(63,)))), "fit together"),
        (Node("gated_linear", (X,), (Y,), (SQUARE, None)), "fit together"),
        (Node("attention", (X,), (replace(Y, width=32),)), "fit together"),
    ],
)
def test_a_misused_operator_is_found_before_anything_runs(node, message):
    with pytest.raises(ValueError, match=message):
        Graph((EMBED, node, SELECT)).validate()


def test_float_weights_are_never_fed_with_int8_rows():
    q = Value("q", 64, dtype="q8")
    quantize = Node("quantize", (X,), (q,))
    Graph((EMBED, quantize, Node("linear", (q,), (Y,), (TALL, None)), SELECT)).validate()
    with pytest.raises(ValueError, match="fit together"):
        Graph((EMBED, quantize, Node("linear", (q,), (Y,), (SQUARE, None)), SELECT)).validate()


def test_a_graph_must_end_with_logits():
    with pytest.raises(ValueError, match="logits"):
        Graph((EMBED,)).validate()
