"""A trial of other matrices is the model with them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from miaotui.compress import trials as trials_module
from miaotui.compress.compress import compress, open_source
from miaotui.compress.divergence import DivergenceMeter
from miaotui.compress.quantize import rtn
from miaotui.compress.sensitivity import Blocks
from miaotui.compress.trials import Trials
from miaotui.formats import open_model
from miaotui.formats.weights import TensorType
from models.conftest import Make, Tiny
from models.conftest import make_tiny as make_tiny  # a fixture
from models.sessions import open_session


def logits(model: Tiny, tokens: list[int]) -> np.ndarray:
    with open_session("native", model, activations="float32") as session:
        return session.step([(0, tokens)])


@pytest.mark.parametrize("case", ["llama", "llama-tied"])
def test_trials_measure_the_divergence_of_the_file_with_those_matrices(
    case: str, make_tiny: Make, tmp_path: Path
) -> None:
    tiny = make_tiny(case, "gguf", "q8_0")
    source = open_source(tiny.file.path)
    names = [t.name for t in source.tensors.values() if len(t.shape) == 2]  # with the embedding and the head
    types = dict.fromkeys(names, TensorType.Q4_0)
    written = compress(source, tmp_path / "o.gguf", TensorType.Q4_0, types=types, method="rtn")
    text = np.random.default_rng(1).integers(0, 320, 256).tolist()
    changes = {}
    for name in names:
        rows = source.floats(name)
        changes[name] = Blocks(TensorType.Q4_0, rtn.quantize(TensorType.Q4_0, rows), rows.shape)
    trials = Trials(tiny.file, text, activations="float32")
    meter = DivergenceMeter()
    quantized = Tiny(tiny.model, open_model(written.path), tiny.tokens)
    whole, other = (logits(model, text)[127:255] for model in (tiny, quantized))
    meter.add(whole, other, np.array(text[128:256]))
    assert trials.kl_with(changes) == pytest.approx(meter.result().kl, rel=1e-3)
    assert trials.kl_with({}) == 0
    assert trials.kl_with({names[0]: changes[names[0]]}) < trials.kl_with(changes)


@pytest.mark.parametrize("case", ["llama", "llama-tied", "gemma3"])
def test_a_trial_that_begins_at_the_first_layer_it_changes_has_the_same_bits(
    case: str, make_tiny: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny = make_tiny(case, "gguf", "q8_0")
    source = open_source(tiny.file.path)
    text = np.random.default_rng(1).integers(0, 320, 512).tolist()
    some = Trials(tiny.file, text)
    monkeypatch.setattr(trials_module, "cut", None)  # nothing begins in the middle
    monkeypatch.setattr(Trials, "_rows_between_layers", lambda self: {})
    whole = Trials(tiny.file, text)
    monkeypatch.undo()
    for tensor in source.tensors.values():
        if len(tensor.shape) == 2:
            rows = source.floats(tensor.name)
            changes = {tensor.name: Blocks(TensorType.Q4_0, rtn.quantize(TensorType.Q4_0, rows), rows.shape)}
            assert some.kl_with(changes) == whole.kl_with(changes) > 0, tensor.name
    last = tiny.file.spec.num_layers - 1
    assert some.kl_without({last}) == whole.kl_without({last}) > 0


def test_what_is_held_between_layers_is_bounded(make_tiny: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny = make_tiny("llama", "gguf", "q8_0")
    num_layers, row_bytes = tiny.file.spec.num_layers, 4 * tiny.file.spec.hidden_size
    text = np.random.default_rng(1).integers(0, 320, 256).tolist()
    monkeypatch.setattr(trials_module, "MAX_HELD_BYTES", (num_layers - 1) * 256 * row_bytes)
    held = Trials(tiny.file, text)._held
    assert list(held) == list(range(2, num_layers + 1, 2))
    assert sum(rows.nbytes for rows in held.values()) <= trials_module.MAX_HELD_BYTES
