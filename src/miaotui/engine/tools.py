"""Tools a model may call: how each family of models writes a call, and grammars that keep it to the tools there are."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from collections.abc import Sequence as Row
from dataclasses import dataclass
from typing import Any

from miaotui.core import SamplingParams, StructuredOutputs
from miaotui.engine.grammar import JSON_STYLE, literal
from miaotui.errors import InvalidRequestError, brief

MAX_TOOLS = 128
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that may be called: its name, what it does, and the JSON schema of its arguments."""

    name: str
    description: str
    parameters: Mapping[str, Any]
    strict: bool = False

    def as_openai(self) -> dict[str, Any]:
        """As chat templates read it."""
        function = {"name": self.name, "description": self.description, "parameters": dict(self.parameters)}
        return {"type": "function", "function": function}


@dataclass(frozen=True, slots=True)
class ToolFormat:
    """How calls look in a model's text: between `begin` and `end`, or, without these, as all of it.

    arguments: what the key of the arguments is called; the other names are understood, too.
    in_template: whether the chat template describes tools to the model.
    """

    begin: str
    end: str
    arguments: str
    in_template: bool


HERMES = ToolFormat("<tool_call>", "</tool_call>", "arguments", in_template=True)
LLAMA3 = ToolFormat("", "", "parameters", in_template=True)
GENERIC = ToolFormat("", "", "arguments", in_template=False)


def tool_format(chat_template: str | None) -> ToolFormat:
    """The format that a model was trained for, as its chat template shows; a plain one for those without."""
    template = chat_template or ""
    if "tools" not in template:
        return GENERIC
    if "<tool_call>" in template:
        return HERMES
    return LLAMA3 if '"parameters"' in template or "<|python_tag|>" in template else GENERIC


def read_tools(given: Row[Mapping[str, Any]]) -> list[Tool]:
    """Tools in the OpenAI API's form. Raises InvalidRequestError for what is none."""
    if len(given) > MAX_TOOLS:
        raise InvalidRequestError(f"tools must hold at most {MAX_TOOLS} tools, not {len(given)}.")
    tools = [_read_tool(number, tool) for number, tool in enumerate(given)]
    if len({tool.name for tool in tools}) < len(tools):
        raise InvalidRequestError("tools must have different names.")
    return tools


def check_ends(params: SamplingParams, tools: Row[object] | None) -> None:
    """Raise InvalidRequestError for `stop_when` where tools are offered: calls are JSON and would be cut behind it."""
    if tools and params.stop_when is not None:
        raise InvalidRequestError(
            "stop_when must be left out where tools are offered: it would end the answer within a call. To use it, "
            'leave the tools out, or set tool_choice to "none".'
        )


def _read_tool(number: int, tool: Mapping[str, Any]) -> Tool:
    function = tool.get("function")
    if tool.get("type", "function") != "function" or not isinstance(function, Mapping):
        raise InvalidRequestError(f"tools must be functions; number {number} is {brief(tool)}.")
    name, description = function.get("name"), function.get("description") or ""
    parameters = function.get("parameters") or {"type": "object", "properties": {}}
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise InvalidRequestError(
            f"tools must have names of 1 to 64 letters, digits and _ . -; number {number} is called {brief(name)}."
        )
    if not isinstance(description, str) or not isinstance(parameters, Mapping):
        raise InvalidRequestError(f"tools must have a description in text and an object of parameters; {name} has not.")
    if parameters.get("type", "object") != "object":
        raise InvalidRequestError(f"tools must have parameters of type object; those of {name} are not.")
    return Tool(name, description, parameters, strict=bool(function.get("strict")))


def instructions(tools: Row[Tool], style: ToolFormat) -> str:
    """What a model is told whose chat template does not mention tools."""
    listed = "\n".join(json.dumps(tool.as_openai()["function"], ensure_ascii=False) for tool in tools)
    return (
        f"You can call these functions:\n{listed}\n"
        "To call one, answer with nothing but a JSON object: "
        f'{{"name": <function name>, "{style.arguments}": <object of arguments>}}'
    )


def call_grammar(tools: Row[Tool], style: ToolFormat, *, must_call: bool, several: bool) -> StructuredOutputs | None:
    """What makes every call one of a tool that exists, with arguments of its schema.

    must_call: the output is nothing but calls. None where there is nothing to enforce: the plain format is recognized
    only once it is complete.
    """
    if not style.begin and not must_call:
        return None
    calls = [_call(number, tool, style) for number, tool in enumerate(tools)]
    rules = "\n".join(rule for _, rule in calls)
    any_call = " | ".join(name for name, _ in calls)
    if must_call:
        again = f'("\\n" {literal(style.begin)} one)*' if several and style.begin else ""
        start = f"start: {literal(style.begin)} one {again}" if style.begin else "start: one"
        return StructuredOutputs(grammar=f"%llguidance {{}}\n{start}\none: {any_call}\n{rules}\n")
    many = "*" if several else "?"
    return StructuredOutputs(
        grammar=f"%llguidance {{}}\nstart: called{many} REST\ncalled: before one\none: {any_call}\n"
        f"before[lazy]: TEXT {literal(style.begin)}\nREST: TEXT & ~(TEXT {literal(style.begin)} TEXT)\n"
        f"TEXT: /(.|\\n)*/\n{rules}\n"
    )


def _call(number: int, tool: Tool, style: ToolFormat) -> tuple[str, str]:
    """Name and text of the rule for a call, behind `begin`."""
    options = {"x-guidance": {**JSON_STYLE, "lenient": not tool.strict}}
    schema = json.dumps({**tool.parameters, "type": "object", **options}, ensure_ascii=False)
    break_ = "\n" if style.begin else ""
    head = literal(f'{break_}{{"name": {json.dumps(tool.name)}, "{style.arguments}": ')
    return f"call_{number}", f"call_{number}: {head} %json {schema} {literal('}' + break_ + style.end)}"
