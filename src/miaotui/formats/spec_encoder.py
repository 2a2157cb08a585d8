"""ModelSpec of a text encoder: BERT's `config.json` and what sentence-transformers keeps beside it, or GGUF."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from miaotui.errors import UnsupportedModelError, brief
from miaotui.formats.gguf_write import StandardValue
from miaotui.formats.json_file import parse_object, read_json_object
from miaotui.formats.safetensors import inside
from miaotui.formats.spec import Activation, ModelSpec, Pooling, RopeScaling
from miaotui.formats.spec_fields import Fields

_ACTIVATIONS: Mapping[str, Activation] = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "silu": "silu",
}
_POOLING: Mapping[str, Pooling] = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "first"}
_POOLING_TYPES: Mapping[Pooling, int] = {"mean": 1, "first": 2}
"""llama.cpp's numbers (`llama_pooling_type`); others are no pooling, the last token, a ranking."""
MAX_TEXT_TOKENS_KEY = "miaotui.max_text_tokens"
_MAX_BYTES = 1 << 16
POOLING_FOLDER, LENGTH_FILE, MODULES_FILE = "1_Pooling", "sentence_bert_config.json", "modules.json"
_MODULES = frozenset({"Transformer", "Pooling", "Normalize"})


@dataclass(frozen=True, slots=True)
class _Keys:
    """What a BERT's sizes are called."""

    hidden_size: str
    intermediate_size: str
    num_layers: str
    num_heads: str
    context_length: str
    norm_eps: str
    activation: str
    num_token_types: str


_CONFIG_KEYS = _Keys(
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "max_position_embeddings",
    "layer_norm_eps",
    "hidden_act",
    "type_vocab_size",
)
_GGUF_KEYS = _Keys(
    "bert.embedding_length",
    "bert.feed_forward_length",
    "bert.block_count",
    "bert.attention.head_count",
    "bert.context_length",
    "bert.attention.layer_norm_epsilon",
    "bert.hidden_activation",
    "tokenizer.ggml.token_type_count",
)


def spec_from_bert(fields: Fields, name: str) -> ModelSpec:
    """The spec of a BERT's `config.json`. Raises as `spec_config.spec_from_config` does."""
    positions = fields.string("position_embedding_type", "absolute")
    if positions != "absolute":
        raise UnsupportedModelError(f"positions of kind {brief(positions)} are not supported (supported: absolute).")
    if fields.boolean("is_decoder", False):
        raise UnsupportedModelError("a BERT that writes text (is_decoder) is not supported; take the encoder.")
    return _spec(fields, _CONFIG_KEYS, name, "safetensors", fields.integer("vocab_size"))


def spec_from_gguf_bert(fields: Fields, name: str, vocab_size: int) -> ModelSpec:
    """The spec of a BERT's GGUF metadata, as llama.cpp's `conversion/bert.py` writes it. Raises as `spec_from_gguf`."""
    if fields.boolean("bert.attention.causal", False):
        raise UnsupportedModelError("a BERT that reads in one direction (attention.causal) is not supported.")
    number = fields.integer("bert.pooling_type", _POOLING_TYPES["mean"])
    pooling = next((kind for kind, known in _POOLING_TYPES.items() if known == number), None)
    if pooling is None:
        known = ", ".join(f"{n}, {kind}" for kind, n in _POOLING_TYPES.items())
        raise UnsupportedModelError(f"pooling of type {number} is not supported (supported: {known}).")
    spec = _spec(fields, _GGUF_KEYS, name, "gguf", vocab_size)
    max_tokens = fields.integer(MAX_TEXT_TOKENS_KEY, spec.context_length)
    return replace(spec, pooling=pooling, max_text_tokens=min(max_tokens, spec.context_length))


def bert_metadata(spec: ModelSpec) -> dict[str, StandardValue]:
    """What `spec_from_gguf_bert` reads, of any BERT's spec."""
    keys = _GGUF_KEYS
    metadata: dict[str, StandardValue] = {
        keys.num_layers: spec.num_layers,
        keys.context_length: spec.context_length,
        keys.hidden_size: spec.hidden_size,
        keys.intermediate_size: spec.intermediate_size,
        keys.num_heads: spec.num_heads,
        keys.norm_eps: spec.norm_eps,
        "bert.attention.causal": False,
        "bert.pooling_type": _POOLING_TYPES[spec.pooling],
        keys.num_token_types: spec.num_token_types,
        MAX_TEXT_TOKENS_KEY: spec.longest_text,
    }
    if spec.activation != "gelu":
        metadata[keys.activation] = next(name for name, kind in _ACTIVATIONS.items() if kind == spec.activation)
    return metadata


