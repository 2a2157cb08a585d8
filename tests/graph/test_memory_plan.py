from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graph.numpy_reference import NumpyBatch, NumpyKv, NumpyProgram
from graph.toy import make_tensor, run_toy, toy
from miaotui.core import ACTIVATIONS
from miaotui.formats.weights import TensorType
from miaotui.graph import memory
from miaotui.graph.memory import ALIGNMENT_BYTES, Buffer, MemoryPlan, plan_memory
from miaotui.graph.nodes import Graph, Node, Value, Weight
from miaotui.graph.passes import PASSES, optimize


def plan(graph: Graph, max_tokens: int = 12, max_logit_rows: int = 3) -> MemoryPlan:
    # int8 rows get the room of float rows, so that the interpreter can keep in the arena what they stand for.
    return plan_memory(graph, max_tokens=max_tokens, max_logit_rows=max_logit_rows, row_bytes=lambda _, cols: 4 * cols)


def check(planned: MemoryPlan) -> None:
    assert not [pair for pair in combinations(planned.buffers, 2) if pair[0].overlaps(pair[1])]
    assert all(b.offset_bytes % ALIGNMENT_BYTES == 0 and b.end <= planned.arena_bytes for b in planned.buffers)


class Arena:
    """Keeps the interpreter's values in one array of bytes, at the plan's offsets."""

    def __init__(self, planned: MemoryPlan) -> None:
        self._plan = planned
        self._bytes = np.zeros(planned.arena_bytes, np.uint8)

    def view(self, value: Value, num_rows: int) -> np.ndarray:
        index, column = self._plan.operands[value]
        buffer = self._plan.buffers[index]
        rows = self._bytes[buffer.offset_bytes : buffer.offset_bytes + 4 * buffer.value.width * num_rows]
        return rows.view(np.float32).reshape(num_rows, -1)[:, column : column + value.width]


@given(disabled=st.sets(st.sampled_from(list(PASSES))), activations=st.sampled_from(ACTIVATIONS), mixed=st.booleans())
def test_values_kept_in_the_planned_arena_survive_until_they_are_read(disabled, activations, mixed):
    graph, weights = toy({"attn_v": TensorType.F16, "ffn_up": TensorType.BF16} if mixed else {})
    fused = optimize(graph, activations=activations, disabled=disabled)
    planned = plan(fused)
    check(planned)
    kept = run_toy(fused, weights, np.float32, arena=Arena(planned))
    np.testing.assert_array_equal(kept, run_toy(fused, weights, np.float32))


WIDTHS = (32, 64, 96)
SHAPES = [*((rows, cols) for rows in WIDTHS for cols in WIDTHS), *((width,) for width in WIDTHS)]
TENSORS = {str(shape): make_tensor(str(shape), shape, TensorType.F32, np.random.default_rng(0)) for shape in SHAPES}


def weight(*shape: int) -> Weight:
    return Weight("w", str(shape), TensorType.F32, shape)


@st.composite
def random_graphs(draw: st.DrawFn) -> Graph:
    """Any chain of operators in which values are read long after they were computed, whole or as views."""
    values = [Value("0", 64)]
    nodes = [Node("embedding", (), (values[0],), (weight(32, 64),), {"scale": 1.0})]
    for i in range(1, draw(st.integers(2, 25))):
        kind = draw(st.sampled_from(["norm", "softcap", "add", "linear", "linear_residual", "activate_mul"]))
        x = draw(st.sampled_from(values))
        if x.width > 32 and draw(st.booleans()):
            x = Value(f"{x.name}[32:]", x.width - 32, base=x, column=32)
        width = draw(st.sampled_from(WIDTHS)) if kind.startswith("linear") else x.width
        others = [v for v in values if v.width == width]
        inputs: tuple[Value, ...] = (x,)
        if kind in ("add", "activate_mul"):
            inputs = (x, draw(st.sampled_from(others or [x])))
        if kind == "linear_residual" and others:
            inputs = (x, draw(st.sampled_from(others)))
        weights = (weight(width, x.width), None) if kind.startswith("linear") else (weight(x.width),)
        if kind == "norm":
            weights = (*weights, None)
        attrs = {"kind": "rms", "group": x.width, "eps": 1e-5, "cap": 5.0, "activation": "silu"}
        values.append(Value(str(i), width))
        nodes.append(Node(kind.removesuffix("_residual"), inputs, (values[-1],), weights, attrs))
    return Graph((*nodes, Node("select_rows", (values[-1],), (Value("z", values[-1].width, "logits"),)))).validate()


@given(graph=random_graphs(), max_tokens=st.integers(1, 9), max_logit_rows=st.integers(1, 9))
def test_no_two_live_values_share_bytes_unless_one_overwrites_the_other(graph, max_tokens, max_logit_rows):
    planned = plan(graph, max_tokens, max_logit_rows)
    check(planned)
    produced = {v: i for i, node in enumerate(graph.nodes) for v in node.outputs}
    last_read = {v.base or v: i for i, node in enumerate(graph.nodes) for v in node.inputs}
    for a, b in combinations(produced, 2):
        if planned.operands[a][0] == planned.operands[b][0]:
            earlier, later = sorted((a, b), key=produced.__getitem__)
            assert last_read.get(earlier, -1) <= produced[later]


