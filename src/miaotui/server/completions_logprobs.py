"""Log-probabilities as OpenAI's older API writes them: lists in parallel, with the place of each token in the text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from miaotui.engine.results import TokenLogprob


class LogprobLists:
    """Writes down the tokens of one text, part by part.

    first_offset: where in a choice's text they begin, in characters; last_offset: where the last of them may, for
    tokens of a text that was normalized are those of another one. skip_special: whether control tokens are not shown.
    """

    def __init__(
        self,
        tokenizer: Any,
        *,
        first_offset: int = 0,
        last_offset: int | None = None,
        skip_special: bool = True,
    ) -> None:
        self._tokenizer = tokenizer
        self._decoder = tokenizer.decoder(skip_special=skip_special)
        self._offset, self._last = first_offset, last_offset

    def write(self, entries: Sequence[TokenLogprob | None], unscored_id: int = 0) -> dict[str, list[Any]]:
        """The next tokens; text_offset: characters of the choice's text that are whole before each begins.

        unscored_id: the token that has no log-probability, as a prompt's first one has none.
        """
        ids = [unscored_id if e is None else e.token_id for e in entries]
        return {
            "tokens": [self._text_of(id) for id in ids],
            "token_logprobs": [e and e.logprob for e in entries],
            "top_logprobs": [e and {self._text_of(t): value for t, value in e.top} for e in entries],
            "text_offset": [self._place(id) for id in ids],
        }

    def _place(self, id: int) -> int:
        offset = self._offset
        self._offset += len(self._decoder.push(id))
        return offset if self._last is None else min(offset, self._last)

    def _text_of(self, id: int) -> str:
        raw: bytes = self._tokenizer.token_bytes(id)
        return raw.decode("utf-8", "replace")
