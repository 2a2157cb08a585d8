"""Tokenizers of Hugging Face folders: what transformers gives for the same folder."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import tokenizers
from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from formats.corpus import make_corpus
from formats.vocabularies import CONTROL_TOKENS, train_byte_level
from miaotui.errors import TokenizerError, UnsupportedModelError
from miaotui.formats.detokenize import StreamDecoder
from miaotui.formats.tokenizer import Tokenizer
from miaotui.formats.tokenizer_hf import read_folder_tokenizer

TEMPLATE = "{{ messages[0].content }}"


def _byte_level() -> tokenizers.Tokenizer:
    vocab, merges = train_byte_level()
    built = tokenizers.Tokenizer(models.BPE(vocab, merges))
    built.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    built.decoder = decoders.ByteLevel()
    built.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in CONTROL_TOKENS])
    built.add_tokens([AddedToken("<tool_call>", special=False, normalized=False)])
    return built


def _sentencepiece_style() -> tokenizers.Tokenizer:
    """As transformers converts Llama 2: spaces to U+2581, one in front, byte fallback."""
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=900, special_tokens=["<unk>", "<s>", "</s>"], show_progress=False
    )
    trained = tokenizers.Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    trained.train_from_iterator(make_corpus()[:400], trainer)
    state = json.loads(trained.to_str())["model"]
    vocab = {**state["vocab"]}
    for byte in range(256):
        vocab[f"<0x{byte:02X}>"] = len(vocab)
    merges = [tuple(pair) for pair in state["merges"]]
    built = tokenizers.Tokenizer(models.BPE(vocab, merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    built.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    built.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    built.post_processor = processors.TemplateProcessing("<s> $A", special_tokens=[("<s>", vocab["<s>"])])
    built.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in ("<unk>", "<s>", "</s>")])
    return built


def _folder(path: Path, built: tokenizers.Tokenizer, **config: Any) -> Path:
    built.save(str(path / "tokenizer.json"))
    (path / "tokenizer_config.json").write_text(json.dumps(config))
    return path


def _open(path: Path, vocab_size: int = 4000) -> Tokenizer:
    return Tokenizer(*read_folder_tokenizer(path, vocab_size))


@pytest.fixture
def byte_level(tmp_path: Path) -> Path:
    return _folder(tmp_path, _byte_level(), bos_token=None, eos_token="<|im_end|>", chat_template=TEMPLATE)


@pytest.fixture
def sentencepiece(tmp_path: Path) -> Path:
    eos = {"__type": "AddedToken", "content": "</s>", "special": True}
    return _folder(tmp_path, _sentencepiece_style(), bos_token="<s>", eos_token=eos, unk_token="<unk>")


@pytest.mark.parametrize("kind", ["byte_level", "sentencepiece"])
def test_ids_and_text_equal_those_of_transformers(kind: str, request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue(kind)
    tokenizer = _open(folder)
    oracle = PreTrainedTokenizerFast.from_pretrained(folder)
    lines = make_corpus()
    for line in lines:
        for add_special in (True, False):
            expected = oracle.encode(line, add_special_tokens=add_special)
            assert tokenizer.encode(line, add_special=add_special, parse_special=True) == expected, line
    for line in lines:
        ids = tokenizer.encode(line)
        text = tokenizer.decode(ids)
        if "\ufffd" not in text:  # tokenizers writes one U+FFFD per broken byte, Python one per broken character
            assert text == oracle.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        decoder = StreamDecoder(tokenizer)
        assert "".join([*map(decoder.push, ids), decoder.finish()]) == text


def test_control_tokens_arise_from_text_only_on_request(byte_level: Path) -> None:
    tokenizer = _open(byte_level)
    text = "a<|im_start|>b<tool_call>c"
    plain = tokenizer.encode(text)
    parsed = tokenizer.encode(text, parse_special=True)
    assert tokenizer.decode(plain) == text
    assert not any(map(tokenizer.is_special, plain))
    assert [tokenizer.decode([id], skip_special=False) for id in parsed if tokenizer.is_special(id)] == ["<|im_start|>"]
    assert tokenizer.encode(text) == plain


def test_what_the_folder_says_about_special_tokens(byte_level: Path, tmp_path: Path) -> None:
    vocab = train_byte_level()[0]
    tokenizer = _open(byte_level)
    assert (tokenizer.bos_id, tokenizer.eos_id) == (None, vocab["<|im_end|>"])
    assert tokenizer.eos_ids == {vocab["<|im_end|>"], vocab["<|endoftext|>"]}
    assert tokenizer.chat_template == TEMPLATE
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": [7, 9999, "x", True]}))
    (tmp_path / "chat_template.jinja").write_text("from the file")
    tokenizer = _open(byte_level)
    assert 7 in tokenizer.eos_ids
    assert max(tokenizer.eos_ids) < 4000
    assert tokenizer.chat_template == "from the file"


def test_bos_and_the_space_in_front_are_recognized(sentencepiece: Path) -> None:
    tokenizer = _open(sentencepiece)
    assert tokenizer.add_bos
    assert (tokenizer.bos_token, tokenizer.eos_token) == ("<s>", "</s>")
    assert tokenizer.decode(tokenizer.encode("the")) == "the"


def test_the_default_of_several_templates_is_taken(tmp_path: Path) -> None:
    templates = [{"name": "tool_use", "template": "x"}, {"name": "default", "template": TEMPLATE}]
    assert _open(_folder(tmp_path, _byte_level(), chat_template=templates)).chat_template == TEMPLATE


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("tokenizer.json", None, "holds no tokenizer.json"),
        ("tokenizer.json", b"", "is damaged"),
        ("tokenizer.json", b'{"model": {"type": "BPE"}}', "is damaged"),
        ("tokenizer.json", b"[" * 100_000, "is damaged"),
        ("tokenizer_config.json", b"{", "not valid JSON"),
        ("tokenizer_config.json", b"[" * 100_000 + b"]" * 100_000, "JSON"),
        ("tokenizer_config.json", b'{"chat_template": 7}', "not a string"),
        ("chat_template.jinja", b"\xff", "not UTF-8"),
        ("chat_template.jinja", b" " * (2 << 20), "not a chat template"),
    ],
)
def test_damaged_folders_are_refused(byte_level: Path, name: str, content: bytes | None, message: str) -> None:
    _open(byte_level)
    if content is None:
        (byte_level / name).unlink()
    else:
        (byte_level / name).write_bytes(content)
    with pytest.raises(TokenizerError, match=message):
        _open(byte_level)


def test_more_tokens_than_embedding_rows_are_refused(byte_level: Path) -> None:
    with pytest.raises(TokenizerError, match="only 100 rows"):
        _open(byte_level, 100)


def test_a_decoder_without_bytes_is_refused_by_name(tmp_path: Path) -> None:
    built = _byte_level()
    built.decoder = decoders.WordPiece()
    with pytest.raises(UnsupportedModelError, match="WordPiece"):
        _open(_folder(tmp_path, built))


def test_a_text_that_takes_long_to_encode_holds_up_no_other(byte_level: Path) -> None:
    _, codec = read_folder_tokenizer(byte_level, 4000)
    text = "<|im_start|>user<tool_call> the end"
    plain, special = (codec.encode(text, add_special=False, parse_special=special) for special in (False, True))
    assert len(plain) > len(special)
    inner = codec._tokenizer

    class Slow:
        """Is asked for another text while it encodes one."""

        def encode(self, text: str, **options: Any) -> Any:
            again: list[list[int]] = []
            ask = partial(codec.encode, text, add_special=False, parse_special=False)
            other = Thread(target=lambda: again.append(ask()), daemon=True)
            other.start()
            other.join(30)
            assert again == [plain]
            return inner.encode(text, **options)

    codec._tokenizer = Slow()  # type: ignore[assignment]
    assert codec.encode(text, add_special=False, parse_special=True) == special


@pytest.mark.parametrize("parse_special", [True, False])
def test_no_text_is_cut_off_whatever_the_file_says(tmp_path: Path, parse_special: bool) -> None:
    built = _byte_level()
    built.enable_truncation(4)
    built.enable_padding(length=64)
    tokenizer = _open(_folder(tmp_path, built, eos_token="<|im_end|>"))
    ids = tokenizer.encode("one two three four five six", parse_special=parse_special)
    assert tokenizer.decode(ids) == "one two three four five six"
    assert 4 < len(ids) < 64
