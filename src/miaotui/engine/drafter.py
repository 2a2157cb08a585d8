"""What the engine asks of speculative decoding (Leviathan et al., arXiv:2211.17192); `miaotui.adaptive` answers.

Drafted tokens are read in the same step as the token before them, each with logits of its own. Every token is then
chosen from its logits as it would be without a draft; those that were drafted rightly are read already. So outputs are
the same, bit for bit, whatever is drafted.
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence as Row
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from miaotui.engine.loading import LoadedModel
    from miaotui.engine.sequence import Sequence

DRAFT_ROWS = 48
"""Rows of logits that a step has for drafts beside all others."""


class Drafter(Protocol):
    """Proposes how sequences go on. Called between steps, by whoever steps the engine."""

    def draft(self, answering: Row[Sequence], num_spare: int) -> Mapping[Sequence, Row[int]]:
        """Tokens that may come behind those of these sequences, at most so many for all of them together."""

    def judge(self, sequence: Sequence, num_judged: int, num_accepted: int) -> None:
        """Of a sequence's draft the first tokens came; num_judged: these, and the first one that did not."""

    def observe(self, num_answers: int, num_drafted: int, seconds: float) -> None:
        """A step with so many answers, so many drafted tokens and no prompts took so long."""

    def ended(self, sequence: Sequence) -> None:
        """That sequence has ended, for the reason it gives; it may never have been offered a draft."""


@runtime_checkable
class ModelDrafter(Drafter, Protocol):
    """A drafter that can have a small model guess for it."""

    def use_model(self, small: LoadedModel | None, large: LoadedModel) -> None:
        """Ask this model, whose tokens are those of the large one; nobody else uses it. None: ask none any more."""
