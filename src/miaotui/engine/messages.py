"""Messages of a conversation, as callers give them, to what chat templates read."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from miaotui.engine.tools import Tool, ToolFormat, instructions
from miaotui.errors import ContextLengthError, InvalidRequestError, brief
from miaotui.formats.chat_template import MAX_OUTPUT_CHARS

Message = Mapping[str, Any]


def plain_messages(messages: object) -> list[Message]:
    """The messages with their text as one string each; one user message may be given as text.

    Content in the OpenAI API's parts ({"type": "text", "text": …}) becomes the parts' text, a line each. Raises
    InvalidRequestError for what is no conversation, and for parts of other types.
    """
    if isinstance(messages, str):
        return [{"role": "user", "content": messages}]
    if not isinstance(messages, Sequence) or isinstance(messages, bytes | bytearray):
        raise InvalidRequestError(f"messages must be a list of objects or one text, not {brief(messages)}; {_EXAMPLE}")
    if not messages:
        raise InvalidRequestError(f"a conversation needs at least one message; {_EXAMPLE}")
    return [_plain(message, number) for number, message in enumerate(messages)]


_EXAMPLE = 'for example [{"role": "user", "content": "Hi"}].'


def for_template(messages: Sequence[Message], template: str | None) -> list[Message]:
    """Plain messages as a template knows them: the OpenAI API's role "developer" is older models' "system"."""
    if template is None or "developer" in template:
        return list(messages)
    return [{**message, "role": "system"} if message["role"] == "developer" else message for message in messages]


def check_conversation(messages: Sequence[Message]) -> None:
    """Raise ContextLengthError for plain messages that are longer together than chat templates may write."""
    num_chars = sum(len(message["content"]) for message in messages)
    if num_chars > MAX_OUTPUT_CHARS:
        raise ContextLengthError(
            f"the messages have {num_chars} characters together; at most {MAX_OUTPUT_CHARS} are read: shorten them."
        )


def _plain(message: object, number: int) -> Message:
    if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
        raise InvalidRequestError(f"message {number} must be an object with a role, not {brief(message)}; {_EXAMPLE}")
    message = {**message, "tool_calls": [_plain_call(c) for c in calls]} if (calls := _calls(message)) else message
    content = message.get("content")
    if content is None:
        return {**message, "content": ""}  # of a message that only calls tools; templates join texts
    if isinstance(content, str):
        return message
    if not isinstance(content, Sequence) or isinstance(content, bytes | bytearray):
        raise InvalidRequestError(f"message {number}: content must be text or a list of parts, not {brief(content)}.")
    return {**message, "content": "\n".join(_text_of(part, number) for part in content)}


def _calls(message: Message) -> Sequence[Any]:
    calls = message.get("tool_calls")
    return calls if isinstance(calls, Sequence) and not isinstance(calls, str) else ()


def _plain_call(call: Any) -> Any:
    """A call with its arguments as an object, which templates write down; the OpenAI API has them as text."""
    function = call.get("function") if isinstance(call, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(function.get("arguments"), str):
        return call
    try:
        arguments = json.loads(function["arguments"] or "{}")
    except (ValueError, RecursionError):
        return call
    return {**call, "function": {**function, "arguments": arguments}}


def tell_of_tools(messages: Sequence[Message], tools: Sequence[Tool], style: ToolFormat) -> list[Message]:
    """The conversation for a template that knows no tools: they are described, calls and results become text."""
    told = [_told(message, style) for message in messages]
    if not tools:
        return told
    text = instructions(tools, style)
    if told[0]["role"] == "system":
        return [{**told[0], "content": f"{told[0]['content']}\n\n{text}"}, *told[1:]]
    return [{"role": "system", "content": text}, *told]


def _told(message: Message, style: ToolFormat) -> Message:
    if message["role"] == "tool":
        return {"role": "user", "content": f"The function returned:\n{message['content']}"}
    functions = [call.get("function") for call in _calls(message) if isinstance(call, Mapping)]
    calls = [function for function in functions if isinstance(function, Mapping)]
    if not calls:
        return message
    texts = [
        json.dumps({"name": c.get("name"), style.arguments: c.get("arguments")}, ensure_ascii=False) for c in calls
    ]
    return {"role": message["role"], "content": "\n".join(filter(None, [message["content"], *texts]))}


def _text_of(part: object, number: int) -> str:
    if isinstance(part, Mapping) and part.get("type") == "text" and isinstance(part.get("text"), str):
        return str(part["text"])
    raise InvalidRequestError(
        f"message {number}: models here read text only: parts are {{'type': 'text', 'text': …}}, not {brief(part)}."
    )
