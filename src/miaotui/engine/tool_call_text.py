"""One call of a tool inside a model's text: `{"name": …, "arguments": {…}}`, read while it is written."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from typing import Any

_HEAD = re.compile(
    r'\s*\{\s*(?:"(?:type)"\s*:\s*"function"\s*,\s*)?"name"\s*:\s*("(?:[^"\\]|\\.)*")\s*,\s*'
    r'"(?:arguments|parameters|input)"\s*:\s*(?=\{)'
)
_FIRST_KEY = re.compile(r'\s*\{\s*"((?:[^"\\]|\\.)*)"\s*:')
_CALL_KEYS = frozenset({"name", "arguments", "parameters", "input", "type", "function", "id"})
MAX_HELD_CHARACTERS = 64 << 10
"""Of a call that is not written in the usual way."""
MAX_HEAD_CHARACTERS = 512
"""Up to the arguments."""


class CallText:
    """The text of a call, pushed in parts of any size.

    names: the tools there are, of which it must be one to be a call; None takes any. end: what stands behind the call.
    refused: its text, where it was no call.
    """

    def __init__(self, names: Collection[str] | None, end: str) -> None:
        self._names = names
        self._end = end
        self._text = ""
        self._name: str | None = None  # not taken yet
        self._arguments: list[str] = []  # not taken yet
        self._scan: _ValueEnd | None = None  # while arguments are passed on
        self._object = _ValueEnd()  # of a call that is written in another way
        self._outer = _ValueEnd(depth=1)  # of a call, behind its arguments
        self._started = False
        self.refused = ""

    def push(self, text: str) -> str | None:
        """More text. Once the call has ended, whatever it was, what came behind it; None before."""
        self._text += text
        if not self._started and not self._start():
            return self._whole()
        if self._scan is not None:
            length = self._scan.find(self._text)
            self._pass_on(len(self._text) if length is None else length)
            if length is None:
                self._scan = _ValueEnd(self._scan)
                return None
            self._scan = None
        return self._behind()

    def finish(self) -> str:
        """No more text comes; what stands behind the call."""
        rest, self._text = self._text, ""
        if not self._started:
            if rest:
                self._decide(rest, rest)
            return ""
        return "" if self._scan is not None else rest.lstrip().removeprefix("}").lstrip()

    def take(self) -> tuple[str | None, str]:
        """Name and more of the arguments, as far as they are certain and have not been taken."""
        name, arguments = self._name, "".join(self._arguments)
        self._name, self._arguments = None, []
        return name, arguments

    def _start(self) -> bool:
        """Whether the arguments have begun, as they are usually written."""
        head = _HEAD.match(self._text[:MAX_HEAD_CHARACTERS])
        if head is None or not self._is_known(name := _loaded(head[1])):
            return False
        self._name, self._started, self._scan = str(name), True, _ValueEnd()
        self._text = self._text[head.end() :]
        return True

    def _is_known(self, name: object) -> bool:
        return isinstance(name, str) and (self._names is None or name in self._names)

    def _whole(self) -> str | None:
        """A call written in another way, or other text: decided when the object is complete."""
        key = _FIRST_KEY.match(self._text[:MAX_HEAD_CHARACTERS])
        if self._names is not None and key is not None and key[1] not in _CALL_KEYS:
            self.refused, self._text = self._text, ""
            return ""
        at = self._text.find(self._end) if self._end else self._object.find(self._text)
        if at is None or at < 0:
            if len(self._text) <= MAX_HELD_CHARACTERS:
                return None
            at = len(self._text)
        behind = at + len(self._end)
        text, rest = self._text[:behind], self._text[behind:]
        self._text = ""
        self._decide(text[:at], text)
        return rest

    def _decide(self, text: str, shown: str) -> None:
        value = _loaded(text)
        if isinstance(value, Mapping) and isinstance(value.get("function"), Mapping):
            value = value["function"]
        name = value.get("name") if isinstance(value, Mapping) else None
        if not isinstance(value, Mapping) or not self._is_known(name):
            self.refused = shown
            return
        arguments: Any = next((value[key] for key in ("arguments", "parameters", "input") if key in value), {})
        self._name, self._started = str(name), True
        is_text = isinstance(arguments, str) and isinstance(_loaded(arguments), Mapping)
        self._arguments.append(arguments if is_text else json.dumps(arguments, ensure_ascii=False))

    def _pass_on(self, length: int) -> None:
        self._arguments.append(self._text[:length])
        self._text = self._text[length:]

    def _behind(self) -> str | None:
        """What comes behind the closing bracket, or the end mark where there is one, once that is there."""
        if self._end:
            found = self._text.find(self._end)
            at = None if found < 0 else found + len(self._end)
        elif not self._text.lstrip():
            return None
        elif self._text.lstrip()[0] not in ",}":
            at = 0  # the call itself was never closed
        else:
            at = self._outer.find(self._text)
            if at is None and len(self._text) > MAX_HELD_CHARACTERS:
                at = 0
        if at is None:
            return None
        rest, self._text = self._text[at:], ""
        return rest


class _ValueEnd:
    """Finds where a JSON object ends, in a text that grows or, with what came `before`, in one that goes on with it.

    depth: brackets that are open already.
    """

    def __init__(self, before: _ValueEnd | None = None, depth: int = 0) -> None:
        self._depth: int = before._depth if before else depth
        self._in_string: bool = before._in_string if before else False
        self._escaped: bool = before._escaped if before else False
        self._num_seen = 0

    def find(self, text: str) -> int | None:
        """Characters of the text up to the object's end; None where it goes on."""
        start, self._num_seen = self._num_seen, len(text)
        for at, sign in enumerate(text[start:], start):
            if self._escaped:
                self._escaped = False
            elif self._in_string:
                self._escaped, self._in_string = sign == "\\", sign != '"'
            elif sign == '"':
                self._in_string = True
            elif sign in "{[":
                self._depth += 1
            elif sign in "}]":
                self._depth -= 1
                if self._depth <= 0:
                    return at + 1
        return None


def _loaded(text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