def _spec(fields: Fields, keys: _Keys, name: str, source: Literal["gguf", "safetensors"], vocab_size: int) -> ModelSpec:
    activation = fields.string(keys.activation, "gelu")
    if activation not in _ACTIVATIONS:
        known = ", ".join(_ACTIVATIONS)
        raise UnsupportedModelError(f"activation {brief(activation)} is not supported for bert (supported: {known}).")
    hidden_size, num_heads = fields.integer(keys.hidden_size), fields.integer(keys.num_heads)
    num_layers = fields.integer(keys.num_layers)
    if not 1 <= num_heads <= hidden_size or hidden_size % num_heads:
        raise fields.wrong(keys.num_heads, num_heads, f"a divisor of {keys.hidden_size}")
    if not 1 <= num_layers <= 1024:  # a tuple of so many is built before ModelSpec checks its fields
        raise fields.wrong(keys.num_layers, num_layers, "between 1 and 1024")
    head_dim = hidden_size // num_heads
    if head_dim % 16:
        raise UnsupportedModelError(f"attention heads of {head_dim} columns are not supported (multiples of 16 are).")
    return ModelSpec(
        architecture="bert",
        name=name,
        source=source,
        vocab_size=vocab_size,
        hidden_size=hidden_size,
        intermediate_size=fields.integer(keys.intermediate_size),
        num_layers=num_layers,
        num_heads=num_heads,
        num_kv_heads=num_heads,
        head_dim=head_dim,
        context_length=fields.integer(keys.context_length),
        norm_eps=fields.number(keys.norm_eps, 1e-12),
        activation=_ACTIVATIONS[activation],
        rope_dim=head_dim,
        rope_theta=10_000.0,
        rope_local_theta=None,
        rope_scaling=RopeScaling(),
        rope_pairing="neox",
        attention_scale=1.0 / math.sqrt(head_dim),
        attention_bias=True,
        sliding_window=None,
        sliding_layers=(False,) * num_layers,
        attention_softcap=None,
        final_softcap=None,
        tie_embeddings=True,
        embedding_scale=1.0,
        num_token_types=fields.integer(keys.num_token_types, 2),
    )


def as_in_folder(spec: ModelSpec, folder: Path) -> ModelSpec:
    """The spec with the pooling and the length of text that the folder's files ask for, as far as they are there.

    Raises ModelFileError when one is damaged, UnsupportedModelError for a pooling or a further step that miaotui lacks.
    """
    pooling, max_tokens = spec.pooling, spec.context_length
    if (folder / MODULES_FILE).is_file():
        _check_modules(inside(folder, MODULES_FILE))
    if (folder / POOLING_FOLDER).is_dir():
        home = inside(folder, POOLING_FOLDER)
        pooling = _pooling(home)
    if (folder / LENGTH_FILE).is_file():
        path = inside(folder, LENGTH_FILE)
        max_tokens = Fields(str(path), read_json_object(path, _MAX_BYTES)).integer("max_seq_length", max_tokens)
    return replace(spec, pooling=pooling, max_text_tokens=min(max_tokens, spec.context_length))


def _check_modules(path: Path) -> None:
    """What sentence-transformers would do with a text: a step that is left out would make vectors silently wrong."""
    with path.open("rb") as file:
        content = b'{"modules":' + file.read(_MAX_BYTES) + b"}"
    for module in Fields(str(path), parse_object(content, str(path))).items("modules") or []:
        kind = str(module.get("type")).rpartition(".")[2] if isinstance(module, dict) else ""
        where = module.get("path") if isinstance(module, dict) else None
        if kind not in _MODULES or (kind == "Pooling" and where != POOLING_FOLDER):
            raise UnsupportedModelError(
                f"{path}: the step {brief(kind)} in {brief(where)} is not supported "
                f"(supported: {', '.join(sorted(_MODULES))}, pooling in {POOLING_FOLDER})."
            )


def _pooling(folder: Path) -> Pooling:
    path = inside(folder, "config.json")
    config = read_json_object(path, _MAX_BYTES)
    modes = {key for key, value in config.items() if key.startswith("pooling_mode_") and value is True}
    if len(modes) != 1 or not modes <= set(_POOLING):
        raise UnsupportedModelError(
            f"{path}: pooling by {brief(sorted(modes))} is not supported (supported: {', '.join(_POOLING)})."
        )
    return _POOLING[modes.pop()]
