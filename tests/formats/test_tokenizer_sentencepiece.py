"""SentencePiece vocabularies read from GGUF: id for id what the sentencepiece library gives."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import sentencepiece
from hypothesis import given
from hypothesis import strategies as st

from formats.corpus import make_corpus
from formats.vocabularies import (
    USER_DEFINED,
    make_tokenizer,
    open_gguf_tokenizer,
    train_sentencepiece,
    write_sentencepiece_gguf,
)
from miaotui.errors import TokenizerError
from miaotui.formats import open_model
from miaotui.formats.tokenizer import Tokenizer

IDENTITY = {"normalization_rule_name": "identity", "remove_extra_whitespaces": False}


def _differences(tokenizer: Tokenizer, oracle: sentencepiece.SentencePieceProcessor, lines: Iterable[str]) -> list[str]:
    # sentencepiece ends a text at NUL and reads U+2581 as a space wherever it comes from
    usable = [line for line in lines if "\0" not in line]
    return [line for line in usable if tokenizer.encode(line, add_special=False) != oracle.encode(line)]


@pytest.mark.parametrize("prefix", [False, True])
@pytest.mark.parametrize("byte_fallback", [False, True])
def test_bpe_ids_equal_those_of_sentencepiece(tmp_path: Path, prefix: bool, byte_fallback: bool) -> None:
    oracle = train_sentencepiece(model_type="bpe", byte_fallback=byte_fallback, add_dummy_prefix=prefix, **IDENTITY)
    path = write_sentencepiece_gguf(oracle, tmp_path / "a.gguf", "llama", add_space_prefix=prefix)
    tokenizer = open_gguf_tokenizer(path)
    assert _differences(tokenizer, oracle, make_corpus()) == []
    if byte_fallback:
        text = "秒推 answers\t🙂 \U00050000 in  a second. "
        assert tokenizer.decode(tokenizer.encode(text)) == text


@pytest.mark.parametrize("prefix", [False, True])
@pytest.mark.parametrize("byte_fallback", [False, True])
def test_unigram_ids_equal_those_of_sentencepiece(tmp_path: Path, prefix: bool, byte_fallback: bool) -> None:
    oracle = train_sentencepiece(model_type="unigram", byte_fallback=byte_fallback, add_dummy_prefix=prefix, **IDENTITY)
    path = write_sentencepiece_gguf(oracle, tmp_path / "a.gguf", "t5", add_space_prefix=prefix)
    tokenizer = open_gguf_tokenizer(path)
    lines = make_corpus()
    different = _differences(tokenizer, oracle, lines)
    # sentencepiece adds scores in float32, tokenizers in float64: only segmentations that tie may differ
    for line in different:
        totals = [
            sum(map(oracle.get_score, ids)) for ids in (tokenizer.encode(line, add_special=False), oracle.encode(line))
        ]
        assert totals[0] == pytest.approx(totals[1], rel=1e-6), line
    assert len(different) < len(lines) / 100


def test_user_defined_tokens_are_found_as_sentencepiece_finds_them(tmp_path: Path) -> None:
    oracle = train_sentencepiece(
        model_type="bpe",
        byte_fallback=True,
        add_dummy_prefix=False,
        user_defined_symbols=list(USER_DEFINED),
        **IDENTITY,
    )
    path = write_sentencepiece_gguf(oracle, tmp_path / "a.gguf", "llama", add_space_prefix=False)
    lines = [*make_corpus(), "a<tool>b  c   d    e\n\n\nf \n g<tool", "   "]
    # sentencepiece finds symbols after spaces became U+2581, so a U+2581 in the text counts as a space to it
    assert _differences(open_gguf_tokenizer(path), oracle, [line for line in lines if "▁" not in line]) == []


def _message(field: int, payload: bytes) -> bytes:
    """A length-delimited protobuf field."""
    size, prefix = len(payload), b""
    while size >= 0x80:
        prefix, size = prefix + bytes([size & 0x7F | 0x80]), size >> 7
    return bytes([field << 3 | 2]) + prefix + bytes([size]) + payload


def _model_proto(tokens: list[str], scores: Iterable[float], types: Iterable[int]) -> bytes:
    """A sentencepiece ModelProto (sentencepiece_model.proto) for BPE without any normalization."""
    pieces = [
        _message(1, _message(1, token.encode()) + b"\x15" + struct.pack("<f", score) + bytes([0x18, kind]))
        for token, score, kind in zip(tokens, scores, types, strict=True)
    ]
    trainer = bytes([3 << 3, 2]) + b"\x98\x02\x01"  # model_type BPE, byte_fallback (field 35) true
    normalizer = _message(1, b"identity") + b"\x18\x00\x20\x00\x28\x01"  # no dummy prefix, keep spaces, escape them
    return b"".join(pieces) + _message(2, trainer) + _message(3, normalizer)


@pytest.mark.model
def test_gemma_ids_equal_those_of_sentencepiece(real_model: Callable[[str], Path]) -> None:
    file = open_model(real_model("gemma-3-270m-q4_k_m.gguf"))
    tokens = list(file.metadata["tokenizer.ggml.tokens"])  # type: ignore[call-overload]
    types = np.array(file.metadata["tokenizer.ggml.token_type"]).tolist()
    types[tokens.index("<unk>")] = 2  # a ModelProto must have one unknown token; the file calls it control
    pieces = [token.replace(" ", "▁") if kind == 4 else token for token, kind in zip(tokens, types, strict=True)]
    scores = np.array(file.metadata["tokenizer.ggml.scores"]).tolist()
    oracle = sentencepiece.SentencePieceProcessor(model_proto=_model_proto(pieces, scores, types))
    tokenizer = Tokenizer.from_model(file)
    lines = [line for line in make_corpus(with_wikitext=True) if "▁" not in line]
    assert len(lines) >= 2000
    assert _differences(tokenizer, oracle, lines) == []
    assert tokenizer.encode("a")[0] == tokenizer.bos_id == tokens.index("<bos>")
    assert {tokens[id] for id in tokenizer.eos_ids} == {"<eos>", "<end_of_turn>"}


def _spm_metadata(tokens: list[str], scores: list[float], **changes: object) -> dict[str, object]:
    byte_tokens = [f"<0x{byte:02X}>" for byte in range(256)]
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": ["<unk>", "<s>", "</s>", *byte_tokens, *tokens],
        "tokenizer.ggml.scores": np.array([0.0] * 259 + scores, np.float32),
        "tokenizer.ggml.token_type": np.array([2, 3, 3] + [6] * 256 + [1] * len(tokens), np.int32),
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.unknown_token_id": 0,
        "tokenizer.ggml.add_space_prefix": False,
        **changes,
    }


def _encode_slowly(tokens: list[str], scores: list[float], text: str) -> list[int]:
    """The definition: merge the pair whose token scores best, the leftmost of equals, over the whole text."""
    table = dict(zip(tokens, zip(scores, range(259, 999), strict=False), strict=True))
    pieces = list(text.replace(" ", "▁"))
    while pairs := [(-table[a + b][0], i) for i, (a, b) in enumerate(pairwise(pieces)) if a + b in table]:
        i = min(pairs)[1]
        pieces[i : i + 2] = [pieces[i] + pieces[i + 1]]
    return [id for p in pieces for id in ([table[p][1]] if p in table else [byte + 3 for byte in p.encode()])]


@given(
    entries=st.dictionaries(
        st.text("ab▁", min_size=1, max_size=4), st.integers(-4, 0).map(float), min_size=1, max_size=25
    ),
    text=st.text("ab c秒", max_size=40),
)
def test_cutting_at_spaces_never_changes_the_ids(entries: dict[str, float], text: str) -> None:
    tokens, scores = list(entries), list(entries.values())
    tokenizer = make_tokenizer(_spm_metadata(tokens, scores))
    assert tokenizer.encode(text, add_special=False) == _encode_slowly(tokens, scores, text)


def test_a_space_is_put_first_and_after_special_tokens_and_taken_away_again() -> None:
    metadata = _spm_metadata(["▁", "a", "▁a"], [-3.0, -2.0, -1.0], **{"tokenizer.ggml.add_space_prefix": True})
    tokenizer = make_tokenizer(metadata)
    assert tokenizer.encode("a") == [1, 261]
    assert tokenizer.encode("a</s>a", parse_special=True) == [1, 261, 2, 261]
    assert tokenizer.decode([1, 261]) == "a"
    assert tokenizer.decode([261, 261]) == "a a"
    assert tokenizer.encode("") == [1]


def test_text_never_becomes_a_control_or_byte_token_by_its_name() -> None:
    letters = sorted(set("<s></s><unk><0x41>"))
    metadata = _spm_metadata(["<s", "<0x4", "<0x41", *letters], [-1.0] * 3 + [-2.0] * len(letters))
    tokenizer = make_tokenizer(metadata)
    for text in ("<s>", "</s>", "<unk>", "<0x41>"):
        ids = tokenizer.encode(text, add_special=False)
        assert min(ids) >= 259
        assert tokenizer.decode(ids) == text


def test_characters_without_any_token_are_refused_by_name() -> None:
    metadata = _spm_metadata(["a"], [0.0])
    keep = [0, 1, 2, 259]
    for key in ("tokens", "scores", "token_type"):
        values = metadata[f"tokenizer.ggml.{key}"]
        metadata[f"tokenizer.ggml.{key}"] = [values[i] for i in keep]  # type: ignore[index]
    assert make_tokenizer(metadata).encode("abba") == [1, 3, 0, 3]
    del metadata["tokenizer.ggml.unknown_token_id"]
    with pytest.raises(TokenizerError, match="'b'"):
        make_tokenizer(metadata).encode("abba")
