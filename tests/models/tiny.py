"""Tiny random models made by transformers, and the same weights as safetensors folders and GGUF files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
import transformers
from gguf import GGMLQuantizationType as Type

VOCAB = 320
CONTEXT = 256

COMMON = {
    "vocab_size": VOCAB,
    "num_hidden_layers": 3,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "intermediate_size": 512,
    "max_position_embeddings": CONTEXT,
    "attn_implementation": "eager",
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}


def make_config(architecture: str, **changes: Any) -> transformers.PreTrainedConfig:
    """A small config of one architecture; `changes` override or extend it."""
    if architecture == "llama":
        return transformers.LlamaConfig(**(COMMON | {"hidden_size": 256} | changes))
    if architecture == "mistral":
        return transformers.MistralConfig(**(COMMON | {"hidden_size": 256, "sliding_window": 16} | changes))
    if architecture == "qwen2":
        return transformers.Qwen2Config(**(COMMON | {"hidden_size": 256, "tie_word_embeddings": True} | changes))
    if architecture == "qwen3":
        # Queries wider than the residual stream, as in the real 0.6B.
        return transformers.Qwen3Config(**(COMMON | {"hidden_size": 256, "head_dim": 64} | changes))
    # Seven layers, so that the sixth is global and the others slide.
    own = {
        "hidden_size": 256,
        "head_dim": 64,
        "num_hidden_layers": 7,
        "num_attention_heads": 4,
        "num_key_value_heads": 1,
        "intermediate_size": 256,
        "query_pre_attn_scalar": 64,
        "sliding_window": 16,
        "final_logit_softcapping": 30.0,
    }
    return transformers.Gemma3TextConfig(**(COMMON | own | changes))


def initial_model(config: transformers.PreTrainedConfig) -> transformers.PreTrainedModel:
    """The random weights with which transformers starts a training."""
    torch.manual_seed(0)
    return transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()


def make_model(config: transformers.PreTrainedConfig) -> transformers.PreTrainedModel:
    """Random weights with gains, biases and norms that are not the identity, so that mixing them up shows."""
    model = initial_model(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("norm.weight"):
                parameter.add_(0.3 * torch.randn_like(parameter))
            elif parameter.dim() == 1:
                parameter.normal_(0, 0.5)
            else:
                parameter.normal_(0, 1.5 / parameter.shape[1] ** 0.5)
    return model


def make_confident(model: transformers.PreTrainedModel) -> transformers.PreTrainedModel:
    """Layers that only nudge the embedding, and a head that reads it back: a clear first choice at every position.

    In a model of independent random weights the best two logits often differ by less than any quantization error.
    """
    config = model.config
    scale = config.hidden_size**0.5 if config.model_type == "gemma3_text" else 1.0
    with torch.no_grad():
        embedding = model.get_input_embeddings().weight
        embedding.normal_(0, 0.05)
        for name, parameter in model.named_parameters():
            if name.endswith(("post_attention_layernorm.weight", "post_feedforward_layernorm.weight")) and scale != 1:
                parameter.add_(1).mul_(0.2 * 0.05 * scale).sub_(1)
            if name.endswith(("o_proj.weight", "down_proj.weight")) and scale == 1:
                parameter.mul_(0.2 * 0.05)
        if not config.tie_word_embeddings:
            model.get_output_embeddings().weight.copy_(embedding.roll(1, 0))
    return model


def reference_logits(model: transformers.PreTrainedModel, tokens: list[int]) -> np.ndarray:
    """[len(tokens), vocab] in float32."""
    with torch.no_grad():
        return model(torch.tensor([tokens])).logits[0].float().numpy()


def save_safetensors(model: transformers.PreTrainedModel, folder: Path) -> Path:
    model.save_pretrained(folder)
    return folder


# Hugging Face name → GGUF name, for every architecture here; norms that only Gemma has come first.
GEMMA_NAMES = {
    "post_attention_layernorm": "post_attention_norm",
    "pre_feedforward_layernorm": "ffn_norm",
    "post_feedforward_layernorm": "post_ffw_norm",
}
LAYER_NAMES = {
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
OUTER_NAMES = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}


def gguf_name(name: str, architecture: str) -> str:
    stem, suffix = name.rsplit(".", 1)
    if stem in OUTER_NAMES:
        return f"{OUTER_NAMES[stem]}.{suffix}"
    layer, part = stem.removeprefix("model.layers.").split(".", 1)
    names = LAYER_NAMES | (GEMMA_NAMES if architecture == "gemma3" else {})
    return f"blk.{layer}.{names[part]}.{suffix}"


def gguf_architecture(config: transformers.PreTrainedConfig) -> str:
    return {"mistral": "llama", "gemma3_text": "gemma3"}.get(config.model_type, config.model_type)


def interleave_heads(rows: np.ndarray, num_heads: int) -> np.ndarray:
    """Row order of Llama's q and k in GGUF: the two halves of each head interleaved."""
    return rows.reshape(num_heads, 2, len(rows) // num_heads // 2, -1).swapaxes(1, 2).reshape(rows.shape)


def to_gguf_tensors(model: transformers.PreTrainedModel) -> dict[str, np.ndarray]:
    """Float32 tensors as a converter would write them: Llama's q and k permuted, Gemma's norm gains plus one."""
    config, architecture = model.config, gguf_architecture(model.config)
    tensors = {}
    for name, parameter in model.named_parameters():
        array = parameter.detach().float().numpy()
        if architecture == "llama" and ".q_proj." in name:
            array = interleave_heads(array, config.num_attention_heads)
        if architecture == "llama" and ".k_proj." in name:
            array = interleave_heads(array, config.num_key_value_heads)
        if architecture == "gemma3" and name.endswith("norm.weight"):
            array = array + 1
        tensors[gguf_name(name, architecture)] = np.ascontiguousarray(array)
    if (config.rope_parameters or {}).get("rope_type") == "llama3":
        tensors["rope_freqs.weight"] = llama3_factors(config)
    return tensors


def from_gguf_tensors(tensors: Mapping[str, np.ndarray], config: transformers.PreTrainedConfig) -> dict[str, Any]:
    """The inverse: what the same model's state dict holds."""
    architecture, state = gguf_architecture(config), {}
    reference = make_model(config).state_dict()
    for name in reference:
        if name == "lm_head.weight" and config.tie_word_embeddings:
            array = tensors["token_embd.weight"]
        else:
            array = tensors[gguf_name(name, architecture)]
        if architecture == "llama" and (".q_proj." in name or ".k_proj." in name):
            heads = config.num_attention_heads if ".q_proj." in name else config.num_key_value_heads
            array = array.reshape(heads, len(array) // heads // 2, 2, -1).swapaxes(1, 2).reshape(array.shape)
        if architecture == "gemma3" and name.endswith("norm.weight"):
            array = array - 1
        state[name] = torch.from_numpy(np.array(array))
    return state


def llama3_factors(config: transformers.PreTrainedConfig) -> np.ndarray:
    """Per frequency, what llama.cpp's converter stores: plain divided by stretched."""
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    stretched, _ = ROPE_INIT_FUNCTIONS["llama3"](config, "cpu")
    dim = 2 * len(stretched)
    plain = config.rope_parameters["rope_theta"] ** (-np.arange(0, dim, 2) / dim)
    return (plain / stretched.numpy()).astype(np.float32)


def save_gguf(
    config: transformers.PreTrainedConfig,
    tensors: Mapping[str, np.ndarray],
    path: Path,
    types: Callable[[str], Type] = lambda name: Type.F32,
) -> Path:
    """Write float32 tensors as the types that `types` chooses; uint8 arrays are blocks of that type already."""
    writer = gguf.GGUFWriter(path, gguf_architecture(config))
    _write_settings(writer, config)
    for name, array in tensors.items():
        kind = types(name) if array.ndim > 1 else Type.F32
        if array.dtype == np.uint8:
            writer.add_tensor(name, array, raw_dtype=kind)
        elif kind in (Type.F32, Type.F16):
            writer.add_tensor(name, array.astype(np.float32 if kind == Type.F32 else np.float16))
        else:
            writer.add_tensor(name, gguf.quants.quantize(array, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _write_settings(writer: gguf.GGUFWriter, config: transformers.PreTrainedConfig) -> None:
    rope = config.rope_parameters.get("full_attention", config.rope_parameters)
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    writer.add_name("tiny")
    writer.add_vocab_size(config.vocab_size)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(head_dim)
    writer.add_value_length(head_dim)
    writer.add_rope_dimension_count(head_dim)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(rope["rope_theta"])
    if getattr(config, "sliding_window", None):
        writer.add_sliding_window(config.sliding_window)
    if getattr(config, "final_logit_softcapping", None):
        writer.add_final_logit_softcapping(config.final_logit_softcapping)
    if rope["rope_type"] in ("linear", "yarn"):
        writer.add_rope_scaling_type(gguf.RopeScalingType(rope["rope_type"]))
        writer.add_rope_scaling_factor(rope["factor"])
    if rope["rope_type"] == "yarn":
        writer.add_rope_scaling_orig_ctx_len(rope["original_max_position_embeddings"])
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list([f"token{i}" for i in range(config.vocab_size)])
    writer.add_token_types([gguf.TokenType.NORMAL] * config.vocab_size)
    writer.add_token_merges(["t o"])


# Where the float16 scale (and minimum) of a block lies, for types that the gguf package reads but cannot write.
SCALE_BYTES = {
    Type.Q2_K: (80, 82),
    Type.Q3_K: (108,),
    Type.Q4_K: (0, 2),
    Type.Q5_K: (0, 2),
    Type.Q6_K: (208,),
    Type.IQ4_NL: (0,),
    Type.IQ4_XS: (0,),
}


def make_blocks(array: np.ndarray, kind: Type, rng: np.random.Generator) -> np.ndarray:
    """uint8 [rows, bytes]: the array as that type, or random blocks of its deviation where only reading is known."""
    if kind in SCALE_BYTES:
        return random_blocks(kind, *array.shape, float(array.std()), rng)
    if kind in (Type.F32, Type.F16):
        return array.astype(np.float32 if kind == Type.F32 else np.float16).view(np.uint8)
    return gguf.quants.quantize(array, kind).view(np.uint8)


def from_blocks(blocks: np.ndarray, kind: Type) -> np.ndarray:
    """float32 [rows, cols]."""
    return gguf.dequantize(blocks, kind).astype(np.float32)


def random_blocks(kind: Type, rows: int, cols: int, std: float, rng: np.random.Generator) -> np.ndarray:
    """Random codes and sub-scales, with block scales such that weights have mean 0 and about the wanted deviation."""
    weights, nbytes = gguf.GGML_QUANT_SIZES[kind]
    blocks = rng.integers(0, 256, (rows * cols // weights, nbytes), dtype=np.uint8)

    def with_scales(*scales: float) -> np.ndarray:
        for at, scale in zip(SCALE_BYTES[kind], scales, strict=True):
            blocks[:, at : at + 2] = np.array([scale], np.float16).view(np.uint8)
        return gguf.dequantize(blocks, kind)

    scales = [1.0]
    if len(SCALE_BYTES[kind]) > 1:
        scales.append(float(with_scales(1.0, 0.0).mean() / -with_scales(0.0, 1.0).mean()))
    size = std / with_scales(*scales).std()
    with_scales(*(s * size for s in scales))
    return blocks.reshape(rows, -1)
