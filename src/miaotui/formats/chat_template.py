"""Chat templates: messages to the text (or the token ids) that the model was trained to continue."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from miaotui.errors import ChatTemplateError

if TYPE_CHECKING:
    from miaotui.formats.chat_template_sandbox import CompiledTemplate
    from miaotui.formats.tokenizer import Tokenizer

Message = Mapping[str, object]

MAX_SOURCE_CHARS = 128 << 10  # the longest templates known have 30,000
MAX_INPUT_NODES = 200_000  # strings, numbers, lists and dictionaries in messages and tools together
MAX_INPUT_DEPTH = 64
MAX_OUTPUT_CHARS = 1 << 20
_REASONING_FIELDS = ("reasoning_content", "thinking", "reasoning")
_NONCHARACTERS = [chr(code) for code in range(0xFDD0, 0xFDF0)]  # Unicode reserves them for use inside programs


class ChatTemplate:
    """A model's Jinja template, compiled once per process. Safe to share between threads.

    The template comes from a stranger: it runs in Jinja's immutable sandbox, narrowed by `chat_template_sandbox`, for
    at most 100 ms of processor time and 1 MiB of output. It sees what transformers shows it: messages, tools,
    documents, add_generation_prompt, bos_token, eos_token, `raise_exception`, `strftime_now`, `tojson`.
    """

    def __init__(self, source: str | None, *, bos_token: str = "", eos_token: str = "") -> None:
        """Compiles `source`; raises ChatTemplateError when it is None (the model has none) or broken."""
        if source is None:
            raise ChatTemplateError(
                "this model has no chat template; it is probably a base model, made to continue text: use `generate` "
                "with plain text, choose an instruct build, or pass a template of your own."
            )
        self.source = source
        self._tokens = {"bos_token": bos_token, "eos_token": eos_token}
        self._compiled = _compile(source)

    @classmethod
    def from_tokenizer(cls, tokenizer: Tokenizer) -> ChatTemplate:
        """The template that came with the model; raises ChatTemplateError."""
        return cls(tokenizer.chat_template, bos_token=tokenizer.bos_token, eos_token=tokenizer.eos_token)

    def render(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[Mapping[str, object]] | None = None,
        add_generation_prompt: bool = True,
        **extra: object,
    ) -> str:
        """The conversation as text; encode it with `parse_special=True, add_special=False`.

        Messages, tools (JSON schemas) and `extra` variables are plain JSON values. Raises ChatTemplateError when they
        are not, when the template refuses the messages, or when it takes too long or writes too much.
        """
        return self._compiled.render(self._variables(messages, tools, add_generation_prompt, extra))

    def dates(self) -> tuple[str, ...]:
        """What it would write of date and time at the moment; nothing where it does not look at the clock.

        The same dates and the same variables give the same text. A template that makes up formats as it goes gives the
        moment itself.
        """
        from miaotui.formats.chat_template_functions import dates_now

        return dates_now(self._compiled.date_formats)

    def encode(
        self,
        tokenizer: Tokenizer,
        messages: Sequence[Message],
        *,
        tools: Sequence[Mapping[str, object]] | None = None,
        add_generation_prompt: bool = True,
        check: Callable[[str], None] | None = None,
        **extra: object,
    ) -> list[int]:
        """Token ids of the conversation, in which only the template's own control tokens are control tokens.

        "<|im_start|>" inside a message stays text, so that a message cannot pretend to be another one. check: raises
        for a text that is not worth encoding. Raises as `render` and `check` do, and TokenizerError.
        """
        variables = self._variables(messages, tools, add_generation_prompt, extra)
        mark = _unused_character(variables)
        marked = {
            name: value
            if name in self._tokens
            else _map_strings(value, lambda text: tokenizer.mark_control(text, mark))
            for name, value in variables.items()
        }
        text = self._compiled.render(marked)
        if check is not None:
            check(text)
        escaped = f"\\u{ord(mark):04x}"  # what `tojson(ensure_ascii=true)` makes of it
        return tokenizer.encode_marked(text.replace(escaped, mark), mark)

    def _variables(
        self, messages: Sequence[Message], tools: object, add_generation_prompt: bool, extra: Mapping[str, object]
    ) -> dict[str, Any]:
        if isinstance(messages, str | bytes | Mapping) or not all(isinstance(message, Mapping) for message in messages):
            raise ChatTemplateError('messages must be a list of objects such as {"role": "user", "content": "Hi"}.')
        copier = _PlainCopier()
        given = {"documents": None, **extra, "messages": list(messages), "tools": tools}
        variables = {name: copier.copy(value, name) for name, value in given.items()}
        variables["messages"] = [_with_reasoning(message) for message in variables["messages"]]
        return {**self._tokens, **variables, "add_generation_prompt": bool(add_generation_prompt)}


@lru_cache(maxsize=16)
def _compile(source: str) -> CompiledTemplate:
    if len(source) > MAX_SOURCE_CHARS:
        raise ChatTemplateError(
            f"the chat template is {len(source)} characters long; at most {MAX_SOURCE_CHARS} are allowed. "
            "Pass a template of your own."
        )
    from miaotui.formats.chat_template_sandbox import CompiledTemplate

    return CompiledTemplate(source)


class _PlainCopier:
    """Rebuilds caller's data from plain JSON types, so that templates meet no object with methods of its own."""

    def __init__(self) -> None:
        self._nodes_left = MAX_INPUT_NODES

    def copy(self, value: object, name: str, depth: int = 0) -> Any:
        """A deep copy; raises ChatTemplateError that names the variable `name`."""
        self._nodes_left -= 1
        if self._nodes_left < 0 or depth > MAX_INPUT_DEPTH:
            raise ChatTemplateError(
                f"{name}: more than {MAX_INPUT_NODES} values, or nested deeper than {MAX_INPUT_DEPTH}; send less."
            )
        if value is None or type(value) in (str, int, float, bool):
            return value
        for kind in (str, int, float):
            if isinstance(value, kind):  # an enumeration, a NumPy scalar
                return kind(kind.__str__(value) if kind is str else value)
        if isinstance(value, Mapping):
            return {self._key(key, name): self.copy(item, name, depth + 1) for key, item in value.items()}
        if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray | memoryview):
            return [self.copy(item, name, depth + 1) for item in value]
        raise ChatTemplateError(
            f"{name}: a value of type {type(value).__name__!r} is not JSON; give strings, numbers, lists and objects."
        )

    @staticmethod
    def _key(key: object, name: str) -> str:
        if not isinstance(key, str):
            raise ChatTemplateError(f"{name}: the key {key!r:.40} is not a string; JSON objects have string keys.")
        return str.__str__(key)


def _with_reasoning(message: dict[str, Any]) -> dict[str, Any]:
    """Gives a message's reasoning under the names that templates read (as transformers does)."""
    reasoning = next((message[name] for name in _REASONING_FIELDS if message.get(name) is not None), None)
    return message if reasoning is None else {"thinking": reasoning, **message, "reasoning_content": reasoning}


def _map_strings(value: Any, change: Any) -> Any:
    """`value` with `change` applied to every string in it except keys."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        return {key: _map_strings(item, change) for key, item in value.items()}
    return [_map_strings(item, change) for item in value] if isinstance(value, list) else value


def _unused_character(variables: object) -> str:
    """A character that occurs in none of the strings; raises ChatTemplateError if somebody used all 32."""
    used: set[str] = set()
    _map_strings(variables, lambda text: used.update(text) if not text.isascii() else None)
    for char in _NONCHARACTERS:
        if char not in used:
            return char
    raise ChatTemplateError(
        "the messages use all of the characters U+FDD0 to U+FDEF, which mean nothing; leave one out."
    )
