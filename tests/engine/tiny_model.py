"""A random Llama of two layers with a byte-level vocabulary and a chat template, as a GGUF file of 200 kB."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import pytest
from gguf import GGMLQuantizationType as Type

HIDDEN, FFN, HEADS, KV_HEADS, LAYERS, CONTEXT = 64, 128, 4, 2, 2, 1024
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
INFILL = ["<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"]
EOS, TURN_END = 0, 2
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def _letters() -> list[str]:
    """GPT-2's printable stand-ins for the 256 bytes."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    stand_in = {byte: chr(byte) for byte in shown}
    hidden = [byte for byte in range(256) if byte not in stand_in]
    return [stand_in.get(byte) or chr(256 + hidden.index(byte)) for byte in range(256)]


def _vocabulary() -> tuple[list[str], list[str]]:
    """Tokens after the special ones, and the merges that make the longer of them."""
    merges = ["t h", "th e", "i n", "a n", "an d", "Ġ the", "Ġ and"]
    return _letters() + [merge.replace(" ", "") for merge in merges], merges


def _add_tokenizer(writer: gguf.GGUFWriter, *, chat: bool, infill: bool, turned: int) -> int:
    tokens, merges = _vocabulary()
    tokens = tokens[turned:] + tokens[:turned]
    added = INFILL if infill else []
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(SPECIAL + tokens + added)
    writer.add_token_types([3] * len(SPECIAL) + [1] * len(tokens) + [3] * len(added))  # 3: control, 1: normal
    writer.add_token_merges(merges)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(TURN_END)
    writer.add_add_bos_token(False)
    if chat:
        writer.add_chat_template(TEMPLATE)
    return len(SPECIAL) + len(tokens) + len(added)


def _shapes(vocab_size: int) -> dict[str, tuple[int, ...]]:
    kv = KV_HEADS * HIDDEN // HEADS
    layer = {
        "attn_norm": (HIDDEN,),
        "attn_q": (HIDDEN, HIDDEN),
        "attn_k": (kv, HIDDEN),
        "attn_v": (kv, HIDDEN),
        "attn_output": (HIDDEN, HIDDEN),
        "ffn_norm": (HIDDEN,),
        "ffn_gate": (FFN, HIDDEN),
        "ffn_up": (FFN, HIDDEN),
        "ffn_down": (HIDDEN, FFN),
    }
    ends = {
        "token_embd.weight": (vocab_size, HIDDEN),
        "output.weight": (vocab_size, HIDDEN),
        "output_norm.weight": (HIDDEN,),
    }
    return ends | {f"blk.{at}.{name}.weight": shape for at in range(LAYERS) for name, shape in layer.items()}


def write_tiny_model(
    path: Path,
    *,
    chat: bool = True,
    infill: bool = False,
    seed: int = 0,
    damage: str | None = None,
    nonsense: str | None = None,
    turned: int = 0,
) -> Path:
    """Weights are seeded noise, large enough that the text varies.

    infill: whether the vocabulary has Qwen-Coder's tokens for filling gaps, the last three.
    damage: a vector to fill with NaN. nonsense: a character whose embedding is infinite. turned: by how many ids the
    letters are moved, which makes it another vocabulary.
    """
    rng = np.random.default_rng(seed)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("tiny")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(HIDDEN)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(FFN)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(HIDDEN // HEADS)
    writer.add_rope_freq_base(10000.0)
    vocab_size = _add_tokenizer(writer, chat=chat, infill=infill, turned=turned)
    writer.add_vocab_size(vocab_size)
    for name, shape in _shapes(vocab_size).items():
        noise = rng.standard_normal(shape).astype(np.float32)
        if len(shape) == 1:
            writer.add_tensor(name, np.full_like(noise, np.nan) if name == damage else 1 + noise / 10)
        else:
            values = gguf.quants.quantize(2 * noise / np.float32(shape[1] ** 0.5), Type.Q8_0)
            if nonsense is not None and name == "token_embd.weight":
                values[len(SPECIAL) + _letters().index(nonsense), :2] = np.array([np.inf], np.float16).view(np.uint8)
            writer.add_tensor(name, values, raw_dtype=Type.Q8_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Path of the tiny model with a chat template."""
    return write_tiny_model(tmp_path_factory.mktemp("models") / "tiny.gguf")
