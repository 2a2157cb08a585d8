from __future__ import annotations

import pytest

from graph.toy import toy
from miaotui.formats.weights import TensorType
from miaotui.graph.cost import Workload, node_cost, total_cost
from miaotui.graph.nodes import Graph, Node
from miaotui.graph.passes import optimize


def find(graph: Graph, kind: str) -> Node:
    return next(node for node in graph.nodes if node.kind == kind)


def test_a_decode_step_reads_every_weight_once_and_one_row_of_the_embedding():
    graph, weights = toy({"attn_v": TensorType.Q4_0, "ffn_down": TensorType.F16})
    everything = sum(t.data.nbytes for name, t in weights.items() if name != "token_embd.weight")
    row = weights["token_embd.weight"].data.nbytes / 96
    for each in (graph, optimize(graph, activations="int8")):
        assert total_cost(each.nodes, Workload()).weight_bytes == everything + row


def test_a_linear_takes_two_operations_per_weight_and_token():
    graph, _ = toy()
    linear = find(graph, "linear")
    assert node_cost(linear, Workload(num_tokens=7)).flops == 2 * 7 * 64 * 64
    head = graph.nodes[-1]
    assert node_cost(head, Workload(num_tokens=7, num_logit_rows=2)).flops == 2 * 2 * 96 * 64


def test_fusion_moves_fewer_bytes_and_keeps_the_arithmetic():
    graph, _ = toy()
    before, after = (total_cost(g.nodes, Workload()) for g in (graph, optimize(graph, activations="float32")))
    assert after.activation_bytes < before.activation_bytes
    assert after.flops == before.flops
    assert after.kv_bytes == before.kv_bytes
    assert after.total_bytes < before.total_bytes


def test_attention_grows_with_the_context_up_to_the_window():
    windows = {"sliding_window": 10, "sliding_layers": (True, False, False)}
    local, world = (n for n in toy(**windows)[0].nodes if n.kind == "attention" and n.layer in (0, 1))
    costs = [[node_cost(n, Workload(context_tokens=c)).kv_bytes for c in (5, 10, 20)] for n in (local, world)]
    per_token = 2 * (32 * 2 + 4)  # key and value, head size, bytes of an int16, and of a scale
    assert costs == [[5 * per_token, 10 * per_token, 10 * per_token], [c * per_token for c in (5, 10, 20)]]


@pytest.mark.parametrize("fused", [False, True])
def test_every_new_token_writes_its_keys_and_values(fused):
    graph = toy()[0]
    graph = optimize(graph, activations="int8") if fused else graph
    write = find(graph, "rope_kv" if fused else "kv_write")
    assert node_cost(write, Workload(num_tokens=3, kv_dtype="bf16")).kv_bytes == 3 * 2 * 32 * 2
    assert node_cost(write, Workload(num_tokens=3, kv_dtype="int8")).kv_bytes == 3 * 2 * (32 + 4)
