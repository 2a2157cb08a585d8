"""What clients of OpenAI's Responses API send, turned into the messages and tools that chat templates know."""

from __future__ import annotations

from typing import Any

import msgspec

from miaotui.core import StructuredOutputs
from miaotui.engine.tools import Tool, read_tools
from miaotui.errors import InvalidRequestError, brief
from miaotui.server.turns import Asked
from miaotui.server.wire import Deadline, Priority, read_choice, read_response_format, sampling_params

_TEXT_PARTS = ("input_text", "output_text", "text")


class ResponsesRequest(msgspec.Struct, kw_only=True):
    """POST /v1/responses. Nothing is stored, whatever `store` says, so a request must hold the whole conversation.

    miaotui: whether the reply is to hold the receipt.
    """

    input: str | list[dict[str, Any]]
    model: str | None = None
    instructions: str | None = None
    stream: bool | None = None
    max_output_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    text: dict[str, Any] | None = None
    previous_response_id: str | None = None
    conversation: Any = None
    background: bool | None = None
    metadata: dict[str, Any] | None = None
    priority: Priority | None = None
    seed: int | None = None
    drafting: bool | None = None
    miaotui: bool | None = None
    cache: dict[str, Any] | None = None
    deadline_ms: Deadline | None = None

    def asked(self) -> Asked:
        """As a turn. Raises InvalidRequestError for what is out of range or would need stored responses."""
        for name in ("previous_response_id", "conversation"):
            if getattr(self, name) is not None:
                raise InvalidRequestError(f"{name} must be null: responses are not stored; send the conversation.")
        if self.background:
            raise InvalidRequestError("background must be false: responses are not stored.")
        given = {
            "max_tokens": self.max_output_tokens,
            "temperature": self.temperature,
            "top_p": self.top_p,
            "seed": self.seed,
            "structured_outputs": _format_of(self.text),
            "drafting": self.drafting,
        }
        return Asked(
            self.conversation_messages(),
            sampling_params(given),
            tools=self.offered(),
            **read_choice(self.tool_choice),
            several=self.parallel_tool_calls is not False,
            priority=self.priority or 0,
            cache=self.cache,
            deadline_ms=self.deadline_ms,
        )

    def offered(self) -> list[Tool]:
        """The tools. Raises InvalidRequestError for one that the server would have to run itself."""
        for tool in self.tools or ():
            if tool.get("type") != "function":
                raise InvalidRequestError(
                    f"tools must be functions of the client; this server cannot run {brief(tool)}."
                )
        return read_tools([{"type": "function", "function": tool} for tool in self.tools or ()])

    def conversation_messages(self) -> list[dict[str, Any]]:
        """The messages as chat templates want them. Raises InvalidRequestError for other items."""
        start = [{"role": "system", "content": self.instructions}] if self.instructions else []
        if isinstance(self.input, str):
            return [*start, {"role": "user", "content": self.input}]
        messages: list[dict[str, Any]] = start
        for item in self.input:
            _add(messages, item)
        return messages


def _format_of(text: dict[str, Any] | None) -> StructuredOutputs | None:
    form = (text or {}).get("format")
    if form is None:
        return None
    if not isinstance(form, dict):
        raise InvalidRequestError(f"text must hold an object as format, not {brief(form)}.")
    return read_response_format({"type": form.get("type"), "json_schema": form})


def _add(messages: list[dict[str, Any]], item: dict[str, Any]) -> None:
    """One item of the input behind the messages so far; calls belong to the assistant's message before them."""
    kind = item.get("type", "message")
    if kind == "reasoning":
        return
    if kind == "function_call":
        function = {"name": item.get("name"), "arguments": item.get("arguments")}
        if not messages or messages[-1].get("role") != "assistant":
            messages.append({"role": "assistant", "content": "", "tool_calls": []})
        call = {"id": item.get("call_id"), "type": "function", "function": function}
        messages[-1].setdefault("tool_calls", []).append(call)
    elif kind == "function_call_output":
        content = _text_of(item.get("output"))
        messages.append({"role": "tool", "tool_call_id": item.get("call_id"), "content": content})
    elif kind == "message":
        messages.append({"role": item.get("role"), "content": _text_of(item.get("content"))})
    else:
        raise InvalidRequestError(f"input holds {brief(item)}; items are messages, function calls and their outputs.")


def _text_of(content: Any) -> str:
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else [content]
    for part in parts:
        if not isinstance(part, dict) or part.get("type") not in _TEXT_PARTS or not isinstance(part.get("text"), str):
            raise InvalidRequestError(f"input must be text; this model cannot read {brief(part)}.")
    return "\n".join(part["text"] for part in parts)
