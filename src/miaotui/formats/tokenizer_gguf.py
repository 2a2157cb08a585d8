"""The tokenizer that a GGUF file's metadata describes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Protocol

import numpy as np

from miaotui.errors import TokenizerError, UnsupportedModelError
from miaotui.formats.tokenizer import TokenizerSpec
from miaotui.formats.tokenizer_special import SpecialTokenFinder
from miaotui.formats.tokenizer_vocab import TokenType, Vocabulary, parse_byte_token, read_strings

MODELS = ("gpt2", "llama", "t5")


class TextEncoder(Protocol):
    """Plain text → ids, for one family of vocabularies."""

    def encode(self, text: str, *, at_start: bool) -> list[int]:
        """Ids of `text`; `at_start`: nothing or a special token comes before it."""


def read_gguf_tokenizer(metadata: Mapping[str, object], vocab_size: int) -> tuple[TokenizerSpec, GgufCodec]:
    """Reads `tokenizer.ggml.*`; `vocab_size` is the number of rows of the embedding.

    Raises TokenizerError for a missing or damaged vocabulary, UnsupportedModelError for a kind that miaotui lacks.
    """
    model = metadata.get("tokenizer.ggml.model")
    if model is None:
        raise TokenizerError("the GGUF file holds no tokenizer (tokenizer.ggml.model); use a build that has one.")
    if not isinstance(model, str) or model not in MODELS:
        raise UnsupportedModelError(
            f"the tokenizer model {model!r:.40} (tokenizer.ggml.model) is not supported; supported are: "
            f"{', '.join(MODELS)}. Use another build of the model, or a Hugging Face folder with tokenizer.json."
        )
    vocabulary = Vocabulary.from_metadata(metadata, vocab_size)
    template = metadata.get("tokenizer.chat_template")
    if template is not None and not isinstance(template, str):
        raise TokenizerError("tokenizer.chat_template is not a string; download the model again.")
    encoder, add_bos, add_eos, strip_space = _ENCODERS[model](metadata, vocabulary)
    add_bos = vocabulary.flag("add_bos_token", add_bos)
    add_eos = vocabulary.flag("add_eos_token", add_eos)
    spec = TokenizerSpec(
        vocab_size,
        vocabulary.bos_id,
        vocabulary.eos_id,
        vocabulary.eos_ids,
        add_bos,
        add_eos,
        strip_space,
        template,
        vocabulary.infill_ids(),
    )
    return spec, GgufCodec(spec, vocabulary, encoder, byte_level=model == "gpt2")


class GgufCodec:
    """Encodes and decodes with one GGUF vocabulary; implements `tokenizer.Codec`."""

    def __init__(self, spec: TokenizerSpec, vocabulary: Vocabulary, encoder: TextEncoder, *, byte_level: bool) -> None:
        self._spec = spec
        self._vocabulary = vocabulary
        self._encoder = encoder
        self._byte_level = byte_level

    def encode(self, text: str, *, add_special: bool, parse_special: bool) -> list[int]:
        """See `Codec`. User-defined tokens are recognized in any text, as in SentencePiece and llama.cpp."""
        ids = [self._spec.bos_id] if add_special and self._spec.add_bos and self._spec.bos_id is not None else []
        finder = self._all_special if parse_special else self._user_defined
        ids += self.encode_pieces(list(finder.split(text)))
        if add_special and self._spec.add_eos and self._spec.eos_id is not None:
            ids.append(self._spec.eos_id)
        return ids

    def encode_pieces(self, pieces: Sequence[str | int]) -> list[int]:
        """See `Codec`."""
        ids: list[int] = []
        at_start = True
        for piece in pieces:
            if isinstance(piece, int):
                ids.append(piece)
            elif piece:
                ids += self._encoder.encode(piece, at_start=at_start)
            at_start = isinstance(piece, int)
        return ids

    def split_special(self, text: str) -> list[str | int]:
        """See `Codec`."""
        return list(self._all_special.split(text))

    def control_tokens(self) -> dict[str, int]:
        """See `Codec`."""
        return self._texts_of_type(TokenType.CONTROL, TokenType.UNKNOWN)

    def token_bytes(self, id: int) -> bytes:
        """See `Codec`; rows of the embedding without a token, and unused tokens, have no bytes."""
        if id >= len(self._vocabulary.tokens):
            return b""
        text, kind = self._vocabulary.tokens[id], self._vocabulary.types[id]
        if kind == TokenType.UNUSED:
            return b""
        if kind == TokenType.BYTE:
            return bytes((parse_byte_token(text),))
        if kind in (TokenType.NORMAL, TokenType.UNDEFINED):
            if self._byte_level:
                from miaotui.formats.tokenizer_bpe import token_to_bytes

                return token_to_bytes(text)
            from miaotui.formats.tokenizer_spm import SPACE

            text = text.replace(SPACE, " ")
        return text.encode("utf-8", "surrogateescape")

    def is_special(self, id: int) -> bool:
        """See `Codec`."""
        types = self._vocabulary.types
        return id < len(types) and types[id] in (TokenType.CONTROL, TokenType.UNKNOWN)

    @cached_property
    def _user_defined(self) -> SpecialTokenFinder:
        return SpecialTokenFinder(self._texts_of_type(TokenType.USER_DEFINED))

    @cached_property
    def _all_special(self) -> SpecialTokenFinder:
        return SpecialTokenFinder({**self._texts_of_type(TokenType.USER_DEFINED), **self.control_tokens()})

    def _texts_of_type(self, *types: TokenType) -> dict[str, int]:
        return {self._vocabulary.tokens[id]: id for id in self._vocabulary.ids_of_type(*types)}


# What a family's loader gives: the encoder, then whether BOS and EOS are added unless the file says otherwise, and
# whether decoding takes away the space that encoding put in front.
_Loaded = tuple[TextEncoder, bool, bool, bool]


def _byte_level(metadata: Mapping[str, object], vocabulary: Vocabulary) -> _Loaded:
    from miaotui.formats.pretokenizers import find_pre_tokenizer
    from miaotui.formats.tokenizer_bpe import ByteLevelEncoder

    name = metadata.get("tokenizer.ggml.pre", "default")
    if not isinstance(name, str):
        raise TokenizerError("tokenizer.ggml.pre is not a string; download the model again.")
    rules = find_pre_tokenizer(name)
    encoder = ByteLevelEncoder(vocabulary, read_strings(metadata, "merges"), rules)
    return encoder, rules.add_bos, False, False


def _sentencepiece(metadata: Mapping[str, object], vocabulary: Vocabulary) -> _Loaded:
    from miaotui.formats.tokenizer_spm import SentencePieceEncoder

    prefix = vocabulary.flag("add_space_prefix", True)
    return SentencePieceEncoder(vocabulary, add_space_prefix=prefix), True, False, prefix


def _unigram(metadata: Mapping[str, object], vocabulary: Vocabulary) -> _Loaded:
    from miaotui.formats.tokenizer_spm import UnigramEncoder

    prefix = vocabulary.flag("add_space_prefix", True)
    charsmap = metadata.get("tokenizer.ggml.precompiled_charsmap")
    if charsmap is not None and not (isinstance(charsmap, np.ndarray) and charsmap.dtype.itemsize == 1):
        raise TokenizerError("tokenizer.ggml.precompiled_charsmap is not an array of bytes; download the model again.")
    encoder = UnigramEncoder(
        vocabulary,
        add_space_prefix=prefix,
        remove_extra_whitespaces=vocabulary.flag("remove_extra_whitespaces", False),
        charsmap=b"" if charsmap is None else charsmap.tobytes(),
    )
    return encoder, False, True, prefix


_ENCODERS = {"gpt2": _byte_level, "llama": _sentencepiece, "t5": _unigram}
