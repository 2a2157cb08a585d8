"""The tokenizer of a text encoder: many texts at once to ids, with what the model wants around each.

The `tokenizers` library does the work, on all cores and without the interpreter's lock. Rules come from the folder's
tokenizer.json, or from vocab.txt, which older models of BERT's kind have instead; a GGUF file holds them itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from miaotui.errors import TokenizerError, UnsupportedModelError
from miaotui.formats import ModelFile
from miaotui.formats.safetensors import inside
from miaotui.formats.tokenizer import check_text
from miaotui.formats.tokenizer_hf import load_tokenizer, optional_json, rust_errors
from miaotui.formats.wordpiece_rules import bert_tokenizer

if TYPE_CHECKING:
    import tokenizers

MAX_VOCABULARY_BYTES = 64 << 20


class TextEncoder:
    """Texts to ids. What a user wrote never becomes a control token. Safe to share between threads."""

    def __init__(self, tokenizer: tokenizers.Tokenizer) -> None:
        tokenizer.encode_special_tokens = True
        self._tokenizer = tokenizer
        around: list[int] = tokenizer.encode("").ids
        self.num_around = len(around)
        self._last = around[-1:] if len(around) > 1 else []

    @classmethod
    def from_folder(cls, folder: Path, vocab_size: int) -> TextEncoder:
        """Raises TokenizerError when the folder's tokenizer is missing, damaged or has more tokens than the model."""
        tokenizer = folder_tokenizer(folder)
        num_tokens = tokenizer.get_vocab_size(with_added_tokens=True)
        if num_tokens > vocab_size:
            raise TokenizerError(
                f"{folder}: the tokenizer has {num_tokens} tokens, but the model's embedding only {vocab_size} rows; "
                "the files belong to different models, download the folder again."
            )
        return cls(tokenizer)

    @classmethod
    def from_model(cls, file: ModelFile) -> TextEncoder:
        """The tokenizer of an opened folder or GGUF file. Raises as `from_folder` and `from_metadata` do."""
        if file.spec.source == "safetensors":
            return cls.from_folder(file.path, file.spec.vocab_size)
        from miaotui.formats.wordpiece_gguf import from_metadata

        try:
            return cls(from_metadata(file.metadata, file.spec.vocab_size))
        except (TokenizerError, UnsupportedModelError) as error:
            raise type(error)(f"{file.path}: {error}") from None

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text. Raises TokenizerError for lone surrogates."""
        for text in texts:
            check_text(text)
        with rust_errors("the text cannot be encoded"):
            return [encoding.ids for encoding in self._tokenizer.encode_batch_fast(list(texts))]

    @property
    def vocabulary(self) -> dict[str, int]:
        """Ids by token, those of control included."""
        return dict(self._tokenizer.get_vocab(with_added_tokens=True))

    def cut(self, ids: list[int], max_tokens: int) -> list[int]:
        """The first `max_tokens` ids, the last of them the one that ends a text."""
        return ids if len(ids) <= max_tokens else ids[: max_tokens - len(self._last)] + self._last


def folder_tokenizer(folder: Path) -> tokenizers.Tokenizer:
    """What tokenizer.json or vocab.txt describes, but that no text is cut or filled up.

    Raises TokenizerError when both are missing or one is damaged.
    """
    whole = inside(folder, "tokenizer.json").is_file()
    tokenizer = load_tokenizer(folder) if whole else _from_vocabulary(folder)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _from_vocabulary(folder: Path) -> tokenizers.Tokenizer:
    """BERT's own rules over the pieces of vocab.txt, one a line."""
    path = inside(folder, "vocab.txt")
    if not path.is_file():
        raise TokenizerError(f"{folder}: holds neither tokenizer.json nor vocab.txt; download the folder again.")
    if path.stat().st_size > MAX_VOCABULARY_BYTES:
        raise TokenizerError(f"{path}: is longer than {MAX_VOCABULARY_BYTES} bytes; this is not a vocabulary.")
    try:
        pieces = path.read_text("utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise TokenizerError(f"{path}: is not UTF-8; download the model again.") from error
    ids = {piece.rstrip("\r"): id for id, piece in enumerate(pieces) if piece.strip()}
    if missing := [token for token in ("[UNK]", "[CLS]", "[SEP]") if token not in ids]:
        raise TokenizerError(f"{path}: has no token {', '.join(missing)}; download the model again.")
    config = optional_json(folder, "tokenizer_config.json")
    chinese = config.get("tokenize_chinese_chars", True) is not False
    lower = config.get("do_lower_case", True) is not False
    with rust_errors(f"{path}: is damaged"):
        return bert_tokenizer(ids, ("[CLS]", "[SEP]"), "[UNK]", lower=lower, strip_accents=None, split_chinese=chinese)
