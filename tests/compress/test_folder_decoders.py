"""A decoder's folder becomes a GGUF file that gives the same logits for the same tokens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from formats.test_byte_level_gguf import ROWS, write_folder
from miaotui import LLM
from miaotui.compress.compress import compress, open_source
from miaotui.errors import UnsupportedModelError
from miaotui.formats import open_model
from miaotui.formats.weights import TensorType
from models import tiny

LLAMA3 = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 64}
YARN = {"factor": 4.0, "original_max_position_embeddings": 64}
CASES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "llama": ("llama", "llama-bpe", {}),
    "llama-tied": ("llama", "smollm", {"tie_word_embeddings": True}),
    "llama-biases": ("llama", "gpt-2", {"attention_bias": True}),
    "llama-llama3": ("llama", "llama-bpe", {"rope_parameters": {"rope_type": "llama3", "rope_theta": 5e5, **LLAMA3}}),
    "llama-linear": ("llama", "gpt-2", {"rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 4.0}}),
    "llama-yarn": ("llama", "gpt-2", {"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4, **YARN}}),
    "qwen2": ("qwen2", "qwen2", {}),
    "qwen3": ("qwen3", "qwen2", {}),
}
TEXT = "The cat and the dog go 12 miles, don't they? " * 8


def write_decoder(folder: Path, architecture: str, rules: str, **changes: Any) -> Path:
    tiny.save_safetensors(tiny.make_model(tiny.make_config(architecture, vocab_size=ROWS, **changes)), folder)
    return write_folder(folder, rules, chat_template="{{ messages[0].content }}")


@pytest.mark.parametrize("case", CASES)
def test_logits_are_those_of_the_folder(case: str, tmp_path: Path) -> None:
    architecture, rules, changes = CASES[case]
    folder = write_decoder(tmp_path / "folder", architecture, rules, **changes)
    done = compress(open_source(folder), tmp_path / "out.gguf", TensorType.F16)
    assert 0.4 < done.output_bytes / done.source_bytes < 0.6
    options: dict[str, Any] = {"activations": "float32", "kv_dtype": "f32", "context_length": 256}
    with LLM(folder, **options) as before, LLM(done.path, **options) as after:
        ids = before.tokenizer.encode(TEXT)
        assert after.tokenizer.encode(TEXT) == ids
        assert after.tokenizer.eos_ids == before.tokenizer.eos_ids
        want, got = before.logits(ids[:120]), after.logits(ids[:120])
    assert np.corrcoef(want.ravel(), got.ravel())[0, 1] > 0.9999
    np.testing.assert_allclose(got, want, atol=0.02 * float(np.abs(want).max()))


def test_tensors_and_settings_are_those_of_a_converter(tmp_path: Path) -> None:
    """The same model as `tiny.save_gguf` writes it, tensor by tensor."""
    config = tiny.make_config("llama", vocab_size=ROWS)
    model = tiny.make_model(config)
    folder = write_folder(tmp_path / "folder", "llama-bpe")
    tiny.save_safetensors(model, folder)
    want = tiny.to_gguf_tensors(model)
    source = open_source(folder)
    assert set(source.tensors) == set(want)
    for name, values in want.items():
        np.testing.assert_array_equal(source.floats(name), values)
        if values.ndim > 1:
            np.testing.assert_array_equal(source.floats(name, 3, 7), values[3:7])
    spec = open_model(compress(source, tmp_path / "out.gguf", TensorType.F16).path).spec
    oracle = open_model(tiny.save_gguf(config, want, tmp_path / "oracle.gguf")).spec
    assert {f: getattr(spec, f) for f in spec.__slots__ if f != "name"} == {
        f: getattr(oracle, f) for f in oracle.__slots__ if f != "name"
    }


@pytest.mark.parametrize("architecture", ["gemma3", "mistral"])
def test_what_has_no_form_as_a_file_is_refused(architecture: str, tmp_path: Path) -> None:
    folder = write_decoder(tmp_path / "folder", architecture, "gpt-2")
    with pytest.raises(UnsupportedModelError, match="take the model as a GGUF file"):
        open_source(folder)
