"""Byte-level BPE: token for token what independent implementations give."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Regex, models, normalizers, pre_tokenizers

from formats.corpus import make_corpus
from formats.vocabularies import CONTROL_TOKENS, byte_level_metadata, make_tokenizer, train_byte_level
from miaotui.errors import UnsupportedModelError
from miaotui.formats import open_model
from miaotui.formats.pretokenizers import PRE_TOKENIZERS
from miaotui.formats.tokenizer import Tokenizer
from miaotui.formats.tokenizer_merge import merge_pieces
from miaotui.formats.tokenizer_words import WordSplitter

Vocabulary = tuple[dict[str, int], list[tuple[str, str]]]

_LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
_GPT4O = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
    r"\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def _split(pattern: str) -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.Split(Regex(pattern), behavior="isolated")


def _digits() -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.Digits(individual_digits=True)


# The components that the models' own tokenizer.json files name.
_ORIGINALS = {
    "gpt-2": [],
    "smollm": [_digits()],
    "starcoder": [_digits()],
    "llama-bpe": [_split(_LLAMA3)],
    "gpt-4o": [_split(_GPT4O)],
    "qwen2": [_split(_LLAMA3.replace("{1,3}", ""))],
    "deepseek-coder": [
        *(_split(pattern) for pattern in (r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", "[一-龥ࠀ-一가-\ud7ff]+")),
        _digits(),
    ],
}


def _oracle(vocab: dict[str, int], merges: list[tuple[str, str]], pre: str) -> tokenizers.Tokenizer:
    words = _ORIGINALS[pre]
    oracle = tokenizers.Tokenizer(models.BPE(vocab, merges, ignore_merges=pre == "llama-bpe"))
    regex_in_byte_level = pre in ("gpt-2", "smollm", "starcoder")
    last = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=regex_in_byte_level)
    oracle.pre_tokenizer = pre_tokenizers.Sequence([*words, last])
    if pre == "qwen2":
        oracle.normalizer = normalizers.NFC()
    return oracle


@pytest.fixture(scope="module")
def byte_level() -> Vocabulary:
    return train_byte_level()


@pytest.mark.parametrize("pre", _ORIGINALS)
def test_ids_equal_those_of_the_original_tokenizer_components(byte_level: Vocabulary, pre: str) -> None:
    tokenizer = make_tokenizer(byte_level_metadata(*byte_level, pre))
    oracle = _oracle(*byte_level, pre)
    lines = make_corpus()
    assert len(lines) >= 2000
    different = [line for line in lines if tokenizer.encode(line, add_special=False) != oracle.encode(line).ids]
    assert different == []


@pytest.mark.parametrize("pre", sorted(PRE_TOKENIZERS))
def test_every_known_pre_tokenizer_cuts_without_loss(pre: str) -> None:
    splitter = WordSplitter(PRE_TOKENIZERS[pre])
    for line in make_corpus()[::10]:
        assert "".join(splitter.split(line)) == line


@pytest.mark.parametrize("pre", sorted({rules: name for name, rules in PRE_TOKENIZERS.items()}.values()))
@given(text=st.text(st.sampled_from("abzAZ'stREvmLd019 \t\n\r\x0b\x0c\x1c\x1f\x00.,!?_-/\\[](){}<>=+$^`|~#%&*:;@\"")))
def test_cutting_ascii_is_the_same_with_and_without_unicode_tables(pre: str, text: str) -> None:
    splitter = WordSplitter(PRE_TOKENIZERS[pre])
    assert splitter.split(text) == [word for word, _ in splitter._unicode.pre_tokenize_str(text)]


@pytest.mark.parametrize("pre", sorted({rules: name for name, rules in PRE_TOKENIZERS.items()}.values()))
@pytest.mark.parametrize("unit", [" ", "A", "é", "!", "\u3000"])
def test_long_runs_are_cut_in_linear_time(pre: str, unit: str) -> None:
    splitter = WordSplitter(PRE_TOKENIZERS[pre])
    for text in (unit * 200_000 + "x", "é" + unit * 200_000 + "?"):  # minutes if it were quadratic
        assert "".join(splitter.split(text)) == text


def test_an_unknown_pre_tokenizer_is_refused_with_the_names_of_the_known(byte_level: Vocabulary) -> None:
    with pytest.raises(UnsupportedModelError, match=r"'martian'.*llama-bpe.*smollm"):
        make_tokenizer(byte_level_metadata(*byte_level, "martian"))


def _merge_slowly(pieces: list[str], ranks: dict[str, int]) -> list[str]:
    """The definition: look at all pairs, merge the best one, start again."""
    pieces = list(pieces)
    while True:
        keys = [f"{left} {right}" for left, right in pairwise(pieces)]
        ranked = [(ranks[key], i) for i, key in enumerate(keys) if key in ranks]
        if not ranked:
            return pieces
        _, i = min(ranked)
        pieces[i : i + 2] = [pieces[i] + pieces[i + 1]]


@given(steps=st.lists(st.tuples(st.integers(0), st.integers(0), st.integers(0, 5)), max_size=20), text=st.text("ab"))
def test_merging_with_a_heap_equals_merging_by_definition(steps: list[tuple[int, int, int]], text: str) -> None:
    pieces, ranks = ["a", "b"], {}
    for left, right, rank in steps:  # every merge joins pieces that exist, as in a trained vocabulary
        left, right = left % len(pieces), right % len(pieces)
        ranks[f"{pieces[left]} {pieces[right]}"] = rank
        pieces.append(pieces[left] + pieces[right])
    assert merge_pieces(list(text), ranks.get, " ") == _merge_slowly(list(text), ranks)


def test_a_whole_word_token_wins_over_merges_only_where_the_model_says_so(byte_level: Vocabulary) -> None:
    vocab, merges = dict(byte_level[0]), byte_level[1]
    vocab["qzxv"] = len(vocab)  # no merges lead here
    whole = make_tokenizer(byte_level_metadata(vocab, merges, "llama-bpe"))
    merged = make_tokenizer(byte_level_metadata(vocab, merges, "dbrx"))
    assert whole.encode("qzxv") == [vocab["qzxv"]]
    assert len(merged.encode("qzxv")) > 1


def test_bytes_without_a_token_are_left_out_as_the_original_does(byte_level: Vocabulary) -> None:
    vocab, merges = dict(byte_level[0]), byte_level[1]
    missing = "Ą"  # stands for U+0004
    vocab = {token: i for i, token in enumerate(token for token in vocab if missing not in token)}
    merges = [pair for pair in merges if missing not in pair[0] + pair[1]]
    tokenizer = make_tokenizer(byte_level_metadata(vocab, merges, "gpt-2"))
    oracle = _oracle(vocab, merges, "gpt-2")
    assert tokenizer.encode("a\x04b") == oracle.encode("a\x04b").ids == tokenizer.encode("a") + tokenizer.encode("b")


def _vocab_and_merges(path: Path) -> Vocabulary:
    metadata = open_model(path).metadata
    tokens, merges = metadata["tokenizer.ggml.tokens"], metadata["tokenizer.ggml.merges"]
    assert hasattr(tokens, "to_list")
    assert hasattr(merges, "to_list")
    vocab = {token: id for id, token in enumerate(tokens.to_list())}
    return vocab, [tuple(merge.split(" ")) for merge in merges.to_list()]


@pytest.mark.model
def test_smollm2_ids_equal_those_of_its_original_components(smollm2_path: Path) -> None:
    tokenizer = Tokenizer.from_model(open_model(smollm2_path))
    oracle = _oracle(*_vocab_and_merges(smollm2_path), "smollm")
    lines = make_corpus(with_wikitext=True)
    assert [line for line in lines if tokenizer.encode(line) != oracle.encode(line).ids] == []


@pytest.mark.model
def test_qwen_ids_equal_those_of_transformers(real_model: Callable[[str], Path]) -> None:
    from transformers import Qwen2Tokenizer

    path = real_model("qwen2.5-coder-0.5b-instruct-q4_k_m.gguf")
    tokenizer = Tokenizer.from_model(open_model(path))
    vocab, merges = _vocab_and_merges(path)
    oracle = Qwen2Tokenizer(vocab=vocab, merges=merges)
    control = [token for token, id in vocab.items() if tokenizer.is_special(id)]
    oracle.add_tokens([tokenizers.AddedToken(token, special=True, normalized=False) for token in control])
    oracle.add_tokens(
        [tokenizers.AddedToken(t, special=False, normalized=False) for t in ("<tool_call>", "</tool_call>")]
    )
    for line in make_corpus(with_wikitext=True):
        assert tokenizer.encode(line, parse_special=True) == oracle.encode(line, add_special_tokens=False), line


def test_control_tokens_arise_from_text_only_on_request(byte_level: Vocabulary) -> None:
    tokenizer = make_tokenizer(byte_level_metadata(*byte_level, "smollm"))
    text = "".join(CONTROL_TOKENS) + "<|im_start|"
    plain = tokenizer.encode(text)
    assert not any(tokenizer.is_special(id) for id in plain)
    assert tokenizer.decode(plain) == text
    parsed = tokenizer.encode(text, parse_special=True)
    assert parsed[:3] == [byte_level[0][token] for token in CONTROL_TOKENS]
    assert tokenizer.decode(parsed) == "<|im_start|"
    assert tokenizer.decode(parsed, skip_special=False) == text
