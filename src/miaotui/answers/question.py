"""What was asked, in everything that an answer depends on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any, cast

from miaotui.core import SamplingParams

SCHEMA = 1
"""Raised whenever the same key would no longer mean the same answer."""

Conversation = str | Sequence[int] | Sequence[Mapping[str, Any]]

_NOT_OF_THE_TEXT = ("n", "max_tokens", "logprobs", "prompt_logprobs", "drafting")
"""Parameters that change how an answer is reported or how much of it there is, not what it says."""
_OF_CHANCE = ("top_k", "top_p", "min_p", "seed")


@dataclass(frozen=True)
class Question:
    """A conversation, or a prompt as text or tokens, and how it is to be answered.

    model: names weights, adapter, template and arithmetic. options: whatever else the prompt is made with.
    """

    tenant: str
    model: str
    conversation: Conversation
    params: SamplingParams
    tools: Sequence[Mapping[str, Any]] = ()
    options: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def key(self) -> bytes:
        """SHA-256 of all of it."""
        return self._digest(self.conversation)

    @cached_property
    def work(self) -> bytes:
        """SHA-256 of what computing it takes: kept answers are whole, but one under way ends at `max_tokens`."""
        return hashlib.sha256(self.key + repr(self.params.max_tokens).encode()).digest()

    @cached_property
    def group(self) -> bytes:
        """SHA-256 of all but the text of the last question: questions of one group differ in that alone."""
        if self.text is None:
            return self.key
        *before, last = list(self.conversation)
        return self._digest([*before, {**cast("Mapping[str, Any]", last), "content": None}])

    @cached_property
    def text(self) -> str | None:
        """The last message's text, if that is a user's; None for prompts and for content that is more than text."""
        if isinstance(self.conversation, str) or not self.conversation:
            return None
        last = self.conversation[-1]
        if not isinstance(last, Mapping) or last.get("role") != "user":
            return None
        return _text_of(last.get("content"))

    @property
    def shown(self) -> str:
        """What to call it where people read it."""
        if self.text is not None:
            return self.text
        return self.conversation if isinstance(self.conversation, str) else ""

    @property
    def is_first(self) -> bool:
        """Whether nothing was said before it, apart from a system prompt, and no form is asked for."""
        if self.text is None or self.tools or self.params.structured_outputs is not None:
            return False
        return all(isinstance(m, Mapping) and m.get("role") in ("system", "developer") for m in self.conversation[:-1])

    def _digest(self, conversation: Any) -> bytes:
        facts = [SCHEMA, self.tenant, self.model, conversation, params_of(self.params), list(self.tools), self.options]
        text = json.dumps(facts, sort_keys=True, separators=(",", ":"), default=_plain)
        return hashlib.sha256(text.encode()).digest()


def params_of(params: SamplingParams) -> dict[str, Any]:
    """The parameters that an answer's text depends on. Where nothing is left to chance, its own are not among them."""
    fields = asdict(params)
    for name in _NOT_OF_THE_TEXT + (_OF_CHANCE if params.temperature == 0 else ()):
        del fields[name]
    for name in ("repetition_detection", "stop_when"):
        if fields[name] is None:
            del fields[name]  # as if nobody knew of it: answers kept before it was there are found
    return fields


def why_not_kept(params: SamplingParams, tools: Sequence[Any]) -> str | None:
    """Why answers to such a request are not kept; None where they are: one text that would come again."""
    if params.temperature != 0 and params.seed is None:
        return "its words are drawn by chance: temperature is not 0, and no seed was given"
    if params.n > 1:
        return "several answers were asked for"
    if params.logprobs is not None or params.prompt_logprobs is not None:
        return "log-probabilities were asked for"
    if tools:
        return "tools may be called"
    return None


def _text_of(content: Any) -> str | None:
    """A message's text; OpenAI's form in parts counts if all of them are text."""
    if isinstance(content, str):
        return content
    if not isinstance(content, Sequence) or not content:
        return None
    texts = [part.get("text") if isinstance(part, Mapping) and part.get("type") == "text" else None for part in content]
    words = [text for text in texts if isinstance(text, str)]
    return "".join(words) if len(words) == len(texts) else None


def _plain(value: object) -> Any:
    """What JSON cannot write by itself."""
    if isinstance(value, Mapping):
        return {str(name): item for name, item in value.items()}
    if isinstance(value, (Sequence, frozenset, set)):
        return sorted(value) if isinstance(value, (frozenset, set)) else list(value)
    raise TypeError(f"a request cannot hold {type(value).__name__}")
