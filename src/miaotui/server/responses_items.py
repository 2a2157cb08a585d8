"""The items of a response in OpenAI's Responses API, and the events that tell of them while they grow."""

from __future__ import annotations

from typing import Any

from miaotui.engine.chat_output import CallArguments, CallStart, Piece, Reasoning
from miaotui.server.turns import Turn

Event = dict[str, Any]
_PARTS = {"message": "output_text", "reasoning": "reasoning_text"}


class Items:
    """Puts the pieces of one answer into items, one after the other.

    output: the items so far, as the reply holds them.
    """

    def __init__(self, turn: Turn, response_id: str) -> None:
        self._turn = turn
        self._suffix = response_id.partition("_")[2]
        self.output: list[dict[str, Any]] = []
        self._open = False

    def add(self, piece: Piece) -> list[Event]:
        """The next piece; the events that tell of it."""
        if isinstance(piece, CallStart):
            identity = self._turn.call_id(0, piece.index)
            call = {"type": "function_call", "call_id": identity, "name": piece.name, "arguments": ""}
            return self._begin(call, "fc")
        if isinstance(piece, CallArguments):
            self.output[-1]["arguments"] += piece.text
            return [self._event("response.function_call_arguments.delta", delta=piece.text)]
        kind = "reasoning" if isinstance(piece, Reasoning) else "message"
        events = [] if self._open and self.output[-1]["type"] == kind else self._begin_text(kind)
        self.output[-1]["content"][0]["text"] += piece.text
        return [*events, self._text_event(kind, "delta", delta=piece.text)]

    @property
    def num_reasoning_tokens(self) -> int:
        """Tokens that the reasoning so far would be written with."""
        texts = [item["content"][0]["text"] for item in self.output if item["type"] == "reasoning"]
        return sum(map(self._turn.num_tokens, texts))

    def end(self, *, complete: bool) -> list[Event]:
        """No more pieces come; an answer has at least one item."""
        events = [] if self.output else self._begin_text("message")
        return [*events, *self._close("completed" if complete else "incomplete")]

    def _begin_text(self, kind: str) -> list[Event]:
        part: dict[str, Any] = {"type": _PARTS[kind], "text": ""}
        item: dict[str, Any] = {"type": kind, "content": [part]}
        if kind == "message":
            part |= {"annotations": [], "logprobs": []}
            item["role"] = "assistant"
        else:
            item["summary"] = []
        events = self._begin(item | {"content": []}, "msg" if kind == "message" else "rs")
        self.output[-1]["content"] = [part]
        return [*events, self._event("response.content_part.added", content_index=0, part=dict(part))]

    def _begin(self, item: dict[str, Any], prefix: str) -> list[Event]:
        events = self._close("completed")
        self._open = True
        self.output.append({"id": f"{prefix}_{self._suffix}_{len(self.output)}", "status": "in_progress"} | item)
        number = len(self.output) - 1
        added = {"type": "response.output_item.added", "output_index": number, "item": dict(self.output[-1])}
        return [*events, added]

    def _close(self, status: str) -> list[Event]:
        """The events that end the last item, if it is open."""
        if not self._open:
            return []
        self._open, item = False, self.output[-1]
        item["status"] = status
        if item["type"] == "function_call":
            name, arguments = item["name"], item["arguments"]
            events = [self._event("response.function_call_arguments.done", name=name, arguments=arguments)]
        else:
            part = dict(item["content"][0])
            events = [
                self._text_event(item["type"], "done", text=part["text"]),
                self._event("response.content_part.done", content_index=0, part=part),
            ]
        done = {"type": "response.output_item.done", "output_index": len(self.output) - 1, "item": dict(item)}
        return [*events, done]

    def _text_event(self, kind: str, what: str, **more: Any) -> Event:
        logprobs: dict[str, Any] = {"logprobs": []} if kind == "message" else {}
        return self._event(f"response.{_PARTS[kind]}.{what}", content_index=0, **more, **logprobs)

    def _event(self, kind: str, **more: Any) -> Event:
        return {"type": kind, "item_id": self.output[-1]["id"], "output_index": len(self.output) - 1, **more}
