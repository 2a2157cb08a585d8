from __future__ import annotations

import json
from pathlib import Path

import pytest
import transformers
from hypothesis import given
from hypothesis import strategies as st

from engine.tiny_bert import PIECES, write_settings
from miaotui.errors import TokenizerError
from miaotui.formats.wordpiece import TextEncoder

TEXTS = ["", "the cat", "The CATS!", "a  dog\tis\non", "čât", "lights", "猫 cat 猫", "x" * 101, "\u200b", "12.5"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("vocab")
    write_settings(folder)
    return folder


@pytest.fixture(scope="module")
def oracle(folder: Path) -> transformers.BertTokenizer:
    return transformers.BertTokenizer(vocab={piece: i for i, piece in enumerate(PIECES)})


@pytest.mark.parametrize("text", TEXTS)
def test_a_vocabulary_gives_the_ids_of_transformers(
    folder: Path, oracle: transformers.BertTokenizer, text: str
) -> None:
    assert TextEncoder.from_folder(folder, len(PIECES)).encode([text]) == [oracle(text)["input_ids"]]


@given(texts=st.lists(st.text(max_size=60).filter(lambda t: "[" not in t), max_size=5))
def test_many_texts_at_once_give_what_each_gives_alone(texts: list[str]) -> None:
    encoder = made_once()
    try:
        alone = [encoder.encode([text])[0] for text in texts]
    except TokenizerError:  # lone surrogates
        return
    assert encoder.encode(texts) == alone


def made_once(_made: list[TextEncoder] = []) -> TextEncoder:  # noqa: B006 (kept on purpose)
    if not _made:
        import tempfile

        with tempfile.TemporaryDirectory() as name:
            write_settings(Path(name))
            _made.append(TextEncoder.from_folder(Path(name), len(PIECES)))
    return _made[0]


def test_a_tokenizer_json_goes_first_and_its_padding_and_cutting_are_switched_off(
    tmp_path: Path, oracle: transformers.BertTokenizer
) -> None:
    oracle.backend_tokenizer.enable_truncation(8)
    oracle.backend_tokenizer.enable_padding(length=16)
    oracle.backend_tokenizer.save(str(tmp_path / "tokenizer.json"))
    encoder = TextEncoder.from_folder(tmp_path, len(PIECES))
    short, long = encoder.encode(["the cat", "the cat " * 20])
    assert (len(short), len(long)) == (4, 42)


def test_a_cut_keeps_what_ends_a_text(folder: Path) -> None:
    encoder = TextEncoder.from_folder(folder, len(PIECES))
    (ids,) = encoder.encode(["the cat is on a dog"])
    assert encoder.cut(ids, 8) == ids
    assert encoder.cut(ids, 5) == [*ids[:4], PIECES.index("[SEP]")]
    assert encoder.num_around == 2


@pytest.mark.parametrize("source", ["vocab.txt", "tokenizer.json"])
def test_control_tokens_that_a_user_wrote_are_text(
    tmp_path: Path, oracle: transformers.BertTokenizer, source: str
) -> None:
    write_settings(tmp_path)
    if source == "tokenizer.json":
        oracle.backend_tokenizer.save(str(tmp_path / "tokenizer.json"))
    (ids,) = TextEncoder.from_folder(tmp_path, len(PIECES)).encode(["[SEP] [CLS] [PAD]"])
    assert [ids.count(PIECES.index(name)) for name in ("[CLS]", "[SEP]", "[PAD]")] == [1, 1, 0]


def test_half_a_surrogate_pair_is_refused(folder: Path) -> None:
    with pytest.raises(TokenizerError, match="half a surrogate pair"):
        TextEncoder.from_folder(folder, len(PIECES)).encode(["fine", "\ud800"])


def test_more_tokens_than_the_model_has_rows_are_refused(folder: Path) -> None:
    with pytest.raises(TokenizerError, match="belong to different models"):
        TextEncoder.from_folder(folder, len(PIECES) - 1)


@pytest.mark.parametrize(
    ("vocabulary", "says"),
    [(None, "neither tokenizer.json nor vocab.txt"), (b"a\nb\n", r"has no token \[UNK\]"), (b"\xff\xfe", "not UTF-8")],
)
def test_a_missing_or_damaged_vocabulary_is_told(tmp_path: Path, vocabulary: bytes | None, says: str) -> None:
    if vocabulary is not None:
        (tmp_path / "vocab.txt").write_bytes(vocabulary)
    with pytest.raises(TokenizerError, match=says):
        TextEncoder.from_folder(tmp_path, 100)


def test_capitals_count_where_the_configuration_says_so(tmp_path: Path) -> None:
    write_settings(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": False}))
    (lower, upper) = TextEncoder.from_folder(tmp_path, len(PIECES)).encode(["cat", "CAT"])
    assert lower != upper
    assert upper[1] == PIECES.index("[UNK]")
