"""A tiny text encoder on disk: BERT with random weights and a vocabulary of its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

WORDS = ["the", "a", "of", "to", "in", "is", "on", "off", "what", "who", "turn", "light", "cat", "dog", "red", "blue"]
PIECES = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    *WORDS,
    *"0123456789.,?!'",
    "##s",
    "##ing",
    "##ed",
    *"bcdefghijklmnop",
]
HIDDEN, LAYERS, HEADS, FFN, POSITIONS, MAX_TOKENS = 64, 2, 2, 128, 48, 32


def write_tiny_bert(folder: Path, *, damage: str = "", seed: int = 0, layers: int = LAYERS) -> Path:
    """A folder as sentence-transformers keeps it. `damage` names a tensor to fill with NaN."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    names = {"embeddings.word_embeddings.weight": (len(PIECES), HIDDEN)}
    names |= {"embeddings.position_embeddings.weight": (POSITIONS, HIDDEN)}
    names |= {"embeddings.token_type_embeddings.weight": (2, HIDDEN)}
    norms = ["embeddings.LayerNorm"]
    for layer in range(layers):
        stem = f"encoder.layer.{layer}."
        attention = {f"attention.{name}": (HIDDEN, HIDDEN) for name in ("self.query", "self.key", "self.value")}
        attention |= {"attention.output.dense": (HIDDEN, HIDDEN)}
        shapes = {**attention, "intermediate.dense": (FFN, HIDDEN), "output.dense": (HIDDEN, FFN)}
        for name, shape in shapes.items():
            names |= {f"{stem}{name}.weight": shape, f"{stem}{name}.bias": shape[:1]}
        norms += [f"{stem}attention.output.LayerNorm", f"{stem}output.LayerNorm"]
    names |= {f"{norm}.{part}": (HIDDEN,) for norm in norms for part in ("weight", "bias")}
    tensors = {}
    for name, shape in names.items():
        noise = rng.standard_normal(shape).astype(np.float32)
        scale = np.float32(shape[-1] ** -0.5 if len(shape) > 1 else 0.2)
        tensors[name] = noise * scale + np.float32(name.endswith("LayerNorm.weight"))
        if name == damage:
            tensors[name][:] = np.nan
    tensors["embeddings.position_ids"] = np.arange(POSITIONS)[None]  # as in the files of older versions
    save_file(tensors, folder / "model.safetensors")
    write_settings(folder, layers)
    return folder


def write_settings(folder: Path, layers: int = LAYERS) -> None:
    (folder / "config.json").write_text(
        f'{{"model_type": "bert", "vocab_size": {len(PIECES)}, "hidden_size": {HIDDEN}, "num_hidden_layers": {layers}, '
        f'"num_attention_heads": {HEADS}, "intermediate_size": {FFN}, "max_position_embeddings": {POSITIONS}, '
        '"type_vocab_size": 2, "hidden_act": "gelu", "layer_norm_eps": 1e-12}'
    )
    (folder / "vocab.txt").write_text("\n".join(PIECES) + "\n")
    (folder / "sentence_bert_config.json").write_text(f'{{"max_seq_length": {MAX_TOKENS}, "do_lower_case": false}}')
    (folder / "1_Pooling").mkdir(exist_ok=True)
    (folder / "1_Pooling" / "config.json").write_text(
        '{"word_embedding_dimension": 64, "pooling_mode_mean_tokens": true, "pooling_mode_cls_token": false}'
    )


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the tiny text encoder."""
    return write_tiny_bert(tmp_path_factory.mktemp("models") / "tiny-bert")


def some_texts(count: int, seed: int = 0) -> list[str]:
    """Texts of 1 to 28 words."""
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, rng.integers(1, 29))) for _ in range(count)]
