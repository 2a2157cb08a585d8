"""Small vocabularies trained on the corpus by independent libraries, and the GGUF metadata that describes them."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import gguf
import numpy as np
import sentencepiece
import tokenizers
from tokenizers import models, pre_tokenizers, trainers

from formats.corpus import SEEDS, make_corpus
from miaotui.formats.gguf import read_gguf
from miaotui.formats.tokenizer import Tokenizer
from miaotui.formats.tokenizer_gguf import read_gguf_tokenizer

CONTROL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")


def make_tokenizer(metadata: Mapping[str, object], vocab_size: int | None = None) -> Tokenizer:
    """A tokenizer from GGUF metadata given as a plain dictionary."""
    if vocab_size is None:
        tokens = metadata["tokenizer.ggml.tokens"]
        assert isinstance(tokens, Sequence)
        vocab_size = len(tokens)
    return Tokenizer(*read_gguf_tokenizer(metadata, vocab_size))


def train_byte_level() -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Vocabulary (token → id) and merges of a byte-level BPE; the control tokens come first."""
    trainer = trainers.BpeTrainer(
        vocab_size=3000,
        special_tokens=list(CONTROL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    trained = tokenizers.Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trained.train_from_iterator(make_corpus(), trainer)
    merges = models_state(trained)["merges"]
    return trained.get_vocab(), [(left, right) for left, right in merges]


def models_state(trained: tokenizers.Tokenizer) -> dict[str, list[list[str]]]:
    """The model part of a tokenizer's JSON."""
    import json

    model: dict[str, list[list[str]]] = json.loads(trained.to_str())["model"]
    return model


def byte_level_metadata(vocab: Mapping[str, int], merges: Sequence[tuple[str, str]], pre: str) -> dict[str, object]:
    """GGUF metadata of a byte-level vocabulary whose control tokens are `CONTROL_TOKENS`."""
    tokens = sorted(vocab, key=vocab.__getitem__)
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": pre,
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": np.array([3 if token in CONTROL_TOKENS else 1 for token in tokens], np.int32),
        "tokenizer.ggml.merges": [" ".join(pair) for pair in merges],
        "tokenizer.ggml.bos_token_id": vocab["<|im_start|>"],
        "tokenizer.ggml.eos_token_id": vocab["<|im_end|>"],
        "tokenizer.ggml.add_bos_token": False,
    }


def train_sentencepiece(**options: object) -> sentencepiece.SentencePieceProcessor:
    """A SentencePiece model trained on the readable part of the corpus."""
    names = ("english", "chinese", "other_scripts", "code", "words")
    sentences = [line for name in names for seed in SEEDS[name] for line in seed.split("\n") if line] * 3
    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(sentences),
        model_writer=written,
        vocab_size=900,
        character_coverage=0.98,
        hard_vocab_limit=False,
        minloglevel=2,
        num_threads=1,
        **options,
    )
    return sentencepiece.SentencePieceProcessor(model_proto=written.getvalue())


def write_sentencepiece_gguf(model: sentencepiece.SentencePieceProcessor, path: Path, kind: str, **flags: bool) -> Path:
    """Writes the vocabulary with the `gguf` package, as llama.cpp's converter does; `kind` is "llama" or "t5"."""
    pieces, scores, types = [], [], []
    for id in range(model.get_piece_size()):
        piece, type_ = model.id_to_piece(id), gguf.TokenType.NORMAL
        if model.is_unknown(id):
            type_ = gguf.TokenType.UNKNOWN
        elif model.is_control(id):
            type_ = gguf.TokenType.CONTROL
        elif model.is_byte(id):
            type_ = gguf.TokenType.BYTE
        elif piece in USER_DEFINED:
            type_, piece = gguf.TokenType.USER_DEFINED, piece.replace("▁", " ")
        pieces.append(piece)
        scores.append(model.get_score(id))
        types.append(type_)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_tokenizer_model(kind)
    writer.add_token_list(pieces)
    writer.add_token_scores(scores)
    writer.add_token_types(types)
    writer.add_bos_token_id(model.bos_id())
    writer.add_eos_token_id(model.eos_id())
    writer.add_unk_token_id(model.unk_id())
    for name, value in flags.items():
        writer.add_bool(f"tokenizer.ggml.{name}", value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    return path


USER_DEFINED = ("<tool>", "\n", "\n\n", "▁▁", "▁▁▁")


def open_gguf_tokenizer(path: Path) -> Tokenizer:
    """The tokenizer of a GGUF file that holds nothing else."""
    return make_tokenizer(read_gguf(path).metadata)
