"""One turn of a conversation, whatever protocol it came by: how the model is asked, and how its answers are read."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request

from miaotui.core import SamplingParams, StructuredOutputs
from miaotui.engine.async_llm import Answer
from miaotui.engine.chat_output import CallArguments, CallStart, ChatOutput, Piece, Reasoning
from miaotui.engine.results import Completion, Delta
from miaotui.engine.tools import Tool, call_grammar, tool_format
from miaotui.errors import InvalidRequestError
from miaotui.server.answers import Service, check_ending


@dataclass(slots=True)
class Asked:
    """A conversation and what may be said next.

    choice: "auto", "none", "required", or the name of the one tool to call. several: whether one answer may call
    several tools.
    """

    messages: list[dict[str, Any]]
    params: SamplingParams
    tools: list[Tool] = field(default_factory=list)
    choice: str = "auto"
    several: bool = True
    template_options: Mapping[str, Any] | None = None
    priority: int = 0


@dataclass(frozen=True, slots=True)
class Call:
    """A tool that is to be called; arguments: JSON."""

    name: str
    arguments: str


@dataclass(slots=True)
class Message:
    """One whole answer."""

    text: str = ""
    reasoning: str = ""
    calls: list[Call] = field(default_factory=list)

    def add(self, piece: Piece) -> None:
        """The next piece of it."""
        if isinstance(piece, CallStart):
            self.calls.append(Call(piece.name, ""))
        elif isinstance(piece, CallArguments):
            last = self.calls[-1]
            self.calls[-1] = Call(last.name, last.arguments + piece.text)
        elif isinstance(piece, Reasoning):
            self.reasoning += piece.text
        else:
            self.text += piece.text


class Turn:
    """A turn that has started; its parts are read in order."""

    def __init__(self, answer: Answer, outputs: list[ChatOutput], request_id: str, tokenizer: Any) -> None:
        self.answer = answer
        self._outputs = outputs
        self._request_id = request_id
        self._tokenizer = tokenizer

    @classmethod
    async def start(cls, asked: Asked, request: Request, service: Service) -> Turn:
        """Ask the model. Raises what the engine raises, and InvalidRequestError for a choice that cannot be made."""
        offered = [] if asked.choice == "none" else asked.tools
        style = tool_format(service.llm.llm.chat_template)
        answer = await service.llm.stream(
            asked.messages,
            asked.params.changed(structured_outputs=_grammar(asked, offered, service)),
            tools=[tool.as_openai() for tool in offered] or None,
            template_options=asked.template_options,
            tenant=request.state.tenant,
            priority=asked.priority,
        )
        tail = service.llm.llm.tokenizer.decode(answer.prompt_token_ids[-8:], skip_special=False)
        reasoning = tail.rstrip().endswith("<think>")
        names = [tool.name for tool in offered]
        outputs = [ChatOutput(style if offered else None, names, reasoning=reasoning) for _ in range(asked.params.n)]
        return cls(answer, outputs, request.state.request_id, service.llm.llm.tokenizer)

    def num_tokens(self, text: str) -> int:
        """Tokens that the model's tokenizer writes a text with."""
        return len(self._tokenizer.encode(text, add_special=False))

    def call_id(self, index: int, number: int, prefix: str = "call") -> str:
        """What the client will name a call by when it sends the result; differs between requests."""
        digest = hashlib.sha256(f"{self._request_id}/{index}/{number}".encode()).hexdigest()
        return f"{prefix}_{digest[:24]}"

    def read(self, part: Delta) -> list[Piece]:
        """What a part says. Raises InvalidRequestError where an answer could not keep to its grammar."""
        output = self._outputs[part.index]
        pieces = output.push(part.text)
        if part.finish_reason is not None:
            check_ending(self.answer)
            pieces += output.finish()
        return pieces

    async def messages(self) -> tuple[Completion, list[Message]]:
        """The whole answers, once they have ended."""
        messages = [Message() for _ in self._outputs]
        async for part in self.answer:
            for piece in self.read(part):
                messages[part.index].add(piece)
        return await self.answer.whole(), messages

    def ending(self, part_or_completion: Delta | Completion, index: int) -> str | None:
        """Why an answer ended, in OpenAI's words."""
        reason = part_or_completion.finish_reason
        return "tool_calls" if reason == "stop" and self._outputs[index].num_calls else reason


def _grammar(asked: Asked, offered: list[Tool], service: Service) -> StructuredOutputs | None:
    """What the answer must keep to: the format asked for, or calls of tools that exist."""
    wanted = asked.params.structured_outputs
    if not offered:
        if asked.choice not in ("auto", "none"):
            raise InvalidRequestError("tool_choice needs tools; give some, or leave it out.")
        return wanted
    callable_now = offered
    if asked.choice not in ("auto", "required"):
        callable_now = [tool for tool in offered if tool.name == asked.choice]
        if not callable_now:
            raise InvalidRequestError(f"tool_choice names {asked.choice[:80]!r}, which is not among the tools.")
    must_call = asked.choice != "auto"
    if wanted is not None and not must_call:
        return wanted  # the format of the answer was asked for: that excludes calls
    style = tool_format(service.llm.llm.chat_template)
    return call_grammar(callable_now, style, must_call=must_call, several=asked.several)
