from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from miaotui import _native
from miaotui.errors import ConfigError, ModelFileError
from miaotui.formats.weights import Weights
from miaotui.graph import compile as compiling
from miaotui.graph.compile import CompileOptions, compile_graph
from miaotui.graph.passes import PASSES
from miaotui.models import build_graph
from models.conftest import Make
from models.sessions import NativeSession, NumpySession, make_batch, open_session, relative_error

MODELS = [("llama", "q4_k_m"), ("llama", "floats"), ("qwen2", "q5"), ("qwen3", "q4_0"), ("gemma3", "q8_0")]
CHUNKS = ([(0, range(40)), (1, range(50, 59))], [(1, range(3)), (0, range(60, 61))])


def logits_of(make_tiny: Make, case: str, mix: str, **options) -> np.ndarray:
    with open_session("native", make_tiny(case, "gguf", mix), **options) as session:
        return np.concatenate([session.step(chunks) for chunks in CHUNKS])


@pytest.mark.parametrize("activations", ["int16", "int8", "float32"])
@pytest.mark.parametrize(("case", "mix"), MODELS)
def test_switching_off_any_pass_changes_no_bit(case: str, mix: str, activations: str, make_tiny: Make):
    expected = logits_of(make_tiny, case, mix, activations=activations)
    for name in PASSES:
        without = logits_of(make_tiny, case, mix, activations=activations, disabled_passes=frozenset({name}))
        np.testing.assert_array_equal(without, expected, err_msg=f"without {name}")
    none = logits_of(make_tiny, case, mix, activations=activations, disabled_passes=frozenset(PASSES))
    np.testing.assert_array_equal(none, expected, err_msg="without any pass")


@pytest.mark.parametrize("rows", [[], [0], [48], [3, 17, 40], [48, 2, 2]])
def test_wanting_fewer_rows_changes_no_bit_of_them(rows: list[int], make_tiny: Make):
    tiny = make_tiny("llama", "gguf", "q4_k_m")
    with open_session("native", tiny, activations="int8") as session:
        everything = session.step(CHUNKS[0])
    session = NativeSession(tiny.graph, tiny.file.weights, tiny.file.spec, activations="int8", max_logit_rows=3)
    np.testing.assert_array_equal(session.step(CHUNKS[0], rows), everything[rows])


def test_attention_scores_are_capped_as_the_spec_says(make_tiny: Make):
    # transformers reads this setting of Gemma 3 and never applies it, so the interpreter is the reference here.
    tiny = make_tiny("gemma3", "gguf")
    spec = replace(tiny.file.spec, attention_softcap=1.5)
    graph = build_graph(spec, tiny.file.weights)
    capped = NativeSession(graph, tiny.file.weights, spec, activations="float32").step(CHUNKS[0])
    expected = NumpySession(graph, tiny.file.weights).step(CHUNKS[0])
    assert relative_error(capped, expected) <= 1e-5
    plain = NativeSession(tiny.graph, tiny.file.weights, spec, activations="float32").step(CHUNKS[0])
    assert relative_error(plain, expected) > 1e-2


def test_the_program_runs_the_operators_of_the_fused_graph(make_tiny: Make):
    tiny = make_tiny("gemma3", "gguf", "q8_0")
    compiled = compile_graph(tiny.graph, tiny.file.weights, options=CompileOptions())
    assert compiled.program.op_names == [node.kind for node in compiled.graph.nodes]
    assert len(compiled.graph.nodes) < len(tiny.graph.nodes)


def test_the_program_has_the_operators_of_disabled_passes(make_tiny: Make):
    tiny = make_tiny("llama", "gguf", "q8_0")
    without = CompileOptions(disabled_passes=frozenset({"fuse_rope_kv", "fuse_linear_residual"}))
    compiled = compile_graph(tiny.graph, tiny.file.weights, options=without)
    assert {"rope", "kv_write", "add", "gated_linear"} <= set(compiled.program.op_names)


