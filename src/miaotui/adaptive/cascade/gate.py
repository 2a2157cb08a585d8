"""What decides whether a small model's answer suffices, and for which models and prompts it may decide that."""

from __future__ import annotations

import math
from collections.abc import Mapping
from collections.abc import Sequence as Row
from dataclasses import dataclass, field

from miaotui.adaptive.cascade.asking import Asking
from miaotui.adaptive.cascade.signals import LEAST, SIGNALS
from miaotui.engine.llm import LLM
from miaotui.errors import GateError, brief

HEX_DIGITS = 64


@dataclass(frozen=True, slots=True)
class Gate:
    """A small model's answers pass whose signal is at least the threshold; None: no answer passes.

    models: digests (`LLM.fingerprint`) of the small model and of those that answer where it does not suffice, in order.
    asking: what prompts were made with; others were not calibrated. floor, confidence: what calibration vouches for.
    facts: what it saw, for readers. Raises GateError for values out of range.
    """

    signal: str
    threshold: float | None
    models: tuple[str, ...]
    asking: Asking
    floor: float
    confidence: float
    facts: Mapping[str, float | str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.signal not in SIGNALS:
            raise GateError(
                f"a gate's signal is one of {', '.join(SIGNALS)}, not {brief(self.signal)}; calibrate anew."
            )
        if self.asking.choices and not SIGNALS[self.signal].for_choices:
            raise GateError(f"{self.signal} tells nothing of answers out of given choices; calibrate with margin.")
        threshold = self.threshold
        if threshold is not None and not (math.isfinite(threshold) and LEAST <= threshold <= -LEAST):
            raise GateError(f"a gate's threshold is a number or none, not {brief(threshold)}; calibrate anew.")
        if not 0.0 < self.floor <= 1.0 or not 0.5 <= self.confidence < 1.0:
            raise GateError("a gate's floor is above 0 and at most 1, its confidence from 0.5 on; calibrate anew.")
        if len(self.models) < 2 or not all(_is_digest(one) for one in self.models):
            raise GateError("a gate names two models at least by their digests; calibrate anew.")

    def lets_pass(self, value: float) -> bool:
        """Whether an answer with that signal suffices."""
        return self.threshold is not None and value >= self.threshold

    def check_use(self) -> None:
        """Raises GateError for a gate that nothing passes: asking the small model would be in vain."""
        if self.threshold is None:
            raise GateError(
                "the gate lets no answer of the small model pass; calibrate it with more rows, or with a lower floor."
            )

    def check(self, models: Row[LLM]) -> None:
        """Raises GateError unless it was calibrated for these models, in this order, as they are run now."""
        found = digests(models)
        if len(found) != len(self.models):
            raise GateError(
                f"the gate was calibrated for {len(self.models)} models, not {len(found)}; calibrate it for these."
            )
        for llm, ours, wanted in zip(models, found, self.models, strict=True):
            if ours != wanted:
                raise GateError(
                    f"the gate was calibrated for another model than {llm.spec.name} ({ours[:12]}, not {wanted[:12]}), "
                    "or for other settings of it (activations, kv-dtype, chat template): give the models and settings "
                    "that it was calibrated with, in order, or calibrate anew."
                )


def _is_digest(text: object) -> bool:
    return isinstance(text, str) and len(text) == HEX_DIGITS and set(text) <= set("0123456789abcdef")


def digests(models: Row[LLM]) -> tuple[str, ...]:
    """What a gate names models by. The first time, their files are read."""
    return tuple(llm.fingerprint() for llm in models)