@given(graph=random_graphs())
def test_any_graph_computes_in_the_arena_what_it_computes_with_an_array_per_value(graph):
    batch = NumpyBatch([3, 1, 20], [0, 1, 2], [0, 3], [0], [2, 0])
    apart = NumpyProgram(graph, TENSORS, np.float32).run(batch, NumpyKv())
    kept = NumpyProgram(graph, TENSORS, np.float32, arena=Arena(plan(graph, 3, 2))).run(batch, NumpyKv())
    np.testing.assert_array_equal(kept, apart)


def test_an_output_takes_over_the_storage_of_an_input_that_nobody_needs_again():
    fused = optimize(toy()[0], activations="int8")
    homes = plan(fused).operands
    for node in fused.nodes:
        if node.kind == "rope_kv":
            assert homes[node.output] == homes[node.inputs[0]]
        if node.kind == "linear" and len(node.inputs) == 2:
            assert homes[node.output] == homes[node.inputs[1]]


def test_a_linear_never_overwrites_its_own_input():
    x, y, z = Value("x", 64), Value("y", 64), Value("z", 64, "logits")
    nodes = (
        Node("embedding", (), (x,), (weight(32, 64),)),
        Node("linear", (x, x), (y,), (weight(64, 64), None)),
        Node("select_rows", (y,), (z,)),
    )
    operands = plan(Graph(nodes).validate()).operands
    assert operands[y] != operands[x]


@pytest.mark.parametrize("kind", sorted(set(memory.IN_PLACE) - {"linear", "rope_kv"}))
def test_a_value_that_one_operator_reads_is_overwritten_by_it(kind):
    x, other, y, z = Value("x", 64), Value("other", 64), Value("y", 64), Value("z", 64, "logits")
    inputs = (x, other) if kind in ("add", "activate_mul") else (x,)
    nodes = (
        Node("embedding", (), (x,), (weight(32, 64),)),
        Node("embedding", (), (other,), (weight(32, 64),)),
        Node(kind, inputs, (y,), (weight(64),)),
        Node("select_rows", (y,), (z,)),
    )
    operands = plan(Graph(nodes).validate()).operands
    assert operands[y] == operands[x]


def test_of_two_outputs_only_one_takes_the_input_s_place():
    x, floats, codes = Value("x", 64), Value("floats", 64), Value("codes", 64, dtype="q8")
    y, z = Value("y", 64), Value("z", 64, "logits")
    quantized = Weight("w", "w", TensorType.Q8_0, (64, 64))
    nodes = (
        Node("embedding", (), (x,), (weight(32, 64),)),
        Node("norm", (x,), (floats, codes), (weight(64), None)),  # the floats are free again at once
        Node("linear", (codes,), (y,), (quantized, None)),
        Node("select_rows", (y,), (z,)),
    )
    planned = plan(Graph(nodes).validate())
    check(planned)
    assert planned.operands[floats] == planned.operands[x]
    assert planned.operands[codes][0] != planned.operands[floats][0]


@given(graph=random_graphs(), odd_bytes=st.integers(0, 63))
def test_buffers_start_at_cache_lines_whatever_their_size(graph, odd_bytes):
    check(plan_memory(graph, max_tokens=3, max_logit_rows=1, row_bytes=lambda _, cols: 4 * cols + odd_bytes))


def test_a_small_value_fills_the_smallest_gap_that_holds_it():
    placed = [Buffer(Value(str(at), 1), at, size, 0, 9) for at, size in ((0, 64), (256, 64), (448, 64))]
    assert memory._place(Value("x", 1), 128, 2, 3, placed).offset_bytes == 320  # 192 free at 64, 128 free at 320
    assert memory._place(Value("x", 1), 192, 2, 3, placed).offset_bytes == 64
    assert memory._place(Value("x", 1), 256, 2, 3, placed).offset_bytes == 512
    assert memory._place(Value("x", 1), 256, 10, 11, placed).offset_bytes == 0


def test_the_arena_is_hardly_larger_than_what_is_alive_at_once():
    planned = plan(optimize(toy()[0], activations="int8"))
    steps = range(max(b.last for b in planned.buffers) + 1)
    most = max(sum(b.nbytes for b in planned.buffers if b.first <= step <= b.last) for step in steps)
    assert most <= planned.arena_bytes <= 1.1 * most


def test_the_arena_is_much_smaller_than_all_values_together():
    planned = plan(optimize(toy(num_layers=12, sliding_layers=(False,) * 12)[0], activations="int8"))
    assert planned.arena_bytes * 4 < sum(b.nbytes for b in planned.buffers)


def test_the_logits_are_not_overwritten_before_they_are_read():
    fused = optimize(toy()[0], activations="int8")
    planned = plan(fused)
    assert planned.buffers[planned.operands[fused.logits][0]].last == len(fused.nodes)


def test_a_view_lives_in_its_base_at_its_column():
    base, normed, y, z = Value("base", 96), Value("normed", 96), Value("y", 32), Value("z", 32, "logits")
    tail = Value("tail", 32, base=normed, column=64)
    nodes = (
        Node("embedding", (), (base,), (weight(8, 96),)),
        Node("norm", (base,), (normed,)),
        Node("softcap", (tail,), (y,)),
        Node("select_rows", (y,), (z,)),
    )
    operands = plan(Graph(nodes).validate()).operands
    assert operands[normed] == operands[base]  # in place
    assert operands[tail] == (operands[base][0], 64)
