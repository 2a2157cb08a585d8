"""The shipped model's numbers against transformers, which runs the weights that the `gguf` package dequantizes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from miaotui import LLM

pytestmark = pytest.mark.model
NUM_TOKENS = 48


def transformers_logits(path: Path, token_ids: list[int]) -> np.ndarray:
    import torch
    import transformers
    from gguf import GGUFReader
    from gguf.quants import dequantize

    config = transformers.LlamaConfig(
        vocab_size=49152,
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=30,
        num_attention_heads=9,
        num_key_value_heads=3,
        max_position_embeddings=8192,
        rms_norm_eps=1e-5,
        tie_word_embeddings=True,
        rope_parameters={"rope_type": "default", "rope_theta": 100000.0},
    )
    model = transformers.LlamaForCausalLM(config).eval()
    names = {
        "attn_norm": "input_layernorm",
        "ffn_norm": "post_attention_layernorm",
        "attn_q": "self_attn.q_proj",
        "attn_k": "self_attn.k_proj",
        "attn_v": "self_attn.v_proj",
        "attn_output": "self_attn.o_proj",
        "ffn_gate": "mlp.gate_proj",
        "ffn_up": "mlp.up_proj",
        "ffn_down": "mlp.down_proj",
    }
    state = {}
    for tensor in GGUFReader(path).tensors:
        weight = np.array(dequantize(tensor.data, tensor.tensor_type), np.float32)
        block, _, rest = tensor.name.partition(".")
        if block == "blk":
            layer, role, _ = rest.split(".")
            if role in ("attn_q", "attn_k"):  # GGUF pairs neighbouring rows for rotation, transformers the two halves
                heads = 9 if role == "attn_q" else 3
                weight = weight.reshape(heads, 32, 2, 576).swapaxes(1, 2).reshape(weight.shape)
            state[f"model.layers.{layer}.{names[role]}.weight"] = torch.from_numpy(np.ascontiguousarray(weight))
        else:
            name = {"token_embd": "model.embed_tokens.weight", "output_norm": "model.norm.weight"}[block]
            state[name] = torch.from_numpy(weight)
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert (missing, unexpected) == (["lm_head.weight"], [])
    model.tie_weights()
    with torch.no_grad():
        return model(torch.tensor([token_ids])).logits[0].numpy()


def log_softmax(logits: np.ndarray) -> np.ndarray:
    wide = logits.astype(np.float64)
    return wide - np.logaddexp.reduce(wide, axis=-1, keepdims=True)


def test_the_default_path_and_the_float_path_agree_with_transformers(smollm2_path: Path) -> None:
    with LLM(smollm2_path) as llm:
        greedy = llm.chat("What is the capital of France, and why?", temperature=0.0, max_tokens=NUM_TOKENS)
        start = greedy.receipt.prompt_tokens
        ids = [*llm.encode_chat("What is the capital of France, and why?"), *greedy.token_ids]
        found = llm.logits(ids)
    with LLM(smollm2_path, activations="float32", kv_dtype="f32") as llm:
        floats = llm.logits(ids)
    expected = transformers_logits(smollm2_path, ids)
    assert np.abs(floats - expected).max() <= 1e-4 * np.abs(expected).max()
    expected, found = log_softmax(expected)[start - 1 :], log_softmax(found)[start - 1 :]
    assert (np.exp(expected) * (expected - found)).sum(-1).mean() <= 1e-4
    # A tie may fall either way; SmolLM2's two likeliest tokens are rarely closer than this.
    ties = np.diff(np.sort(expected, -1)[:, -2:]).ravel() < 1e-2
    assert ((expected.argmax(-1) == found.argmax(-1)) | ties).all()
