"""Token ids to text, one at a time, without ever showing half a character."""

from __future__ import annotations

import codecs
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from miaotui.formats.tokenizer import Tokenizer

_Utf8Decoder = codecs.getincrementaldecoder("utf-8")


class StreamDecoder:
    """Text of a growing sequence of ids: all pushes plus `finish` give `tokenizer.decode(ids)`, character by character.

    A token may end inside a character; its bytes wait for the next token. Bytes that cannot become a character are
    U+FFFD, as in `decode`. The work per token does not depend on how many came before.
    """

    def __init__(self, tokenizer: Tokenizer, skip_special: bool = True) -> None:
        self._tokenizer = tokenizer
        self._skip_special = skip_special
        self._utf8 = _Utf8Decoder("replace")
        self._strip_space = tokenizer.spec.strip_space  # until the first byte has come

    def push(self, id: int) -> str:
        """The characters that this token completes, possibly none; raises TokenizerError for an unknown id."""
        if self._skip_special and self._tokenizer.is_special(id):
            return ""
        piece = self._tokenizer.token_bytes(id)
        if self._strip_space and piece:
            piece = piece.removeprefix(b" ")
            self._strip_space = False
        return self._utf8.decode(piece)

    def finish(self) -> str:
        """What is left of an unfinished character: U+FFFD or nothing. Afterwards the decoder is as new."""
        rest = self._utf8.decode(b"", final=True)
        self._utf8.reset()
        self._strip_space = self._tokenizer.spec.strip_space
        return rest
