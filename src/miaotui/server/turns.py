"""One turn of a conversation, whatever protocol it came by: how the model is asked, and how its answers are read."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from starlette.requests import Request

from miaotui.answers.control import CacheControl
from miaotui.core import SamplingParams, StructuredOutputs
from miaotui.engine.chat_output import CallArguments, CallStart, ChatOutput, Piece, Reasoning, opens_reasoning
from miaotui.engine.results import Completion, Delta
from miaotui.engine.tools import Tool, ToolFormat, call_grammar, check_ends, tool_format
from miaotui.errors import InvalidRequestError
from miaotui.server.answers import Service, check_ending
from miaotui.server.asking import Ask
from miaotui.server.reading import Reading
from miaotui.server.replies import ending

Choice = Literal["auto", "none", "required", "named"]


@dataclass(slots=True)
class Asked:
    """A conversation and what may be said next.

    choice: "auto", "none", "required", or "named". named: the one tool to call then. several: whether one answer may
    call several tools.
    """

    messages: list[dict[str, Any]]
    params: SamplingParams
    tools: list[Tool] = field(default_factory=list)
    choice: Choice = "auto"
    named: str = ""
    several: bool = True
    template_options: Mapping[str, Any] | None = None
    priority: int = 0
    cache: Mapping[str, Any] | None = None
    deadline_ms: float | None = None


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

    def __init__(self, answer: Reading, outputs: list[ChatOutput], tokenizer: Any) -> None:
        self.answer = answer
        self._outputs = outputs
        self._salt = uuid.uuid4().hex
        self._tokenizer = tokenizer

    @classmethod
    async def start(cls, asked: Asked, request: Request, service: Service) -> Turn:
        """Ask the model. Raises what the engine raises, and InvalidRequestError for a choice that cannot be made."""
        offered = [] if asked.choice == "none" else asked.tools
        check_ends(asked.params, offered)
        style = tool_format(service.llm.llm.chat_template)
        wanted = _grammar(asked, offered, style)
        answer = await service.ask(
            Ask(
                asked.messages,
                asked.params.changed(structured_outputs=wanted),
                tenant=request.state.tenant,
                request_id=request.state.request_id,
                priority=service.priority(asked.priority, request.state.tenant),
                tools=[tool.as_openai() for tool in offered],
                template_options=asked.template_options or {},
                control=CacheControl.read(asked.cache, request.headers.get("cache-control", "")),
                deadline_ms=asked.deadline_ms,
            )
        )
        tail = service.llm.llm.tokenizer.decode(answer.prompt_tail, skip_special=False)
        has_form = wanted is not None and (asked.params.structured_outputs is not None or asked.choice != "auto")
        reasoning = opens_reasoning(tail) and not has_form  # which begins with the first token
        names = [tool.name for tool in offered]
        offers = style if offered else None
        outputs = [ChatOutput(offers, names, reasoning=reasoning, several=asked.several) for _ in range(asked.params.n)]
        return cls(answer, outputs, service.llm.llm.tokenizer)

    def num_tokens(self, text: str) -> int:
        """Tokens that the model's tokenizer writes a text with."""
        return len(self._tokenizer.encode(text, add_special=False))

    def call_id(self, index: int, number: int, prefix: str = "call") -> str:
        """What the client will name a call by when it sends the result; differs between requests."""
        digest = hashlib.sha256(f"{self._salt}/{index}/{number}".encode()).hexdigest()
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
        reason = ending(part_or_completion.finish_reason)
        return "tool_calls" if reason == "stop" and self._outputs[index].num_calls else reason


def _grammar(asked: Asked, offered: list[Tool], style: ToolFormat) -> StructuredOutputs | None:
    """What the answer must keep to: the format asked for, or calls of tools that exist."""
    wanted = asked.params.structured_outputs
    if not offered:
        if asked.choice in ("required", "named"):
            raise InvalidRequestError("tool_choice needs tools; give some, or leave it out.")
        return wanted
    if asked.choice == "named":
        offered = [tool for tool in offered if tool.name == asked.named]
        if not offered:
            raise InvalidRequestError(f"tool_choice names {asked.named[:80]!r}, which is not among the tools.")
    if asked.choice != "auto":
        return call_grammar(offered, style, must_call=True, several=asked.several)
    if wanted is not None or asked.params.min_tokens:
        return wanted  # a format for the answer excludes calls; a least length excludes grammars
    try:
        return call_grammar(offered, style, must_call=False, several=asked.several)
    except InvalidRequestError:  # too long; calls are then recognized, though not kept to their schemas
        return None
