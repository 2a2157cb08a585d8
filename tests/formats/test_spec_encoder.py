from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.tiny_bert import MAX_TOKENS, POSITIONS, write_tiny_bert
from miaotui.errors import ModelFileError, UnsupportedModelError
from miaotui.formats import open_model
from miaotui.formats.spec_config import spec_from_config

CONFIG: dict[str, Any] = {
    "model_type": "bert",
    "vocab_size": 100,
    "hidden_size": 384,
    "num_hidden_layers": 6,
    "num_attention_heads": 12,
    "intermediate_size": 1536,
    "max_position_embeddings": 512,
}


def spec_of(**changes: Any) -> Any:
    return spec_from_config({**CONFIG, **changes}, source="config.json", name="m")


def test_a_bert_is_an_encoder_with_the_defaults_of_transformers() -> None:
    spec = spec_of()
    assert (spec.architecture, spec.is_encoder, spec.activation) == ("bert", True, "gelu")
    assert (spec.head_dim, spec.num_kv_heads, spec.num_token_types, spec.norm_eps) == (32, 12, 2, 1e-12)
    assert spec.attention_scale == pytest.approx(32**-0.5)
    assert spec.pooling == "mean"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"hidden_act": "relu"}, "activation 'relu' is not supported for bert"),
        ({"position_embedding_type": "relative_key"}, "positions of kind 'relative_key'"),
        ({"is_decoder": True}, "is_decoder"),
        ({"num_attention_heads": 16}, "heads of 24 columns"),
    ],
)
def test_variants_that_would_be_computed_wrongly_are_refused(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(UnsupportedModelError, match=says):
        spec_of(**changes)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"num_attention_heads": 0}, "num_attention_heads"),
        ({"num_attention_heads": 7}, "num_attention_heads"),
        ({"num_hidden_layers": 10**9}, "num_hidden_layers"),
        ({"type_vocab_size": 0}, "num_token_types"),
        ({"max_position_embeddings": "many"}, "max_position_embeddings"),
        ({"layer_norm_eps": 2.0}, "norm_eps"),
    ],
)
def test_sizes_that_make_no_sense_are_refused_by_name(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ModelFileError, match=says):
        spec_of(**changes)


def test_pooling_and_length_come_from_the_files_beside_it(tmp_path: Path) -> None:
    spec = open_model(write_tiny_bert(tmp_path)).spec
    assert (spec.pooling, spec.max_text_tokens, spec.context_length) == ("mean", MAX_TOKENS, POSITIONS)
    (tmp_path / "1_Pooling" / "config.json").write_text('{"pooling_mode_cls_token": true}')
    (tmp_path / "sentence_bert_config.json").write_text('{"max_seq_length": 100000}')
    spec = open_model(tmp_path).spec
    assert (spec.pooling, spec.max_text_tokens) == ("first", POSITIONS)


@pytest.mark.parametrize(
    "modes",
    [
        {"pooling_mode_max_tokens": True},
        {"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": True},
        {"pooling_mode_mean_tokens": False},
    ],
)
def test_a_pooling_that_is_not_known_is_refused(tmp_path: Path, modes: dict[str, bool]) -> None:
    write_tiny_bert(tmp_path)
    (tmp_path / "1_Pooling" / "config.json").write_text(json.dumps(modes))
    with pytest.raises(UnsupportedModelError, match="pooling by"):
        open_model(tmp_path)


STEPS = [("Transformer", ""), ("Pooling", "1_Pooling"), ("Normalize", "2_Normalize")]


def modules(*steps: tuple[str, str]) -> str:
    return json.dumps([{"type": f"sentence_transformers.models.{kind}", "path": path} for kind, path in steps])


def test_the_steps_of_sentence_transformers_are_those_that_are_done(tmp_path: Path) -> None:
    write_tiny_bert(tmp_path)
    (tmp_path / "modules.json").write_text(modules(*STEPS))
    assert open_model(tmp_path).spec.pooling == "mean"


@pytest.mark.parametrize("step", [("Dense", "2_Dense"), ("Pooling", "other"), ("WordWeights", "")])
def test_a_step_that_would_be_left_out_is_refused(tmp_path: Path, step: tuple[str, str]) -> None:
    write_tiny_bert(tmp_path)
    (tmp_path / "modules.json").write_text(modules(*STEPS, step))
    with pytest.raises(UnsupportedModelError, match=f"the step '{step[0]}'"):
        open_model(tmp_path)


@pytest.mark.parametrize("content", ["", "[", "[1]", '{"a": 1}', '"x"'])
def test_damaged_steps_are_told(tmp_path: Path, content: str) -> None:
    write_tiny_bert(tmp_path)
    (tmp_path / "modules.json").write_text(content)
    with pytest.raises((ModelFileError, UnsupportedModelError), match=r"modules\.json"):
        open_model(tmp_path)


def test_a_pooling_folder_that_leads_out_of_the_model_is_refused(tmp_path: Path) -> None:
    model = write_tiny_bert(tmp_path / "model")
    for file in (model / "1_Pooling").iterdir():
        file.unlink()
    (model / "1_Pooling").rmdir()
    (tmp_path / "elsewhere").mkdir()
    (model / "1_Pooling").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ModelFileError, match="outside the folder"):
        open_model(model)


def test_the_list_of_positions_in_older_files_is_left_out(tmp_path: Path) -> None:
    names = set(open_model(write_tiny_bert(tmp_path)).weights)
    assert "embeddings.position_ids" not in names
    assert "embeddings.position_embeddings.weight" in names


def test_other_integers_are_still_refused(tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    write_tiny_bert(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    save_file({**tensors, "embeddings.other": np.arange(3)}, tmp_path / "model.safetensors")
    with pytest.raises(UnsupportedModelError, match="I64"):
        open_model(tmp_path)
