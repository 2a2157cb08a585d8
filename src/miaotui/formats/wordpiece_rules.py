"""BERT's rules for cutting a text into pieces (arXiv:1810.04805; WordPiece: arXiv:1609.08144), run by `tokenizers`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import tokenizers

MAX_WORD_CHARS = 100
"""A longer word is one unknown token, as in BERT's own code."""
GOES_ON = "##"
"""Stands in front of the pieces that go on with a word."""


def bert_tokenizer(
    pieces: Mapping[str, int],
    around: tuple[str, str],
    unknown: str,
    *,
    lower: bool,
    strip_accents: bool | None,
    split_chinese: bool,
) -> tokenizers.Tokenizer:
    """A tokenizer over pieces and their ids; `around` and `unknown` are pieces: what encloses a text, what a word is
    that has no pieces. Accents go as `lower` says where `strip_accents` is None."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordPiece
    from tokenizers.normalizers import BertNormalizer
    from tokenizers.pre_tokenizers import BertPreTokenizer
    from tokenizers.processors import BertProcessing

    first, last = around
    tokenizer = Tokenizer(WordPiece(dict(pieces), unk_token=unknown, max_input_chars_per_word=MAX_WORD_CHARS))
    tokenizer.normalizer = BertNormalizer(
        handle_chinese_chars=split_chinese, strip_accents=strip_accents, lowercase=lower
    )
    tokenizer.pre_tokenizer = BertPreTokenizer()
    tokenizer.post_processor = BertProcessing((last, pieces[last]), (first, pieces[first]))
    return tokenizer
