"""SentencePiece vocabularies in GGUF files: BPE by scores ("llama") and unigram ("t5"), both with byte fallback.

Kudo and Richardson, "SentencePiece" (2018); behaviour after `src/bpe_model.cc` and `src/unigram_model.cc` of
google/sentencepiece, the prefix space after `llama_vocab::impl::tokenize` of llama.cpp.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from miaotui.errors import TokenizerError
from miaotui.formats.tokenizer_merge import WordCache, merge_pieces
from miaotui.formats.tokenizer_vocab import Vocabulary

if TYPE_CHECKING:
    from tokenizers.models import Unigram
    from tokenizers.normalizers import Precompiled

SPACE = "▁"  # U+2581 stands for a space inside tokens


class UnknownText:
    """Ids for text that no token covers: its bytes, or the unknown token once per run."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        """Raises TokenizerError for misnamed byte tokens."""
        byte_ids = vocabulary.byte_ids()
        self._byte_ids = byte_ids if len(byte_ids) == 256 else None
        self.unknown_id = vocabulary.unknown_id

    def append(self, text: str, ids: list[int]) -> None:
        """Appends the ids of `text`; raises TokenizerError when the vocabulary has neither way out."""
        if self._byte_ids is not None:
            ids += [self._byte_ids[byte] for byte in text.encode()]
        elif self.unknown_id is None:
            raise TokenizerError(
                f"the vocabulary has no token for {text!r:.40}: neither all 256 byte tokens nor an unknown token; "
                "remove these characters or use another build of the model."
            )
        elif not ids or ids[-1] != self.unknown_id:
            ids.append(self.unknown_id)


class SentencePieceEncoder:
    """BPE whose merge order is the score of the merged token, so that no merge list is needed.

    SentencePiece merges over the whole text. Here it is cut first wherever no token could span the cut, which gives the
    same ids and lets words be remembered: before a space that follows a character which no token has before a space.
    """

    def __init__(self, vocabulary: Vocabulary, *, add_space_prefix: bool) -> None:
        """Raises TokenizerError when scores or byte tokens are unusable."""
        self._index = vocabulary.index
        self._scores = vocabulary.scores().data
        self._unknown = UnknownText(vocabulary)
        self._add_space_prefix = add_space_prefix
        # Split at the spaces inside tokens: the last character of each part but the last stands before a space.
        inner_spaces = "\0".join(self._index).replace(f"\0{SPACE}", "\0").split(SPACE)
        spanned = {part[-1:] for part in inner_spaces[:-1]} - {"", "\0"}
        self._boundary = re.compile(f"(?<=[^{re.escape(''.join(sorted({SPACE, *spanned})))}])(?={SPACE})")
        self._cache = WordCache(self._encode_word)

    def encode(self, text: str, *, at_start: bool) -> list[int]:
        """Ids of plain text without lone surrogates; at the start of a text or after a special token, `at_start`."""
        if at_start and self._add_space_prefix:
            text = " " + text
        return self._cache.encode(self._boundary.split(text.replace(" ", SPACE)))

    def _encode_word(self, word: str) -> list[int]:
        ids: list[int] = []
        for piece in merge_pieces(list(word), self._rank, ""):
            id = self._index.get(piece)
            if id is None:
                self._unknown.append(piece, ids)
            else:
                ids.append(id)
        return ids

    def _rank(self, merged: str) -> float | None:
        id = self._index.get(merged)
        return None if id is None else -self._scores[id]


class UnigramEncoder:
    """The most probable segmentation under a unigram model (Viterbi search by `tokenizers`)."""

    def __init__(
        self,
        vocabulary: Vocabulary,
        *,
        add_space_prefix: bool,
        remove_extra_whitespaces: bool,
        charsmap: bytes,
    ) -> None:
        """`charsmap` is SentencePiece's precompiled normalization table, or empty; raises TokenizerError."""
        self._unknown = UnknownText(vocabulary)
        self._add_space_prefix = add_space_prefix
        self._remove_extra_whitespaces = remove_extra_whitespaces
        self._ids, self._model = _unigram_model(vocabulary)
        self._normalizer = _precompiled(charsmap) if charsmap else None

    def encode(self, text: str, *, at_start: bool) -> list[int]:
        """Ids of plain text without lone surrogates."""
        if self._normalizer is not None:
            text = self._normalizer.normalize_str(text)
        if self._remove_extra_whitespaces:
            text = re.sub(" +", " ", text).strip(" ")
        if at_start and self._add_space_prefix and text:
            text = " " + text
        ids: list[int] = []
        for token in self._model.tokenize(text.replace(" ", SPACE)):
            if token.id == 0:
                self._unknown.append(token.value, ids)
            else:
                ids.append(self._ids[token.id])
        return ids


def _unigram_model(vocabulary: Vocabulary) -> tuple[list[int], Unigram]:
    """The model over text tokens only, so that plain text never becomes a control token, and the ids of its tokens."""
    from tokenizers.models import Unigram

    scores = vocabulary.scores()
    ids = list(vocabulary.index.values())
    # Entry 0 is the unknown token; being empty, it matches nothing. It must not lower the least score, from which the
    # penalty of unknown text is derived.
    entries = [("", 0.0)] + [(token, float(scores[id])) for token, id in vocabulary.index.items()]
    return [-1, *ids], Unigram(entries, 0, False)


def _precompiled(charsmap: bytes) -> Precompiled:
    from tokenizers.normalizers import Precompiled

    try:
        return Precompiled(charsmap)
    except Exception as error:  # tokenizers raises bare Exception
        raise TokenizerError(
            "tokenizer.ggml.precompiled_charsmap is damaged; download the model again or use another build."
        ) from error
