"""Narrower layers are the same layers where nothing is lost, of sizes that readers and kernels want."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st

from miaotui.compress.calibration import Calibration, InputStatistics
from miaotui.compress.compress import compress, open_source
from miaotui.compress.prune.dimensions import Dimensions, dimensions
from miaotui.compress.prune.width import MULTIPLE, Widths, narrowed, widths
from miaotui.compress.source import Source
from miaotui.errors import ConfigError
from miaotui.formats import open_model
from miaotui.formats.weights import TensorType
from models import tiny
from models.conftest import CASES, Tiny
from models.sessions import open_session, relative_error

TOKENS = np.random.default_rng(2).integers(0, tiny.VOCAB, 60).tolist()
PROJECTIONS = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")


def calibrated(source: Source, *, hessians: bool = True) -> Calibration:
    """Inputs of unit size that have nothing to do with one another."""
    inputs = {}
    for name, tensor in source.tensors.items():
        if len(tensor.shape) == 2:
            width = tensor.shape[1]
            hessian = (lambda width=width: np.eye(width, dtype=np.float32)) if hessians else None
            inputs[name] = InputStatistics(1, np.ones(width, np.float32), hessian=hessian)
    return Calibration("", 1, inputs)


def model_of(case: str) -> transformers.PreTrainedModel:
    architecture, changes = CASES[case]
    return tiny.make_model(tiny.make_config(architecture, **changes))


def written(model: transformers.PreTrainedModel, path: Path) -> Path:
    return tiny.save_gguf(model.config, tiny.to_gguf_tensors(model), path)


def logits(path: Path) -> np.ndarray:
    model = Tiny(None, open_model(path), TOKENS)
    with open_session("native", model, activations="float32") as session:
        return session.step([(0, TOKENS)])


def assert_nothing_lost(model: transformers.PreTrainedModel, kept: Widths, folder: Path) -> Path:
    """Whatever way is taken, the narrower file gives the logits of the whole one."""
    source = open_source(written(model, folder / "whole.gguf"))
    whole = logits(compress(source, folder / "f16.gguf", TensorType.F16).path)
    for hessians in (True, False):
        narrow = narrowed(source, calibrated(source, hessians=hessians), kept)
        path = compress(narrow, folder / f"narrow{hessians}.gguf", TensorType.F16).path
        assert relative_error(logits(path), whole) <= 1e-5
    return path


@pytest.mark.parametrize("case", ["llama", "qwen2", "qwen3", "gemma3"])
def test_neurons_that_nothing_reads_are_not_missed(case: str, tmp_path: Path) -> None:
    model, rng = model_of(case), np.random.default_rng(4)
    with torch.no_grad():
        for layer in model.model.layers:
            layer.mlp.down_proj.weight[:, torch.from_numpy(rng.permutation(layer.mlp.down_proj.in_features)[:150])] = 0
    size = dimensions(open_source(written(model, tmp_path / "sizes.gguf")))
    path = assert_nothing_lost(model, Widths(size.num_neurons - 128, size.num_kv_heads), tmp_path)
    file = open_model(path)
    assert file.spec.intermediate_size == size.num_neurons - 128
    assert file.weights["blk.2.ffn_down.weight"].shape == (256, size.num_neurons - 128)
    assert file.metadata["miaotui.prune.width"] == (
        f"{size.num_neurons - 128} of {size.num_neurons} neurons, "
        f"{size.num_kv_heads} of {size.num_kv_heads} groups of heads"
    )


@pytest.mark.parametrize("case", ["llama", "llama-biases", "qwen3", "mistral-window"])
def test_groups_of_heads_that_nothing_reads_are_not_missed(case: str, tmp_path: Path) -> None:
    model = model_of(case)
    with torch.no_grad():
        for at, layer in enumerate(model.model.layers):
            group = layer.self_attn.o_proj.in_features // 2
            layer.self_attn.o_proj.weight[:, at % 2 * group : (at % 2 + 1) * group] = 0
    file = open_model(assert_nothing_lost(model, Widths(512, 1), tmp_path))
    before = open_model(tmp_path / "whole.gguf").spec
    assert (file.spec.num_heads, file.spec.num_kv_heads, file.spec.head_dim) == (4, 1, before.head_dim)
    assert file.weights["blk.0.attn_q.weight"].shape == (4 * before.head_dim, 256)


def test_what_is_kept_makes_up_for_the_rest_where_hessians_are_known(tmp_path: Path) -> None:
    source = open_source(written(model_of("llama"), tmp_path / "whole.gguf"))
    x = np.random.default_rng(5).normal(size=(2000, 64)).astype(np.float32)
    x = x @ np.random.default_rng(6).normal(size=(64, 512)).astype(np.float32)  # 64 numbers tell all of the inputs
    hessian = x.T @ x / len(x)
    inputs = {
        f"blk.{at}.ffn_down.weight": InputStatistics(len(x), hessian.diagonal().copy(), hessian=lambda: hessian)
        for at in range(3)
    }
    weight = source.floats("blk.1.ffn_down.weight")
    error = []
    for compensate in (True, False):
        narrow = narrowed(source, Calibration("", 1, inputs), Widths(256, 2), compensate=compensate)
        rows = source.floats("blk.1.ffn_gate.weight")
        wanted = narrow.floats("blk.1.ffn_gate.weight")
        kept = [int(np.flatnonzero((rows == row).all(axis=1))[0]) for row in wanted]
        assert kept == sorted(set(kept))
        np.testing.assert_array_equal(
            narrow.floats("blk.1.ffn_up.weight", 3, 9), source.floats("blk.1.ffn_up.weight")[kept[3:9]]
        )
        left = x[:, kept] @ narrow.floats("blk.1.ffn_down.weight").T
        error.append(float(np.square(left - x @ weight.T).mean() / np.square(x @ weight.T).mean()))
    assert error[0] < 0.01 < error[1]


sizes = st.builds(
    lambda hidden, neurons, kv, per, dim: Dimensions("llama", hidden * 64, 2, neurons, kv * per, kv, dim * 32),
    st.integers(1, 32), st.integers(64, 20000), st.integers(1, 8), st.integers(1, 8), st.integers(1, 8),
)  # fmt: skip


@given(sizes, st.floats(0.01, 0.99), st.integers(1, 8), st.sampled_from([64, 256]))
def test_widths_are_the_largest_that_lose_what_was_asked(
    size: Dimensions, share: float, kv: int, multiple: int
) -> None:
    def lost(found: Widths) -> float:
        left = size.attention_weights * found.kv_heads / size.num_kv_heads
        left += 3 * size.hidden_size * found.neurons
        return 1 - left / (size.attention_weights + size.mlp_weights)

    kept = min(kv, size.num_kv_heads)
    try:
        found = widths(size, share, kv_heads=kept, multiple=multiple)
    except ConfigError:
        assert lost(Widths(min(multiple, size.num_neurons), kept)) < share + 1e-6 or size.num_neurons < multiple
        return
    assert found.kv_heads == kept
    assert found.neurons % multiple == 0
    assert lost(found) >= share - 1e-6
    more = Widths(found.neurons + multiple, kept)
    assert more.neurons > size.num_neurons or lost(more) < share + 1e-6


def test_a_fifth_of_smollm2() -> None:
    size = Dimensions("llama", 576, 30, 1536, 9, 3, 64)
    assert widths(size, 0.2) == Widths(1088, 3)
    assert widths(size, 0.2, kv_heads=2) == Widths(1280, 2)
    assert widths(size, 0.2, multiple=256) == Widths(1024, 3)


def test_widths_that_cannot_be_are_refused(tmp_path: Path) -> None:
    source = open_source(written(model_of("llama"), tmp_path / "llama.gguf"))
    calibration = calibrated(source)
    for kept, problem in (
        (Widths(512, 2), "nothing is to be left out"),
        (Widths(300, 2), f"no multiple of {MULTIPLE}"),
        (Widths(576, 2), "of 512 and 2"),
        (Widths(512, 0), "of 512 and 2"),
    ):
        with pytest.raises(ConfigError, match=problem):
            narrowed(source, calibration, kept)
    with pytest.raises(ConfigError, match=r"no inputs of 'blk\.0\.ffn_down\.weight'"):
        narrowed(source, Calibration("", 1, {}), Widths(256, 2))
    with pytest.raises(ConfigError, match="between 0 and 1"):
        widths(dimensions(source), 1.0)
    with pytest.raises(ConfigError, match="from 1 to 2"):
        widths(dimensions(source), 0.2, kv_heads=3)
    with pytest.raises(ConfigError, match="ask for less, or leave out layers"):
        widths(dimensions(source), 0.9)
    qwen = open_source(written(model_of("qwen2"), tmp_path / "qwen2.gguf"))
    with pytest.raises(ConfigError, match="leave out neurons or layers"):
        narrowed(qwen, calibrated(qwen), Widths(512, 1))
