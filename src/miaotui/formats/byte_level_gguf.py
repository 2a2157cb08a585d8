"""A byte-level BPE tokenizer of a Hugging Face folder as GGUF metadata.

Keys and token types are those of llama.cpp's converter (`gguf-py/gguf/vocab.py`, `conversion/base.py`). It knows the
rules that cut text into words by name; which name is right is found by trying: the one whose rules give the
tokenizer's own ids for probing texts.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from miaotui.errors import TokenizerError, UnsupportedModelError, brief
from miaotui.formats.gguf_write import StandardValue
from miaotui.formats.pretokenizers import PRE_TOKENIZERS, PreTokenizer
from miaotui.formats.tokenizer_bpe import ByteLevelEncoder
from miaotui.formats.tokenizer_hf import HubCodec, load_tokenizer, read_folder_tokenizer
from miaotui.formats.tokenizer_vocab import TokenType, Vocabulary

_PREFIX = "tokenizer.ggml."
_TRIED_FIRST = ("qwen2", "llama-bpe", "smollm", "gpt-2")
PROBES = (
    "It's what we'LL see, DON'T they'd; a'b 'sx",
    "1 12 123 1234 12345678 3.14 1,000,000 x1y22z333 ١٢٣٤ ２３４５ ⅷ",
    "  two  spaces   three\tand\ttabs \n one\n\n two \r\n\r\n  end  ",
    "foo_bar(x, y) -> $z == {a: [1]}; // ... !!! ??? #$%^&*",
    "camelCase HTMLParser McDonald ÀÉÎ straße ǅ",
    "中文字符，没有空格。日本語のテキスト、カタカナ 한국어 문장",
    "Привет, мир! Γειά σου العربية हिन्दी ไทย",
    "e\u0301 a\u0308 \u1e9b\u0323 ﬁ 😀👍🏽 \u200b\u00a0x",
)


def byte_level_metadata(folder: Path, vocab_size: int) -> dict[str, StandardValue]:
    """The `tokenizer.*` values of a folder's tokenizer, padded to `vocab_size` rows of the embedding.

    Raises TokenizerError for a damaged tokenizer, UnsupportedModelError for one of another kind or with rules that
    llama.cpp has no name for.
    """
    spec, codec = read_folder_tokenizer(folder, vocab_size)
    tokenizer = load_tokenizer(folder)
    model = json.loads(tokenizer.to_str())["model"]
    kinds = json.dumps(json.loads(tokenizer.to_str()).get("pre_tokenizer"))
    if model.get("type") != "BPE" or '"ByteLevel"' not in kinds:
        raise UnsupportedModelError(
            f"{folder}: only byte-level BPE tokenizers are written to GGUF files, not {brief(model.get('type'))} with "
            f"{brief(kinds)}; take the model as a GGUF file."
        )
    added = tokenizer.get_added_tokens_decoder()
    tokens, types = [], []
    for id in range(vocab_size):
        text = str(added[id].content) if id in added else tokenizer.id_to_token(id)
        special = id in added and added[id].special
        known = TokenType.CONTROL if special else TokenType.USER_DEFINED if id in added else TokenType.NORMAL
        tokens.append(f"[PAD{id}]" if text is None else text)
        types.append(int(TokenType.UNUSED if text is None else known))
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"]]
    values: dict[str, StandardValue] = {"model": "gpt2", "tokens": tokens, "token_type": types, "merges": merges}
    values |= {f"{name}_token_id": id for name, id in (("bos", spec.bos_id), ("eos", spec.eos_id)) if id is not None}
    values |= {"add_bos_token": spec.add_bos, "add_eos_token": spec.add_eos}
    metadata = {_PREFIX + key: value for key, value in values.items()}
    if spec.chat_template is not None:
        metadata["tokenizer.chat_template"] = spec.chat_template
    whole = bool(model.get("ignore_merges"))
    return {**metadata, _PREFIX + "pre": _rules_name(folder, metadata, vocab_size, codec, ignores_merges=whole)}


def _rules_name(
    folder: Path, metadata: dict[str, StandardValue], vocab_size: int, codec: HubCodec, *, ignores_merges: bool
) -> str:
    vocabulary = Vocabulary.from_metadata(metadata, vocab_size)
    merges = metadata[_PREFIX + "merges"]
    wanted = [codec.encode(text, add_special=False, parse_special=False) for text in PROBES]
    for name, rules in _candidates():
        if rules.ignore_merges != ignores_merges:
            continue
        try:
            encoder = ByteLevelEncoder(vocabulary, list(map(str, merges)), rules)  # type: ignore[arg-type]
            if [encoder.encode(text, at_start=True) for text in PROBES] == wanted:
                return name
        except TokenizerError as error:
            raise TokenizerError(f"{folder}: {error}") from None
    raise UnsupportedModelError(
        f"{folder}: the tokenizer cuts text by rules that no GGUF reader knows; take the model as a GGUF file."
    )


def _candidates() -> Iterator[tuple[str, PreTokenizer]]:
    """Each set of rules once, under its first name; those of the common models first."""
    tried: set[PreTokenizer] = set()
    for name in (*_TRIED_FIRST, *PRE_TOKENIZERS):
        if PRE_TOKENIZERS[name] not in tried:
            tried.add(PRE_TOKENIZERS[name])
            yield name, PRE_TOKENIZERS[name]
