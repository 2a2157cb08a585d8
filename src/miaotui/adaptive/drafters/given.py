"""An answer that somebody gave before as a draft: what a small model said, for a large one that is asked the same.

Large models check small ones' tokens as in speculative decoding (Leviathan et al., arXiv:2211.17192), but the whole
answer is there already. Where the large one says something else, its last tokens are looked for in the small answer:
it is one more text to look things up in.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence as Row

from miaotui.adaptive.adaptive_drafter import AdaptiveDrafter
from miaotui.adaptive.drafters.lookup import LOOKBACK, READ_AT_ONCE, PromptLookup
from miaotui.adaptive.drafters.past import PastAnswers
from miaotui.engine.sequence import Sequence

MOST_GIVEN = 256
"""Answers that are kept for requests which have not begun to answer; the oldest are forgotten."""

SEAM = 8
"""Tokens of the prompt that are repeated behind the answer, so that its beginning is found like any other place."""

Key = tuple[str, tuple[int, ...]]
"""Tenant and prompt."""


class GivenLookup(PromptLookup):
    """Looks in a prompt, and in an answer as if it had come behind that prompt before."""

    def __init__(self, prompt: Row[int], given: Row[int]) -> None:
        super().__init__()
        before = [*prompt, *given][-LOOKBACK + SEAM :]
        self._whole = [*before, *prompt[-SEAM:]]
        self._num_seen = len(prompt)
        for _ in range(0, len(self._whole), READ_AT_ONCE):  # now, for later a step would wait
            super().read(self._whole)

    def read(self, token_ids: list[int]) -> None:
        """See `PromptLookup.read`; the prompt is known already."""
        self._whole += token_ids[self._num_seen :]
        self._num_seen = len(token_ids)
        super().read(self._whole)


class GivenDrafter(AdaptiveDrafter):
    """A drafter that also knows answers which were given to the same prompts; nobody else's."""

    def __init__(self, past: PastAnswers | None = None) -> None:
        super().__init__(past)
        self._given: OrderedDict[Key, Row[int]] = OrderedDict()

    def give(self, prompt: Row[int], given: Row[int], tenant: str) -> None:
        """What was said to a prompt that this tenant is about to ask."""
        self._given[tenant, tuple(prompt)] = tuple(given)
        while len(self._given) > MOST_GIVEN:
            self._given.popitem(last=False)

    def ended(self, sequence: Sequence) -> None:
        """See `AdaptiveDrafter.ended`. What was given for a sequence that never began to draft is dropped."""
        self._given.pop((sequence.request.tenant, sequence.request.prompt_token_ids), None)
        super().ended(sequence)

    def forget(self) -> None:
        """Drop what nobody has come for."""
        self._given.clear()

    def begin(self, sequence: Sequence) -> PromptLookup:
        """See `AdaptiveDrafter.begin`."""
        prompt = sequence.request.prompt_token_ids
        given = self._given.pop((sequence.request.tenant, prompt), None)
        return PromptLookup() if given is None else GivenLookup(prompt, given)