def test_weight_bytes_stay_near_those_of_the_file(make_tiny: Make):
    tiny = make_tiny("llama", "gguf", "q4_k_m")
    compiled = compile_graph(tiny.graph, tiny.file.weights)
    tensors = (t for name, t in tiny.file.weights.items() if len(t.shape) > 1 and name != "token_embd.weight")
    matrices = sum(t.nbytes for t in tensors)
    assert matrices <= compiled.weight_bytes <= 1.15 * matrices


def test_packing_goes_group_by_group_and_gives_each_tensor_s_pages_back(make_tiny: Make, monkeypatch):
    tiny = make_tiny("llama", "gguf", "q4_k_m")
    log: list[tuple[str, object]] = []
    pack, release = _native.pack_weights, Weights.release
    monkeypatch.setattr(_native, "pack_weights", lambda items: (log.append(("pack", len(items))), pack(items))[1])
    monkeypatch.setattr(Weights, "release", lambda self, name: (log.append(("release", name)), release(self, name))[1])
    monkeypatch.setattr(compiling, "PACK_GROUP_BYTES", 200_000)
    compile_graph(tiny.graph, tiny.file.weights)
    matrices = {name for name, t in tiny.file.weights.items() if len(t.shape) > 1} - {"token_embd.weight"}
    assert {name for what, name in log if what == "release"} == matrices
    groups = [i for i, (what, _) in enumerate(log) if what == "pack"]
    assert len(groups) > 3
    for at, count in ((i, log[i][1]) for i in groups):
        names = [str(name) for _, name in log[at + 1 : at + 1 + int(str(count))]]
        assert sum(tiny.file.weights[name].nbytes for name in names) <= 200_000 or len(names) == 1


def test_matrices_larger_than_a_group_are_packed_before_the_others(make_tiny: Make, monkeypatch):
    tiny = make_tiny("llama", "gguf", "q4_k_m")
    released: list[str] = []
    monkeypatch.setattr(Weights, "release", lambda self, name: released.append(name))
    monkeypatch.setattr(compiling, "PACK_GROUP_BYTES", 100_000)
    compile_graph(tiny.graph, tiny.file.weights)
    assert {name.split(".", 2)[2] for name in released[:3]} == {"ffn_down.weight"}
    assert released[3:6] == ["blk.0.attn_q.weight", "blk.0.attn_k.weight", "blk.0.attn_v.weight"]


def test_a_tied_head_is_packed_while_the_embedding_reads_the_file(make_tiny: Make):
    tiny = make_tiny("qwen2", "gguf", "q8_0")
    compiled = compile_graph(tiny.graph, tiny.file.weights)
    head, embedding = compiled.graph.nodes[-1].matrices[0], compiled.graph.nodes[0].matrices[0]
    assert head.tensor == embedding.tensor == "token_embd.weight"
    assert compiled.weight_bytes >= sum(t.nbytes for t in tiny.file.weights.values() if len(t.shape) > 1)


def test_an_operator_the_core_refuses_is_named(make_tiny: Make, monkeypatch):
    tiny = make_tiny("llama", "gguf", "q8_0")
    monkeypatch.setattr(compiling, "read_vector", lambda weight, weights: np.zeros(7, np.float32))
    with pytest.raises(ModelFileError, match=r"0\.attention_norm: operator norm"):
        compile_graph(tiny.graph, tiny.file.weights)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"activations": "int4"}, "activations must be one of int16, int8, float32"),
        ({"max_tokens": 0}, "max_tokens must be at least 1"),
        ({"max_sequences": -1}, "max_sequences must be at least 1"),
        ({"disabled_passes": frozenset({"magic"})}, "unknown fusion pass magic"),
    ],
)
def test_bad_options_are_refused_with_what_would_do(options, message):
    with pytest.raises(ConfigError, match=message):
        CompileOptions(**options)


def test_batches_number_rows_and_positions_as_sequences_go_on():
    lengths = {1: 5}
    batch = make_batch([(0, [7, 8]), (1, [9])], lengths)
    assert (batch.positions, batch.offsets, lengths) == ([0, 1, 5], [0, 2, 3], {0: 2, 1: 6})
