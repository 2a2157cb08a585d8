"""An answer's end is looked for in the answer, not in what the model says to itself before."""

from __future__ import annotations

from miaotui.engine.chat_output import END_THINK, THINK
from miaotui.engine.text import EndWatch


class BehindReasoning:
    """Shows a watch what comes behind blocks of <think>…</think> that a text begins with, as `ChatOutput` tells them.

    What a model writes there is no answer, even if it is JSON or names a choice. A block that never ends is followed
    by none. White space before and between blocks is nobody's.

    inside: whether the prompt has opened a block already.
    """

    def __init__(self, watch: EndWatch, *, inside: bool = False) -> None:
        self._watch = watch
        self._inside = inside
        self._has_begun = False  # the answer
        self._held = ""  # what cannot be told yet: a mark may begin there
        self._num_skipped = 0
        self.end: int | None = None

    @property
    def reason(self) -> str:
        """What completed the answer."""
        return self._watch.reason

    def push(self, text: str) -> int:
        """How many signs at the end of all text so far may turn out to lie behind the end; sets `end` once known."""
        if self._has_begun:
            return self._show(text)
        self._held += text
        while True:
            if self._inside:
                at = self._held.find(END_THINK)
                if at < 0:
                    self._skip(max(len(self._held) - len(END_THINK) + 1, 0))
                    return 0
                self._skip(at + len(END_THINK))
            self._skip(len(self._held) - len(self._held.lstrip()))
            self._inside = self._held.startswith(THINK)
            if self._inside:
                self._skip(len(THINK))
            elif THINK.startswith(self._held):
                return len(self._held)
            else:
                return self._begin()

    def finish(self, *, cut: bool) -> None:
        """As `EndWatch` has it; nothing ends within a block."""
        if self._inside:
            return
        if not self._has_begun:
            self._begin()
        if self.end is None:
            self._watch.finish(cut=cut)
            self._take_end()

    def _begin(self) -> int:
        """What is held is the answer's beginning."""
        self._has_begun = True
        return self._show(self._held)

    def _show(self, text: str) -> int:
        num_undecided = self._watch.push(text)
        self._take_end()
        return num_undecided

    def _take_end(self) -> None:
        if self._watch.end is not None:
            self.end = self._num_skipped + self._watch.end

    def _skip(self, num_signs: int) -> None:
        self._held = self._held[num_signs:]
        self._num_skipped += num_signs
