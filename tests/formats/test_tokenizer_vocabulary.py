"""Vocabularies from strangers: refused with a typed error, never believed, never slow."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tokenizers import pre_tokenizers

from formats.vocabularies import byte_level_metadata, make_tokenizer
from miaotui.errors import MiaotuiError, TokenizerError, UnsupportedModelError
from miaotui.formats.tokenizer_special import SpecialTokenFinder
from miaotui.formats.tokenizer_vocab import MAX_TOKEN_CHARS

Metadata = dict[str, Any]


def _small() -> Metadata:
    """Byte-level: three control tokens, 256 bytes, two merges."""
    tokens = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *sorted(pre_tokenizers.ByteLevel.alphabet()), "ab", "abc"]
    vocab = {token: id for id, token in enumerate(tokens)}
    return byte_level_metadata(vocab, [("a", "b"), ("ab", "c")], "gpt-2")


def _spm() -> Metadata:
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": ["<unk>", "<s>", "</s>", "<0x0A>", "a", "▁a"],
        "tokenizer.ggml.scores": np.array([0, 0, 0, 0, -1, -2], np.float32),
        "tokenizer.ggml.token_type": np.array([2, 3, 3, 6, 1, 1], np.int32),
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.unknown_token_id": 0,
    }


def _set(key: str, value: object) -> Callable[[Metadata], None]:
    return lambda metadata: metadata.__setitem__(f"tokenizer.ggml.{key}", value)


def _drop(key: str) -> Callable[[Metadata], None]:
    return lambda metadata: metadata.__delitem__(f"tokenizer.ggml.{key}") and None


def _token(id: int, text: str) -> Callable[[Metadata], None]:
    def change(metadata: Metadata) -> None:
        tokens = metadata["tokenizer.ggml.tokens"]
        assert isinstance(tokens, list)
        metadata["tokenizer.ggml.tokens"] = [text if i == id else token for i, token in enumerate(tokens)]

    return change


@pytest.mark.parametrize(
    ("base", "change", "message"),
    [
        (_small, _drop("model"), "no tokenizer"),
        (_small, _drop("tokens"), "tokens is missing"),
        (_small, _drop("merges"), "merges is missing"),
        (_small, _set("tokens", "abc"), "not an array"),
        (_small, _set("tokens", []), "0 tokens"),
        (_small, _set("tokens", [1, 2, 3]), "strings only"),
        (_small, _token(5, "ab"), "'ab' occurs twice"),
        (_small, _token(3, "x" * (1 << 20)), f"at most {MAX_TOKEN_CHARS}"),
        (_small, _token(3 + 64, "Q!"), "printable ASCII"),
        (_small, _set("merges", ["a b", "ab c", "a b"]), "merge occurs twice"),
        (_small, _set("merges", ["a b", "abc"]), "one space"),
        (_small, _set("merges", ["a b c"]), "one space"),
        (_small, _set("merges", ["a " + "b" * (1 << 20)]), "longer than any token"),
        (_small, _set("pre", 7), "pre is not a string"),
        (_small, _set("eos_token_id", 261), "ids go from 0 to 260"),
        (_small, _set("bos_token_id", -1), "ids go from 0 to 260"),
        (_small, _set("bos_token_id", 1.0), "ids go from 0 to 260"),
        (_small, _set("eos_token_id", True), "ids go from 0 to 260"),
        (_small, _set("fim_mid_token_id", 261), "ids go from 0 to 260"),
        (_small, _set("add_bos_token", 1), "must be a boolean"),
        (_small, _set("token_type", np.ones(7, np.int32)), "one integer for each"),
        (_small, _set("token_type", np.full(261, 9, np.int32)), "unknown type"),
        (_small, _set("token_type", np.full(261, -1, np.int32)), "unknown type"),
        (_small, _set("token_type", np.ones(261, np.float32)), "one integer for each"),
        (_spm, _drop("scores"), "one finite number"),
        (_spm, _set("scores", np.zeros(3, np.float32)), "one finite number"),
        (_spm, _set("scores", np.full(6, np.nan, np.float32)), "one finite number"),
        (_spm, _set("scores", ["a"] * 6), "one finite number"),
        (_spm, _token(3, "<0x-1>"), "<0x-1>"),
        (_spm, _token(3, "<0x1>"), "<0x1>"),
        (_spm, _token(3, "newline"), "newline"),
        (_spm, _drop("bos_token_id"), "wants a BOS token"),
    ],
)
def test_damaged_vocabularies_are_refused(
    base: Callable[[], Metadata], change: Callable[[Metadata], None], message: str
) -> None:
    metadata = base()
    make_tokenizer(metadata)
    size = len(metadata["tokenizer.ggml.tokens"])
    change(metadata)
    with pytest.raises(TokenizerError, match=message):
        make_tokenizer(metadata, size)


def test_gaps_are_asked_for_with_the_tokens_that_the_file_or_their_names_give() -> None:
    metadata = _small()
    end = "<|im_end|>"
    assert make_tokenizer(metadata).encode_gap("a", "b") is None
    for name, id in (("pre", 2), ("suf", 0), ("mid", 1)):
        assert make_tokenizer(metadata).encode_gap("a", "b") is None
        _set(f"fim_{name}_token_id", id)(metadata)
    tokenizer = make_tokenizer(metadata)
    a, b = tokenizer.encode("a"), tokenizer.encode("b")
    assert tokenizer.encode_gap("a", "b") == [2, *a, 0, *b, 1]
    assert tokenizer.encode_gap("", "b") == [2, 0, *b, 1]
    assert len(tokenizer.encode_gap(end, "b") or ()) == 3 + len(tokenizer.encode(end)) + 1  # a user's stays text
    with pytest.raises(TokenizerError, match="surrogate"):
        tokenizer.encode_gap("a", "\ud800")
    metadata = _small()
    names = ["<|fim_middle|>", "<|fim_prefix|>", "<|fim_suffix|>"]
    for id, name in enumerate(names):
        _token(id, name)(metadata)
    tokenizer = make_tokenizer(metadata)
    assert tokenizer.encode_gap("a", "b") == [1, *a, 2, *b, 0]


def test_more_tokens_than_embedding_rows_are_refused() -> None:
    with pytest.raises(TokenizerError, match="261 tokens for an embedding of 260 rows"):
        make_tokenizer(_small(), 260)


def test_an_unknown_tokenizer_model_is_refused_with_the_names_of_the_known() -> None:
    with pytest.raises(UnsupportedModelError, match=r"'rwkv'.*gpt2, llama, t5"):
        make_tokenizer({**_small(), "tokenizer.ggml.model": "rwkv"})


def test_merges_that_lead_nowhere_are_reported_when_met() -> None:
    tokenizer = make_tokenizer({**_small(), "tokenizer.ggml.merges": ["a b", "ab z"]})
    assert tokenizer.encode("ab")
    with pytest.raises(TokenizerError, match="'abz', which is not a token"):
        tokenizer.encode("abz")


def _damage(rng: random.Random) -> Metadata:
    metadata = rng.choice([_small, _spm])()
    size = rng.choice([6, 261])
    values: list[object] = [None, -1, 0, 2**40, "", "a b", [], ["a"] * 6, [""] * 261, True, 1.5, b"x", np.zeros(0)]
    values += [np.array([rng.randrange(7) for _ in range(size)], rng.choice(["i4", "f4", "u8"])), np.array("x")]
    values += [[chr(rng.randrange(32, 999)) for _ in range(261)], ["\udc80", "\udcff"], {"a": 1}]
    for key in rng.sample(sorted(metadata), rng.randrange(1, 4)):
        old = metadata[key]
        if rng.random() < 0.2:
            metadata[key] = rng.choice(values)
        elif isinstance(old, list):
            metadata[key] = [*old]
            metadata[key][rng.randrange(len(old))] = rng.choice(["a b", "zz", "", "<0xGG>", "\udcff", "a" * 999])
        elif isinstance(old, np.ndarray):
            metadata[key] = old.copy()
            metadata[key][rng.randrange(len(old))] = rng.choice([0, 1, 2, 3, 4, 5, 6, 7, -1])
        elif isinstance(old, int):
            metadata[key] = rng.randrange(-1, 300)
    return metadata


def test_random_damage_gives_a_tokenizer_or_a_typed_error() -> None:
    outcomes = {"tokenizer": 0, "error": 0}
    for seed in range(2000):
        try:
            tokenizer = make_tokenizer(_damage(random.Random(seed)), 261)
            ids = tokenizer.encode("ab <|im_start|> 秒\n", parse_special=seed % 2 == 0)
            tokenizer.decode(ids, skip_special=False)
            outcomes["tokenizer"] += 1
        except MiaotuiError:
            outcomes["error"] += 1
    assert min(outcomes.values()) > 200


def test_tokens_that_are_not_utf8_keep_their_bytes() -> None:
    metadata = _spm()
    _token(4, "\udce7")(metadata)  # the byte E7 as the GGUF reader gives it
    assert make_tokenizer(metadata).token_bytes(4) == b"\xe7"


def test_delimiters_of_chat_formats_are_control_tokens_whatever_the_file_says() -> None:
    metadata = {**_small(), "tokenizer.ggml.token_type": np.array([4, 4, 1] + [1] * 258, np.int32)}
    tokenizer = make_tokenizer(metadata)
    assert [tokenizer.is_special(id) for id in (0, 1, 2, 3)] == [True, True, True, False]
    assert min(tokenizer.encode("<|im_start|><|im_end|>")) > 2
    assert tokenizer.eos_ids == {0, 2}


def test_rows_of_the_embedding_without_a_token_decode_to_nothing() -> None:
    tokenizer = make_tokenizer(_small(), 300)
    assert tokenizer.decode([299]) == ""
    assert not tokenizer.is_special(299)
    for id in (300, -1):
        with pytest.raises(TokenizerError, match="ids go from 0 to 299"):
            tokenizer.token_bytes(id)
        with pytest.raises(TokenizerError, match="ids go from 0 to 299"):
            tokenizer.is_special(id)


def test_half_a_surrogate_pair_in_the_text_is_refused_with_its_place() -> None:
    with pytest.raises(TokenizerError, match="character 2"):
        make_tokenizer(_small()).encode("ab\ud83d")


def _split_slowly(tokens: dict[str, int], text: str) -> list[str | int]:
    pieces: list[str | int] = []
    plain = ""
    while text:
        found = max((token for token in tokens if token and text.startswith(token)), key=len, default=None)
        if found is None:
            plain, text = plain + text[0], text[1:]
            continue
        pieces += [plain, tokens[found]] if plain else [tokens[found]]
        plain, text = "", text[len(found) :]
    return [*pieces, plain] if plain else pieces


@example(tokens=["ab", "abb", "b"], text="xabbab")
@given(tokens=st.lists(st.text("ab<", max_size=4), max_size=12), text=st.text("ab<", max_size=30))
def test_special_tokens_are_found_leftmost_then_longest(tokens: list[str], text: str) -> None:
    ids = {token: id for id, token in enumerate(tokens)}
    assert list(SpecialTokenFinder(ids).split(text)) == _split_slowly(ids, text)


def test_long_special_tokens_are_refused() -> None:
    with pytest.raises(TokenizerError, match="special token"):
        SpecialTokenFinder({"<" * 300: 1})


def test_a_long_word_of_mergeable_pieces_takes_no_quadratic_time() -> None:
    tokenizer = make_tokenizer(_small())
    assert tokenizer.encode("abc" * 100_000) == [260] * 100_000
    assert len(tokenizer.encode("ab" * 100_000)) == 100_000
