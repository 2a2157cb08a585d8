"""A WordPiece tokenizer as GGUF metadata, both ways.

The vocabulary is written as llama.cpp reads it (its `conversion/bert.py` and `src/llama-vocab.cpp`): pieces that begin
a word get U+2581 in front, pieces that go on with one lose their "##", control tokens stay as they are.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

from miaotui.errors import TokenizerError, UnsupportedModelError, brief
from miaotui.formats.gguf_write import StandardValue
from miaotui.formats.tokenizer_hf import rust_errors
from miaotui.formats.tokenizer_spm import SPACE
from miaotui.formats.tokenizer_vocab import TokenType, Vocabulary
from miaotui.formats.wordpiece_rules import GOES_ON, MAX_WORD_CHARS, bert_tokenizer

if TYPE_CHECKING:
    import tokenizers

MODEL = "bert"
_PREFIX = "tokenizer.ggml."
_SPLIT_CHINESE = "miaotui.tokenizer.split_chinese"
_SEPARATOR = "seperator_token_id"  # as llama.cpp spells it
_PARTS = {"normalizer": "BertNormalizer", "pre_tokenizer": "BertPreTokenizer", "model": "WordPiece"}


def to_metadata(tokenizer: tokenizers.Tokenizer, vocab_size: int) -> dict[str, StandardValue]:
    """The `tokenizer.*` values of a tokenizer, padded to `vocab_size` rows of the embedding.

    Raises UnsupportedModelError for one that is no BERT's WordPiece, or that a GGUF file has no words for.
    """
    rules = json.loads(tokenizer.to_str())
    for part, wanted in _PARTS.items():
        found = (rules.get(part) or {}).get("type")
        if found != wanted:
            raise UnsupportedModelError(f"the tokenizer's {part} is {brief(found)}, not {wanted} as in a BERT.")
    model, normalizer = rules["model"], rules["normalizer"]
    if (model["continuing_subword_prefix"], model["max_input_chars_per_word"]) != (GOES_ON, MAX_WORD_CHARS):
        raise UnsupportedModelError(f"the tokenizer's rules are not BERT's ('{GOES_ON}', {MAX_WORD_CHARS} characters).")
    ids = _special_ids(tokenizer, str(model["unk_token"]))
    tokens, types = _written_tokens(tokenizer, vocab_size, set(ids.values()))
    lower, accents = bool(normalizer["lowercase"]), normalizer["strip_accents"]
    values: dict[str, StandardValue] = {
        "model": MODEL,
        "pre": "default",
        "tokens": tokens,
        "token_type": types,
        **ids,
        "normalizer.lowercase": lower,
        "normalizer.strip_accents": lower if accents is None else bool(accents),
    }
    metadata = {_PREFIX + key: value for key, value in values.items()}
    return metadata if normalizer["handle_chinese_chars"] else {**metadata, _SPLIT_CHINESE: False}


def from_metadata(metadata: Mapping[str, object], vocab_size: int) -> tokenizers.Tokenizer:
    """The tokenizer that a GGUF file's metadata describes.

    Raises TokenizerError for a missing or damaged vocabulary, UnsupportedModelError for a kind that encoders have not.
    """
    model = metadata.get(_PREFIX + "model")
    if model != MODEL:
        raise UnsupportedModelError(
            f"the tokenizer model {brief(model)} (tokenizer.ggml.model) is not supported for text encoders "
            f"(supported: {MODEL}); take the model's Hugging Face folder."
        )
    vocabulary = Vocabulary.from_metadata(metadata, vocab_size)
    ids = [vocabulary.bos_id, vocabulary.id_of(_SEPARATOR), vocabulary.unknown_id]
    first, last, unknown = (None if id is None else vocabulary.tokens[id] for id in ids)
    if first is None or last is None or unknown is None:
        raise TokenizerError(
            "the file does not say which tokens begin and end a text and stand for unknown words "
            f"(tokenizer.ggml.bos_token_id, {_SEPARATOR}, unknown_token_id); take another build of the model."
        )
    named = set(ids)
    pieces = {
        token if id in named else _read_piece(token, kind): id
        for id, (token, kind) in enumerate(zip(vocabulary.tokens, vocabulary.types, strict=True))
        if kind != TokenType.UNUSED
    }
    lower = vocabulary.flag("normalizer.lowercase", True)
    accents = vocabulary.flag("normalizer.strip_accents", lower)
    split_chinese = metadata.get(_SPLIT_CHINESE) is not False
    with rust_errors("the file's vocabulary is damaged"):
        return bert_tokenizer(
            pieces, (first, last), unknown, lower=lower, strip_accents=accents, split_chinese=split_chinese
        )


def _special_ids(tokenizer: tokenizers.Tokenizer, unknown: str) -> dict[str, int]:
    around: list[int] = tokenizer.encode("").ids
    if len(around) != 2:
        raise UnsupportedModelError(
            f"a text is enclosed by {len(around)} tokens, not by one on each side as in a BERT."
        )
    begin, end = around
    ids = {"bos": begin, "eos": end, "seperator": end, "cls": begin, "unknown": tokenizer.token_to_id(unknown)}
    ids |= {"padding": tokenizer.token_to_id("[PAD]"), "mask": tokenizer.token_to_id("[MASK]")}
    return {f"{name}_token_id": id for name, id in ids.items() if id is not None}


def _written_tokens(tokenizer: tokenizers.Tokenizer, vocab_size: int, control: set[int]) -> tuple[list[str], list[int]]:
    """Tokens and their types, by id."""
    added = tokenizer.get_added_tokens_decoder()
    control = control | {id for id, token in added.items() if token.special}
    if own := sorted(str(token.content) for token in added.values() if not token.special):
        raise UnsupportedModelError(f"a BERT with added tokens ({brief(own)}) has no place in a GGUF file.")
    tokens, types = [], []
    for id in range(vocab_size):
        piece: str | None = tokenizer.id_to_token(id)
        kind = TokenType.UNUSED if piece is None else TokenType.CONTROL if id in control else TokenType.NORMAL
        tokens.append(f"[PAD{id}]" if piece is None else _written_piece(piece, kind))
        types.append(int(kind))
    if len(set(tokens)) != len(tokens):
        twice = next(token for token in tokens if tokens.count(token) > 1)
        raise UnsupportedModelError(f"two tokens would both be {brief(twice)} in a GGUF file.")
    return tokens, types


def _written_piece(piece: str, kind: TokenType) -> str:
    if kind == TokenType.CONTROL:
        return piece
    written = piece.removeprefix(GOES_ON) if piece.startswith(GOES_ON) else SPACE + piece
    if _read_piece(written, kind) != piece:
        raise UnsupportedModelError(f"the token {brief(piece)} has no place in a GGUF file.")
    return written


def _read_piece(token: str, kind: int) -> str:
    if kind == TokenType.CONTROL:
        return token
    return token.removeprefix(SPACE) if token.startswith(SPACE) else GOES_ON + token
