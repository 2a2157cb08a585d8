"""What was asked and answered lately: what people say of an answer is kept together with it."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Mapping
from functools import partial
from typing import Any

from miaotui.answers.decision import MAX_QUESTION, shortened
from miaotui.answers.question import Conversation, Question
from miaotui.engine.results import Completion
from miaotui.server.asking import Ask
from miaotui.server.noted import Noted
from miaotui.server.reading import Reading
from miaotui.server.replies import receipt_body

MAX_BYTES = 16 << 20
"""Of all requests together; the oldest are forgotten first."""
CONVERSATION_BYTES = 28 << 10
ANSWER_BYTES = 20 << 10
"""Of one request, as JSON: with its question and receipt no more than 64 KiB."""
_ENTRY_BYTES = 400  # keys and the dictionary's share of one request


class Answered:
    """Requests by tenant and id. model: names weights, template and arithmetic of what answers here."""

    def __init__(self, model: str, max_bytes: int = MAX_BYTES) -> None:
        self._model = model
        self._max_bytes = max_bytes
        self._requests: OrderedDict[tuple[str, str], bytes] = OrderedDict()
        self._num_bytes = 0

    def watch(self, ask: Ask, answer: Reading) -> Reading:
        """The same answer, which is remembered when it has ended; not where nothing is to be stored."""
        return answer if ask.control.mode == "no-store" else Noted(answer, partial(self._ended, ask))

    def add(self, ask: Ask, completion: Completion) -> None:
        """Remember a request."""
        conversation, is_cut = _latest(ask.conversation, CONVERSATION_BYTES)
        text = _beginning(completion.text, ANSWER_BYTES)
        asked = Question(ask.tenant, self._model, ask.conversation, ask.params)
        facts = {
            "path": completion.receipt.path,
            "entry": completion.receipt.entry,
            "question": shortened(asked.shown, MAX_QUESTION),
            "conversation": conversation,
            "answer": text,
            "cut": is_cut or text != completion.text,
            "finish_reason": completion.finish_reason,
            "model": self._model,
            "receipt": receipt_body(completion.receipt),
        }
        name, data = (ask.tenant, ask.request_id), json.dumps(facts, default=str).encode()
        self._forget(name)
        self._requests[name] = data
        self._num_bytes += len(data) + _ENTRY_BYTES
        while self._num_bytes > self._max_bytes:
            self._forget(next(iter(self._requests)))

    def about(self, tenant: str, request_id: str) -> Mapping[str, Any] | None:
        """What is known of a request."""
        data = self._requests.get((tenant, request_id))
        return None if data is None else json.loads(data)

    def _ended(self, ask: Ask, completion: Completion | None) -> None:
        if completion is not None:
            self.add(ask, completion)

    def _forget(self, name: tuple[str, str]) -> None:
        data = self._requests.pop(name, None)
        if data is not None:
            self._num_bytes -= len(data) + _ENTRY_BYTES


def _latest(conversation: Conversation, most_bytes: int) -> tuple[Any, bool]:
    """The end of a conversation that fits, and whether more was there."""
    if isinstance(conversation, str):
        end = _beginning(conversation[::-1][:most_bytes], most_bytes)[::-1]
        return end, len(end) < len(conversation)
    kept: list[Any] = []
    for part in reversed(conversation[-most_bytes:]):
        most_bytes -= 2 + (len(str(part)) if isinstance(part, int) else len(json.dumps(part, default=str)))
        if most_bytes < 0:
            break
        kept.append(part)
    return kept[::-1], len(kept) < len(conversation)


def _beginning(text: str, most_bytes: int) -> str:
    """As much of a text as fits, written as JSON."""
    text = text[:most_bytes]
    while (size := len(json.dumps(text))) > most_bytes + 2:
        text = text[: len(text) * most_bytes // size]
    return text
