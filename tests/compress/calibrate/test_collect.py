"""What is collected is what another implementation of the model sees, whatever the memory it is collected in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from compress.calibrate.oracle import fed, watched
from miaotui.compress.calibrate import CollectOptions, collect
from miaotui.compress.calibrate.hessians import Hessians
from miaotui.compress.calibrate.section_program import Arithmetic
from miaotui.compress.calibration import Calibration
from miaotui.errors import CapacityError, InvalidRequestError
from miaotui.formats import open_model
from models import tiny
from models.conftest import Make, Tiny
from models.conftest import make_tiny as make_tiny  # a fixture
from models.test_bert import save_bert

EXACT = Arithmetic("float32", "f32")
CASES = ["llama", "llama-tied", "mistral-window", "qwen2", "qwen3", "gemma3"]
LENGTHS = (33, 1, 40, 64, 17)
STEP_TOKENS = 80
"""So that a step holds one to three of the sequences."""


def sequences() -> list[list[int]]:
    rng = np.random.default_rng(8)
    return [rng.integers(0, tiny.VOCAB, length).tolist() for length in LENGTHS]


def collected(model: Tiny, **options: object) -> Calibration:
    chosen = CollectOptions(**{"step_tokens": STEP_TOKENS, "arithmetic": EXACT, **options})
    return collect(model.file, sequences(), options=chosen)


def near(got: np.ndarray, expected: np.ndarray, rel: float = 1e-4) -> None:
    """Every figure, to a share of the largest: what comes from sums of both signs has no size of its own."""
    assert got.shape == expected.shape
    assert np.abs(got - expected).max() <= rel * np.abs(expected).max()


@pytest.mark.parametrize("source", ["gguf", "safetensors"])
@pytest.mark.parametrize("case", CASES)
def test_figures_are_those_of_transformers(make_tiny: Make, case: str, source: str) -> None:
    model = make_tiny(case, source)
    calibration = collected(model)
    rows, influence = watched(model.model, sequences())
    assert set(calibration.inputs) == set(rows)
    assert calibration.tokens == sum(LENGTHS)
    for name, x in rows.items():
        got = calibration.inputs[name]
        assert got.tokens == len(x)
        near(got.moments, (x * x).mean(axis=0))
        near(got.means, np.abs(x).mean(axis=0))
        near(got.lows, x.min(axis=0))
        near(got.highs, x.max(axis=0))
        hessian = got.hessian()
        near(hessian, x.T @ x / len(x))
        np.testing.assert_array_equal(hessian, hessian.T)
    np.testing.assert_allclose(calibration.influence, influence, atol=1e-4)


@pytest.mark.parametrize("case", ["qwen2", "gemma3"])
def test_sixteen_bits_give_the_same_figures(make_tiny: Make, case: str) -> None:
    model = make_tiny(case, "gguf", "q4_k_m")
    exact, fast = collected(model), collected(model, arithmetic=Arithmetic())
    for name, one in exact.inputs.items():
        near(fast.inputs[name].moments, one.moments, 1e-3)
        near(fast.inputs[name].hessian(), one.hessian(), 1e-3)
    np.testing.assert_allclose(fast.influence, exact.influence, atol=1e-4)


BERT_NAMES = {
    "attention.self.query": "attn_q",
    "attention.self.key": "attn_k",
    "attention.self.value": "attn_v",
    "attention.output.dense": "attn_output",
    "intermediate.dense": "ffn_up",
    "output.dense": "ffn_down",
}


def test_text_encoders_are_read_too(tmp_path: Path) -> None:
    model = save_bert(tmp_path)
    options = CollectOptions(step_tokens=STEP_TOKENS, arithmetic=EXACT)
    texts = [[token % 200 for token in ids[:40]] for ids in sequences()]
    calibration = collect(open_model(tmp_path), texts, options=options)
    rows = fed(model, bert_name, texts)
    assert set(calibration.inputs) == set(rows)
    for name, x in rows.items():
        near(calibration.inputs[name].moments, (x * x).mean(axis=0))
        near(calibration.inputs[name].hessian(), x.T @ x / len(x))


def bert_name(name: str) -> str:
    layer, part = name.removeprefix("encoder.layer.").split(".", 1)
    return f"blk.{layer}.{BERT_NAMES[part]}.weight"


def test_matrices_fed_the_same_rows_share_their_statistics(make_tiny: Make) -> None:
    inputs = collected(make_tiny("qwen2", "gguf")).inputs
    assert inputs["blk.1.attn_q.weight"] is inputs["blk.1.attn_k.weight"] is inputs["blk.1.attn_v.weight"]
    assert inputs["blk.1.ffn_gate.weight"] is inputs["blk.1.ffn_up.weight"]
    assert len({id(one) for one in inputs.values()}) == 3 * 4 + 1


def store(calibration: Calibration) -> Hessians:
    hessian = calibration.inputs["blk.0.attn_q.weight"].hessian
    return hessian.func.__self__


def layer_bytes(model: Tiny) -> int:
    spec = model.file.spec
    widths = [spec.hidden_size, spec.num_heads * spec.head_dim, spec.hidden_size, spec.intermediate_size]
    return 4 * sum(width**2 for width in widths)


def test_hessians_keep_to_their_budget(make_tiny: Make) -> None:
    model = make_tiny("qwen2", "gguf")
    rows, head = 4 * sum(LENGTHS) * model.file.spec.hidden_size, 4 * model.file.spec.hidden_size**2
    budget = layer_bytes(model) + rows + head
    tight, wide = collected(model, hessian_bytes=budget), collected(model)
    for name, one in tight.inputs.items():
        np.testing.assert_array_equal(one.hessian(), wide.inputs[name].hessian())
    assert store(tight).peak_bytes <= budget < store(wide).peak_bytes
    with pytest.raises(CapacityError, match="allow more, or give less text"):
        collected(model, hessian_bytes=budget - 1)


def test_layers_in_order_are_one_pass_and_going_back_gives_the_same(make_tiny: Make) -> None:
    model = make_tiny("qwen2", "gguf")
    rows, head = 4 * sum(LENGTHS) * model.file.spec.hidden_size, 4 * model.file.spec.hidden_size**2
    calibration = collected(model, hessian_bytes=layer_bytes(model) + rows + head)
    walk, runs = store(calibration)._walk, []
    advance = walk.advance
    walk.advance = lambda look=None: (runs.append(walk.index), advance(look))[1]
    calibration.inputs["token_embd.weight"].hessian()
    assert runs == []  # the head's is there already
    first = [one.hessian().copy() for one in calibration.inputs.values()]
    assert runs == [0, 1, 2, 3]  # what is before the first layer, and three layers
    again = [one.hessian() for one in calibration.inputs.values()]
    assert runs == [0, 1, 2, 3] * 2
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_same_text_gives_the_same_digest(make_tiny: Make) -> None:
    model = make_tiny("qwen2", "gguf")
    one, same = collected(model), collected(model, hessians=False)
    other = collect(model.file, sequences()[:-1], options=CollectOptions(step_tokens=STEP_TOKENS, arithmetic=EXACT))
    assert one.digest == same.digest != other.digest
    assert same.inputs["blk.0.attn_q.weight"].hessian is None


def test_no_text_and_too_long_a_text_are_refused(make_tiny: Make) -> None:
    model = make_tiny("qwen2", "gguf")
    for wrong in ([], [[]], [[1], []]):
        with pytest.raises(InvalidRequestError, match="needs text"):
            collect(model.file, wrong)
    with pytest.raises(InvalidRequestError, match="81 tokens, a step at most 80"):
        collect(model.file, [[1] * 81], options=CollectOptions(step_tokens=80))
