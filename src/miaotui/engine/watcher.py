"""Who wants to know what an `AsyncLLM` does."""

from __future__ import annotations

from miaotui.engine.results import Completion
from miaotui.engine.step_work import StepWork


class Watcher:
    """Told on the event loop what goes on; does nothing with it by itself. Its methods must be quick and not raise."""

    def stepped(self, seconds: float, num_sequences: int) -> None:
        """A step of so many sequences took so long."""

    def worked(self, work: StepWork, seconds: float) -> None:
        """The same step, by what it did."""

    def gap(self, seconds: float) -> None:
        """So long after its last token an answer had another one."""

    def asked(self) -> None:
        """A request is about to be encoded and started; called within its `stream`."""

    def ended(self, completion: Completion | None, error: Exception | None) -> None:
        """A request has ended, however that came; called once for each `asked`, in the context of that call.

        completion: what was said, also to those who left; None for what never started, or where the engine failed.
        error: what its reader was told instead of the rest.
        """
