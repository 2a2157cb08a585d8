"""A folder's byte-level tokenizer that went through GGUF metadata gives the same ids."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import tokenizers
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, processors

from formats.corpus import make_corpus
from formats.vocabularies import CONTROL_TOKENS, make_tokenizer, train_byte_level
from miaotui.errors import TokenizerError, UnsupportedModelError
from miaotui.formats.byte_level_gguf import byte_level_metadata
from miaotui.formats.pretokenizers import PRE_TOKENIZERS
from miaotui.formats.tokenizer import Tokenizer
from miaotui.formats.tokenizer_hf import read_folder_tokenizer

ROWS = 3100


def cut_by(*names: str) -> pre_tokenizers.PreTokenizer:
    """As the models' own tokenizer.json: the patterns, then bytes."""
    splits = [pre_tokenizers.Split(Regex(p), "isolated") for name in names for p in PRE_TOKENIZERS[name].patterns]
    return pre_tokenizers.Sequence([*splits, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def smollm() -> pre_tokenizers.PreTokenizer:
    digits = pre_tokenizers.Digits(individual_digits=True)
    return pre_tokenizers.Sequence([digits, pre_tokenizers.ByteLevel(add_prefix_space=False)])


RULES: dict[str, Callable[[], pre_tokenizers.PreTokenizer]] = {
    "gpt-2": lambda: pre_tokenizers.ByteLevel(add_prefix_space=False),
    "smollm": smollm,
    "qwen2": lambda: cut_by("qwen2"),
    "llama-bpe": lambda: cut_by("llama-bpe"),
    "gpt-4o": lambda: cut_by("gpt-4o"),
}


def write_folder(path: Path, rules: str, **config: object) -> Path:
    vocab, merges = train_byte_level()
    built = tokenizers.Tokenizer(models.BPE(vocab, merges, ignore_merges=PRE_TOKENIZERS[rules].ignore_merges))
    if PRE_TOKENIZERS[rules].normalize_nfc:
        built.normalizer = normalizers.NFC()
    built.pre_tokenizer = RULES[rules]()
    built.decoder = decoders.ByteLevel()
    built.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in CONTROL_TOKENS])
    built.add_tokens([AddedToken("<tool_call>", special=False, normalized=False)])
    if config.get("bos_token"):
        bos = str(config["bos_token"])
        built.post_processor = processors.TemplateProcessing(f"{bos} $A", special_tokens=[(bos, vocab[bos])])
    path.mkdir(exist_ok=True)
    built.save(str(path / "tokenizer.json"))
    (path / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<|im_end|>", **config}))
    return path


@pytest.mark.parametrize("rules", RULES)
def test_the_rules_are_found_and_give_the_same_ids(rules: str, tmp_path: Path) -> None:
    folder = write_folder(tmp_path, rules)
    metadata = dict(byte_level_metadata(folder, ROWS))
    assert metadata["tokenizer.ggml.pre"] == rules
    before, after = Tokenizer(*read_folder_tokenizer(folder, ROWS)), make_tokenizer(metadata)
    for line in [*make_corpus()[:300], "a<|im_start|>b<tool_call>c"]:
        for parse in (False, True):
            ids = before.encode(line, parse_special=parse)
            assert after.encode(line, parse_special=parse) == ids, line
        assert after.decode(ids) == before.decode(ids)


def test_special_tokens_and_the_chat_template_come_along(tmp_path: Path) -> None:
    folder = write_folder(tmp_path, "qwen2", bos_token="<|im_start|>", chat_template="{{ messages }}")
    before = Tokenizer(*read_folder_tokenizer(folder, ROWS))
    after = make_tokenizer(dict(byte_level_metadata(folder, ROWS)))
    assert after.chat_template == "{{ messages }}"
    assert (after.bos_id, after.eos_id, after.eos_ids) == (before.bos_id, before.eos_id, before.eos_ids)
    assert after.encode("the", add_special=True) == before.encode("the", add_special=True)
    assert len(after.encode("the", add_special=True)) > len(after.encode("the", add_special=False))


def test_rules_that_have_no_name_are_refused(tmp_path: Path) -> None:
    folder = write_folder(tmp_path, "gpt-2")
    state = json.loads((folder / "tokenizer.json").read_text())
    state["pre_tokenizer"] = json.loads(
        pre_tokenizers.Sequence(
            [pre_tokenizers.Punctuation("isolated"), pre_tokenizers.ByteLevel(add_prefix_space=True)]
        ).__getstate__()
    )
    (folder / "tokenizer.json").write_text(json.dumps(state))
    with pytest.raises(UnsupportedModelError, match="no GGUF reader knows"):
        byte_level_metadata(folder, ROWS)


def test_other_kinds_and_missing_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TokenizerError, match=r"no tokenizer\.json"):
        byte_level_metadata(tmp_path, ROWS)
    folder = write_folder(tmp_path / "f", "gpt-2")
    with pytest.raises(TokenizerError, match="different models"):
        byte_level_metadata(folder, 100)
    state = json.loads((folder / "tokenizer.json").read_text())
    metaspace = json.loads(pre_tokenizers.Metaspace().__getstate__())
    (folder / "tokenizer.json").write_text(json.dumps({**state, "pre_tokenizer": metaspace}))
    with pytest.raises(UnsupportedModelError, match="only byte-level BPE"):
        byte_level_metadata(folder, ROWS)
