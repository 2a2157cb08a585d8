"""Byte-level BPE, as in GPT-2 and its many descendants (`tokenizer.ggml.model` = "gpt2").

Text is cut into words, every byte of a word becomes one printable character, and adjacent pieces are merged in the
order of the file's merge list. The merges stay one dictionary `"left right" → rank`: building it takes 3 ms for 50,000
merges where `tokenizers.models.BPE` takes 40 ms and more memory, and encoding is as fast (cutting words dominates).
"""

from __future__ import annotations

import unicodedata

from miaotui.errors import TokenizerError
from miaotui.formats.pretokenizers import PreTokenizer
from miaotui.formats.tokenizer_merge import WordCache, merge_pieces
from miaotui.formats.tokenizer_vocab import MAX_TOKEN_CHARS, Vocabulary
from miaotui.formats.tokenizer_words import WordSplitter


def _byte_alphabet() -> list[str]:
    """GPT-2's printable stand-in for every byte value (`bytes_to_unicode` in openai/gpt-2, `encoder.py`)."""
    printable = {*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)}
    others = iter(range(256, 512))
    return [chr(byte if byte in printable else next(others)) for byte in range(256)]


BYTE_CHARS = _byte_alphabet()
_BYTE_OF_CHAR = {char: byte for byte, char in enumerate(BYTE_CHARS)}


def token_to_bytes(token: str) -> bytes:
    """Bytes that a byte-level token stands for; characters outside the alphabet stand for themselves."""
    try:
        return bytes(map(_BYTE_OF_CHAR.__getitem__, token))
    except KeyError:
        return b"".join(
            bytes((_BYTE_OF_CHAR[char],)) if char in _BYTE_OF_CHAR else char.encode("utf-8", "surrogateescape")
            for char in token
        )


class ByteLevelEncoder:
    """Text → ids for one byte-level vocabulary.

    Bytes without a token are left out before merging, as the models' own tokenizers do: SmolLM2, for example, has no
    token for the control character U+0004. A vocabulary that lacks printable ASCII is refused.
    """

    def __init__(self, vocabulary: Vocabulary, merges: list[str], rules: PreTokenizer) -> None:
        """Raises TokenizerError for a merge list or an alphabet that cannot be right."""
        self._index = vocabulary.index
        self._ranks = dict(zip(merges, range(len(merges)), strict=True))
        self._rules = rules
        self._words = WordSplitter(rules)
        self._cache = WordCache(self._encode_word)
        self._check(merges)

    def encode(self, text: str, *, at_start: bool) -> list[int]:
        """Ids of plain text, which must not contain lone surrogates; `at_start` makes no difference here."""
        if self._rules.normalize_nfc:
            text = unicodedata.normalize("NFC", text)
        return self._cache.encode(self._words.split(text))

    def _encode_word(self, word: str) -> list[int]:
        chars = [BYTE_CHARS[byte] for byte in word.encode()]
        if self._rules.ignore_merges and (whole := self._index.get("".join(chars))) is not None:
            return [whole]
        known = [char for char in chars if char in self._index]
        try:
            return [self._index[piece] for piece in merge_pieces(known, self._ranks.get, " ")]
        except KeyError as error:
            raise _damaged(f"its merges lead to {error.args[0]!r:.60}, which is not a token") from None

    def _check(self, merges: list[str]) -> None:
        if len(self._ranks) != len(merges):
            raise _damaged("a merge occurs twice")
        if merges and max(map(len, merges)) > MAX_TOKEN_CHARS + 1:
            raise _damaged("a merge is longer than any token may be")
        if "\n".join(merges).count(" ") != len(merges):
            raise _damaged("a merge is not two tokens with one space between them")
        if missing := [char for char in map(chr, range(0x21, 0x7F)) if char not in self._index]:
            raise _damaged(
                f"it has no token for {missing[0]!r} ({len(missing)} printable ASCII characters are missing)"
            )


def _damaged(problem: str) -> TokenizerError:
    return TokenizerError(
        f"the model's byte-level vocabulary is damaged: {problem}; download the model again or use another build."
    )
