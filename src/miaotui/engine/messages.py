"""Messages of a conversation, as callers give them, to what chat templates read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from miaotui.errors import InvalidRequestError, brief

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


def _plain(message: object, number: int) -> Message:
    if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
        raise InvalidRequestError(f"message {number} must be an object with a role, not {brief(message)}; {_EXAMPLE}")
    content = message.get("content")
    if content is None or isinstance(content, str):
        return message
    if not isinstance(content, Sequence) or isinstance(content, bytes | bytearray):
        raise InvalidRequestError(f"message {number}: content must be text or a list of parts, not {brief(content)}.")
    return {**message, "content": "\n".join(_text_of(part, number) for part in content)}


def _text_of(part: object, number: int) -> str:
    if isinstance(part, Mapping) and part.get("type") == "text" and isinstance(part.get("text"), str):
        return str(part["text"])
    raise InvalidRequestError(
        f"message {number}: models here read text only: parts are {{'type': 'text', 'text': …}}, not {brief(part)}."
    )
