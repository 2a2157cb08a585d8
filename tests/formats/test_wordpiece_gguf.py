"""A WordPiece tokenizer that went through GGUF metadata gives the same ids, and its vocabulary is llama.cpp's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st

from engine.tiny_bert import PIECES, write_settings
from miaotui.errors import TokenizerError, UnsupportedModelError
from miaotui.formats.wordpiece import TextEncoder, folder_tokenizer
from miaotui.formats.wordpiece_gguf import from_metadata, to_metadata

TEXTS = ["", "the cat", "The CATS!", "a  dog\tis\non", "čât", "lights", "猫 cat 猫", "x" * 101, "[MASK] [SEP]", "12.5"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("vocab")
    write_settings(folder)
    return folder


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> tokenizers.Tokenizer:
    return folder_tokenizer(folder)


@pytest.fixture(scope="module")
def metadata(tokenizer: tokenizers.Tokenizer) -> dict[str, Any]:
    return dict(to_metadata(tokenizer, len(PIECES)))


def both(folder: Path, metadata: dict[str, Any], rows: int = len(PIECES)) -> tuple[TextEncoder, TextEncoder]:
    return TextEncoder.from_folder(folder, rows), TextEncoder(from_metadata(metadata, rows))


@pytest.mark.parametrize("text", TEXTS)
def test_a_text_has_the_same_ids_from_the_folder_and_from_metadata(
    folder: Path, metadata: dict[str, Any], text: str
) -> None:
    before, after = both(folder, metadata)
    assert after.encode([text]) == before.encode([text])


@given(text=st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=80))
def test_any_text_has_the_same_ids(text: str) -> None:
    before, after = made_once()
    assert after.encode([text]) == before.encode([text])


def made_once(_made: list[tuple[TextEncoder, TextEncoder]] = []) -> tuple[TextEncoder, TextEncoder]:  # noqa: B006 (kept)
    if not _made:
        import tempfile

        with tempfile.TemporaryDirectory() as name:
            write_settings(Path(name))
            _made.append(both(Path(name), dict(to_metadata(folder_tokenizer(Path(name)), len(PIECES)))))
    return _made[0]


def test_the_vocabulary_is_written_as_llama_cpp_reads_it(metadata: dict[str, Any]) -> None:
    tokens, types = metadata["tokenizer.ggml.tokens"], metadata["tokenizer.ggml.token_type"]
    assert [tokens[PIECES.index(piece)] for piece in ("[CLS]", "the", "##ing")] == ["[CLS]", "▁the", "ing"]
    assert [types[PIECES.index(piece)] for piece in ("[CLS]", "[MASK]", "the", "##ing")] == [3, 3, 1, 1]
    ids = {"bos": "[CLS]", "cls": "[CLS]", "eos": "[SEP]", "seperator": "[SEP]", "unknown": "[UNK]", "mask": "[MASK]"}
    for name, piece in ids.items():
        assert metadata[f"tokenizer.ggml.{name}_token_id"] == PIECES.index(piece)


def test_rows_without_a_token_are_filled_up(folder: Path, tokenizer: tokenizers.Tokenizer) -> None:
    metadata = dict(to_metadata(tokenizer, len(PIECES) + 3))
    assert len(metadata["tokenizer.ggml.tokens"]) == len(PIECES) + 3  # type: ignore[arg-type]
    before, after = both(folder, metadata, len(PIECES) + 3)
    assert after.encode(TEXTS) == before.encode(TEXTS)


@pytest.mark.parametrize("config", [{"do_lower_case": False}, {"tokenize_chinese_chars": False}])
def test_capitals_and_chinese_characters_are_treated_as_before(tmp_path: Path, config: dict[str, bool]) -> None:
    write_settings(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    plain, _ = made_once()
    before, after = both(tmp_path, dict(to_metadata(folder_tokenizer(tmp_path), len(PIECES))))
    texts = ["The CATS", "čât", "猫cat猫 the"]
    assert after.encode(texts) == before.encode(texts) != plain.encode(texts)


@pytest.mark.parametrize("missing", ["bos_token_id", "seperator_token_id", "unknown_token_id", "tokens"])
def test_a_file_that_leaves_out_what_is_needed_is_refused(metadata: dict[str, Any], missing: str) -> None:
    less = {key: value for key, value in metadata.items() if key != f"tokenizer.ggml.{missing}"}
    with pytest.raises(TokenizerError, match=missing):
        from_metadata(less, len(PIECES))


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"model": "t5"}, UnsupportedModelError),
        ({"model": None}, UnsupportedModelError),
        ({"tokens": ["a", "a", "[CLS]"]}, TokenizerError),
        ({"tokens": "abc"}, TokenizerError),
        ({"bos_token_id": 10**9}, TokenizerError),
        ({"seperator_token_id": "x"}, TokenizerError),
        ({"normalizer.lowercase": 7}, TokenizerError),
        ({"token_type": [1]}, TokenizerError),
    ],
)
def test_damaged_metadata_is_refused(metadata: dict[str, Any], changes: dict[str, Any], error: type[Exception]) -> None:
    damaged = metadata | {f"tokenizer.ggml.{key}": value for key, value in changes.items()}
    with pytest.raises(error):
        from_metadata(damaged, len(PIECES))


def test_more_tokens_than_rows_are_refused(metadata: dict[str, Any]) -> None:
    with pytest.raises(TokenizerError, match="rows"):
        from_metadata(metadata, len(PIECES) - 1)


def test_a_piece_that_could_not_be_read_back_is_refused(tmp_path: Path) -> None:
    write_settings(tmp_path)
    (tmp_path / "vocab.txt").write_text("\n".join([*PIECES, "##▁a"]))
    with pytest.raises(UnsupportedModelError, match="no place in a GGUF file"):
        to_metadata(folder_tokenizer(tmp_path), len(PIECES) + 1)


def test_two_pieces_that_would_be_one_are_refused(tmp_path: Path) -> None:
    write_settings(tmp_path)
    (tmp_path / "vocab.txt").write_text("\n".join([*PIECES, "##[CLS]"]))
    with pytest.raises(UnsupportedModelError, match=r"two tokens would both be '\[CLS\]'"):
        to_metadata(folder_tokenizer(tmp_path), len(PIECES) + 1)


def test_a_tokenizer_of_another_kind_is_refused(tokenizer: tokenizers.Tokenizer) -> None:
    rules = json.loads(tokenizer.to_str())
    for part, other in (("normalizer", {"type": "NFC"}), ("pre_tokenizer", {"type": "Whitespace"})):
        changed = tokenizers.Tokenizer.from_str(json.dumps({**rules, part: other}))
        with pytest.raises(UnsupportedModelError, match=part):
            to_metadata(changed, len(PIECES))
    changed = tokenizers.Tokenizer.from_str(json.dumps({**rules, "post_processor": None}))
    with pytest.raises(UnsupportedModelError, match="0 tokens"):
        to_metadata(changed, len(PIECES))
    changed = tokenizers.Tokenizer.from_str(tokenizer.to_str())
    changed.add_tokens(["hello there"])
    with pytest.raises(UnsupportedModelError, match="hello there"):
        to_metadata(changed, len(PIECES) + 1)
