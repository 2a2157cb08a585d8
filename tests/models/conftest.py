"""Tiny models on disk, each made once per test session."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from gguf import GGMLQuantizationType as Type

from miaotui.formats import ModelFile, open_model
from miaotui.graph.nodes import Graph
from miaotui.models import build_graph
from models import tiny

torch.set_num_threads(1)  # tiny matrices: threads would only wait for each other

LLAMA3 = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 64}
YARN = {"factor": 4.0, "original_max_position_embeddings": 64}
# Short of the number of test tokens, so that stretched positions and windows are met.
NUM_TOKENS = 100

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", {}),
    "llama-tied": ("llama", {"tie_word_embeddings": True}),
    "llama-biases": ("llama", {"attention_bias": True}),
    "llama-linear": ("llama", {"rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 4.0}}),
    "llama-llama3": ("llama", {"rope_parameters": {"rope_type": "llama3", "rope_theta": 5e5, **LLAMA3}}),
    "llama-yarn": ("llama", {"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4, **YARN}}),
    "mistral-window": ("mistral", {}),
    "qwen2": ("qwen2", {}),
    "qwen3": ("qwen3", {}),
    "gemma3": ("gemma3", {}),
    "gemma3-linear": (
        "gemma3",
        {
            "rope_parameters": {
                "full_attention": {"rope_type": "linear", "rope_theta": 1e6, "factor": 8.0},
                "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
            }
        },
    ),
}


@dataclass
class Tiny:
    """A model of transformers beside the same weights in a file."""

    model: transformers.PreTrainedModel
    file: ModelFile
    tokens: list[int]

    @cached_property
    def graph(self) -> Graph:
        return build_graph(self.file.spec, self.file.weights)

    @cached_property
    def logits(self) -> np.ndarray:
        """What transformers computes for `tokens`."""
        return tiny.reference_logits(self.model, self.tokens)


Make = Callable[..., Tiny]
MakeWeights = Callable[[transformers.PreTrainedConfig], transformers.PreTrainedModel]


def confident_model(config: transformers.PreTrainedConfig) -> transformers.PreTrainedModel:
    return tiny.make_confident(tiny.make_model(config))


@pytest.fixture(scope="session")
def make_tiny(tmp_path_factory: pytest.TempPathFactory) -> Make:
    """make_tiny(case, source): float32 weights. make_tiny(case, "gguf", mix): quantized, in the types of a mix.

    `weights` makes the transformers model before it is quantized.
    """
    made: dict[object, Tiny] = {}

    def make(case: str, source: str, mix: str | None = None, weights: MakeWeights = confident_model) -> Tiny:
        key = (case, source, mix, weights)
        if key not in made:
            architecture, changes = CASES[case]
            config = tiny.make_config(architecture, **changes)
            folder = tmp_path_factory.mktemp(case)
            tokens = np.random.default_rng(len(made)).integers(0, tiny.VOCAB, NUM_TOKENS).tolist()
            model, path = _quantized(weights(config), folder, mix) if mix else _plain(config, folder, source)
            made[key] = Tiny(model, open_model(path), tokens)
        return made[key]

    return make


def _plain(
    config: transformers.PreTrainedConfig, folder: Path, source: str
) -> tuple[transformers.PreTrainedModel, Path]:
    model = tiny.make_model(config)
    if source == "safetensors":
        return model, tiny.save_safetensors(model, folder)
    return model, tiny.save_gguf(config, tiny.to_gguf_tensors(model), folder / "tiny.gguf")


# Which type each part of a quantized file has; the first entry whose key is part of the tensor's name counts.
MIXES: dict[str, dict[str, Type]] = {
    "q4_0": {"token_embd": Type.Q8_0, "": Type.Q4_0},
    "q4_1": {"token_embd": Type.Q8_0, "": Type.Q4_1},
    "q5": {"ffn": Type.Q5_1, "token_embd": Type.Q5_0, "": Type.Q5_0},
    "q8_0": {"": Type.Q8_0},
    "q4_k_m": {"attn_v": Type.Q6_K, "ffn_down": Type.Q6_K, "token_embd": Type.Q6_K, "": Type.Q4_K},
    "q5_k_m": {"attn_v": Type.Q6_K, "ffn_down": Type.Q6_K, "token_embd": Type.Q8_0, "": Type.Q5_K},
    "q2_k": {"attn_v": Type.Q3_K, "ffn_down": Type.Q3_K, "token_embd": Type.Q6_K, "": Type.Q2_K},
    "iq4": {"ffn_down": Type.IQ4_NL, "token_embd": Type.Q6_K, "": Type.IQ4_XS},
    "floats": {"attn_v": Type.F16, "ffn_up": Type.BF16, "ffn_down": Type.F32, "token_embd": Type.F16, "": Type.Q8_0},
}


def _quantized(
    model: transformers.PreTrainedModel, folder: Path, mix: str
) -> tuple[transformers.PreTrainedModel, Path]:
    """A GGUF file of blocks like the model's weights, and the model with the weights that they stand for."""
    config = model.config
    rng = np.random.default_rng(3)
    kinds, blocks, weights = {}, {}, {}
    for name, array in tiny.to_gguf_tensors(model).items():
        if array.ndim == 1:
            blocks[name] = weights[name] = array
            continue
        kinds[name] = next(kind for part, kind in MIXES[mix].items() if part in name)
        blocks[name] = tiny.make_blocks(array, kinds[name], rng)
        weights[name] = tiny.from_blocks(blocks[name], kinds[name])
    if "output.weight" in blocks:
        # Random blocks are not the model's weights: tie what `make_confident` tied once more.
        kinds["output.weight"] = kinds["token_embd.weight"]
        for arrays in (blocks, weights):
            arrays["output.weight"] = np.roll(arrays["token_embd.weight"], 1, 0)
    path = tiny.save_gguf(config, blocks, folder / "tiny.gguf", kinds.__getitem__)
    model.load_state_dict(tiny.from_gguf_tensors(weights, config))
    assert all(torch.isfinite(p).all() for p in model.parameters())
    return model, path
