"""Streaming gives the text of `decode`, and never a part of a character."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from formats.corpus import SEEDS
from formats.test_tokenizer_vocabulary import _small, _spm
from formats.vocabularies import make_tokenizer
from miaotui.errors import TokenizerError
from miaotui.formats.detokenize import StreamDecoder
from miaotui.formats.tokenizer import Tokenizer

BYTE_LEVEL = make_tokenizer(_small(), 270)


def _sentencepiece(prefix: bool) -> Tokenizer:
    metadata = _spm()
    byte_tokens = [f"<0x{byte:02X}>" for byte in range(256)]
    words = ["a", "▁a", "▁", "▁秒", "🙂", "\u200d"]
    metadata["tokenizer.ggml.tokens"] = ["<unk>", "<s>", "</s>", *byte_tokens, *words]
    metadata["tokenizer.ggml.scores"] = [0.0] * (259 + len(words))
    metadata["tokenizer.ggml.token_type"] = [2, 3, 3] + [6] * 256 + [1] * len(words)
    metadata["tokenizer.ggml.add_space_prefix"] = prefix
    return make_tokenizer(metadata)


TOKENIZERS = {"byte level": BYTE_LEVEL, "space prefix": _sentencepiece(True), "no prefix": _sentencepiece(False)}


def _stream(tokenizer: Tokenizer, ids: Sequence[int], skip_special: bool) -> list[str]:
    decoder = StreamDecoder(tokenizer, skip_special=skip_special)
    return [*map(decoder.push, ids), decoder.finish()]


@pytest.mark.parametrize("name", TOKENIZERS)
@given(data=st.data(), skip_special=st.booleans())
def test_pushes_and_finish_together_equal_decode(name: str, data: st.DataObject, skip_special: bool) -> None:
    tokenizer = TOKENIZERS[name]
    ids = data.draw(st.lists(st.integers(0, tokenizer.vocab_size - 1), max_size=40))
    assert "".join(_stream(tokenizer, ids, skip_special)) == tokenizer.decode(ids, skip_special=skip_special)


@pytest.mark.parametrize("name", TOKENIZERS)
@given(text=st.text(max_size=30) | st.sampled_from([seed for seeds in SEEDS.values() for seed in seeds]))
def test_valid_text_is_never_shown_with_half_a_character(name: str, text: str) -> None:
    tokenizer = TOKENIZERS[name]
    pieces = _stream(tokenizer, tokenizer.encode(text, add_special=False), True)
    if name != "byte level":
        text = text.replace("▁", " ")  # SentencePiece cannot tell them apart
    shown = ""
    for piece in pieces:
        shown += piece
        assert text.startswith(shown)
    assert shown == text


def test_a_character_appears_with_its_last_byte() -> None:
    ids = BYTE_LEVEL.encode("秒")
    decoder = StreamDecoder(BYTE_LEVEL)
    assert [decoder.push(id) for id in ids] == ["", "", "秒"]
    assert decoder.finish() == ""


def test_an_unfinished_character_becomes_one_replacement_at_the_end() -> None:
    ids = BYTE_LEVEL.encode("a秒")[:-1]
    assert _stream(BYTE_LEVEL, ids, True) == ["a", "", "", "\ufffd"]
    assert BYTE_LEVEL.decode(ids) == "a\ufffd"


def test_the_space_put_in_front_disappears_once() -> None:
    tokenizer = TOKENIZERS["space prefix"]
    a = tokenizer.encode("a", add_special=False)
    assert _stream(tokenizer, [*a, *a], True) == ["a", " a", ""]
    assert _stream(tokenizer, [tokenizer.bos_id or 1, *a], True) == ["", "a", ""]


def test_a_finished_decoder_starts_anew() -> None:
    tokenizer = TOKENIZERS["space prefix"]
    decoder = StreamDecoder(tokenizer)
    a = tokenizer.encode("a", add_special=False)[0]
    for _ in range(2):
        assert decoder.push(a) == "a"
        assert decoder.push(3 + 0xE7) == ""
        assert decoder.finish() == "\ufffd"


def test_an_id_outside_the_vocabulary_is_refused() -> None:
    with pytest.raises(TokenizerError, match="270 is not a token id"):
        StreamDecoder(BYTE_LEVEL).push(270)
