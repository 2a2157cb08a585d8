"""What Anthropic's clients send, turned into the messages and tools that chat templates know."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from miaotui.engine.tools import Tool, read_tools
from miaotui.errors import InvalidRequestError, brief
from miaotui.server.turns import Asked, Choice
from miaotui.server.wire import Deadline, sampling_params

_CHOICES: dict[str, Choice] = {"auto": "auto", "any": "required", "none": "none"}


class CountRequest(msgspec.Struct, kw_only=True):
    """POST /v1/messages/count_tokens."""

    messages: list[dict[str, Any]]
    model: str | None = None
    system: str | list[dict[str, Any]] | None = None
    tools: list[dict[str, Any]] | None = None

    def conversation(self) -> list[dict[str, Any]]:
        """The messages as chat templates want them. Raises InvalidRequestError for content that is no text."""
        start = [] if self.system is None else [{"role": "system", "content": _text_of(self.system)}]
        return start + [message for given in self.messages for message in _converted(given)]

    def offered(self) -> list[Tool]:
        """The tools. Raises InvalidRequestError for one that the server would have to run itself."""
        return read_tools([_openai_tool(tool) for tool in self.tools or ()])


class MessagesRequest(CountRequest, kw_only=True):
    """POST /v1/messages. miaotui: whether the reply is to hold the receipt."""

    max_tokens: int
    stop_sequences: list[str] | None = None
    stream: bool | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    tool_choice: dict[str, Any] | None = None
    drafting: bool | None = None
    miaotui: bool | None = None
    cache: dict[str, Any] | None = None
    deadline_ms: Deadline | None = None

    def asked(self) -> Asked:
        """As a turn. Raises InvalidRequestError for values out of range."""
        given = {"temperature": self.temperature, "top_p": self.top_p, "top_k": self.top_k, "stop": self.stop_sequences}
        params = sampling_params(given | {"max_tokens": self.max_tokens, "drafting": self.drafting})
        choice = self.tool_choice or {"type": "auto"}
        is_named, name = choice.get("type") == "tool", choice.get("name")
        mode: Choice | None = "named" if is_named else _CHOICES.get(str(choice.get("type")))
        if mode is None or (is_named and not isinstance(name, str)):
            raise InvalidRequestError('tool_choice must have the type "auto", "any", "none", or "tool" with a name.')
        several = choice.get("disable_parallel_tool_use") is not True
        named = name if is_named and isinstance(name, str) else ""
        return Asked(
            self.conversation(),
            params,
            self.offered(),
            mode,
            named,
            several,
            cache=self.cache,
            deadline_ms=self.deadline_ms,
        )


def _openai_tool(tool: dict[str, Any]) -> dict[str, Any]:
    if tool.get("type") not in (None, "custom"):
        raise InvalidRequestError(f"tools must be functions of the client; this server cannot run {brief(tool)}.")
    function = {
        "name": tool.get("name"),
        "description": tool.get("description"),
        "parameters": tool.get("input_schema"),
    }
    return {"type": "function", "function": function}


def _converted(message: dict[str, Any]) -> list[dict[str, Any]]:
    """A message with its blocks as text, calls, and messages of tools, whose results stand before the text."""
    content = message.get("content")
    if not isinstance(content, list):
        return [{**message, "content": _text_of(content)}]
    blocks = [block for block in content if isinstance(block, dict)]
    results = [_result(block) for block in blocks if block.get("type") == "tool_result"]
    calls = [_call(block) for block in blocks if block.get("type") == "tool_use"]
    thought = [block["thinking"] for block in blocks if isinstance(block.get("thinking"), str)]
    special = ("tool_result", "tool_use", "thinking", "redacted_thinking")
    texts = [block for block in content if not isinstance(block, dict) or block.get("type") not in special]
    if not texts and not calls and results:
        return results
    more: dict[str, Any] = {"tool_calls": calls} if calls else {}
    if thought:
        more["reasoning_content"] = "\n".join(thought)
    return [*results, {"role": message.get("role"), "content": _text_of(texts), **more}]


def _result(block: dict[str, Any]) -> dict[str, Any]:
    content = block.get("content")
    text = "" if content is None else _text_of(content)
    return {"role": "tool", "tool_call_id": block.get("tool_use_id"), "content": text}


def _call(block: dict[str, Any]) -> dict[str, Any]:
    function = {"name": block.get("name"), "arguments": json.dumps(block.get("input", {}), ensure_ascii=False)}
    return {"id": block.get("id"), "type": "function", "function": function}


def _text_of(content: Any) -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise InvalidRequestError("content must be a text or a list of blocks.")
    parts = []
    for block in content:
        if not isinstance(block, dict) or block.get("type") != "text" or not isinstance(block.get("text"), str):
            raise InvalidRequestError("content must hold blocks of type text; this model reads nothing else.")
        parts.append(block["text"])
    return "\n".join(parts)
