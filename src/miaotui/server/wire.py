"""What clients send, as they send it: unknown fields are ignored, wrong types are refused by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec

from miaotui.core import MAX_BIASED_TOKENS, SamplingParams, StructuredOutputs
from miaotui.engine.tools import read_tools
from miaotui.errors import InvalidRequestError
from miaotui.server.turns import Asked

MAX_DEADLINE_MS = 86_400_000.0
"""A day."""
Priority = Annotated[int, msgspec.Meta(ge=-1000, le=1000)]
Deadline = Annotated[float, msgspec.Meta(gt=0, le=MAX_DEADLINE_MS)]
"""When an answer is to be there, in milliseconds from the request's arrival; one that cannot be is refused."""


class StreamOptions(msgspec.Struct):
    """OpenAI's `stream_options`."""

    include_usage: bool = False


class Sampling(msgspec.Struct, kw_only=True):
    """Fields that chat and text completions share; None, like absence, means the default.

    Behind `seed` come those that only vLLM and miaotui know. miaotui: whether the reply is to hold the receipt.
    cache: as `CacheControl.read` takes it. drafting: whether tokens may be guessed. deadline_ms: see `Deadline`.
    """

    model: str | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    n: int | None = None
    stop: str | list[str] | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: dict[str, float] | None = None
    seed: int | None = None
    top_k: int | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    min_tokens: int | None = None
    stop_token_ids: list[int] | None = None
    ignore_eos: bool | None = None
    include_stop_str_in_output: bool | None = None
    priority: Priority | None = None
    structured_outputs: dict[str, Any] | None = None
    repetition_detection: dict[str, Any] | None = None
    stop_when: str | dict[str, Any] | None = None
    guided_json: str | dict[str, Any] | None = None
    guided_regex: str | None = None
    guided_choice: list[str] | None = None
    guided_grammar: str | None = None
    drafting: bool | None = None
    miaotui: bool | None = None
    cache: dict[str, Any] | None = None
    deadline_ms: Deadline | None = None

    @property
    def wants_usage(self) -> bool:
        """Whether a stream is to end with the counts of tokens."""
        return self.stream_options is not None and self.stream_options.include_usage

    def params(self, **more: Any) -> SamplingParams:
        """As the engine takes them. Raises InvalidRequestError for values out of range."""
        given = {name: getattr(self, name) for name in _ENGINE_FIELDS}
        if len(self.logit_bias or ()) > MAX_BIASED_TOKENS:
            raise InvalidRequestError(f"logit_bias must map at most {MAX_BIASED_TOKENS} token ids to numbers.")
        if self.logit_bias is not None:
            given["logit_bias"] = {_token_id(key): bias for key, bias in self.logit_bias.items()}
        shape = {name: getattr(self, f"guided_{name}") for name in ("json", "regex", "choice", "grammar")}
        if any(value is not None for value in shape.values()):
            given["structured_outputs"] = StructuredOutputs(**shape)
        given.update(more)
        return sampling_params(given)


def sampling_params(given: Mapping[str, Any]) -> SamplingParams:
    """Parameters of the fields that a client gave; those that are None count as not given.

    Without a `max_tokens`, an answer may fill the context. Raises InvalidRequestError for values out of range.
    """
    return SamplingParams(**{"max_tokens": None, **{name: value for name, value in given.items() if value is not None}})


_ENGINE_FIELDS = (
    "max_tokens", "temperature", "top_p", "n", "stop", "presence_penalty", "frequency_penalty", "seed", "top_k",
    "min_p", "repetition_penalty", "min_tokens", "stop_token_ids", "ignore_eos", "include_stop_str_in_output",
    "structured_outputs", "repetition_detection", "stop_when", "drafting",
)  # fmt: skip


class ChatRequest(Sampling, kw_only=True):
    """POST /v1/chat/completions."""

    messages: list[dict[str, Any]]
    max_completion_tokens: int | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    response_format: dict[str, Any] | None = None
    chat_template_kwargs: dict[str, Any] | None = None

    def asked(self) -> Asked:
        """As a turn. Raises InvalidRequestError for values out of range."""
        if self.top_logprobs is not None and not self.logprobs:
            raise InvalidRequestError("top_logprobs needs logprobs to be true.")
        wanted = (self.top_logprobs or 0) if self.logprobs else None
        limit = self.max_tokens if self.max_completion_tokens is None else self.max_completion_tokens
        shape = read_response_format(self.response_format)
        return Asked(
            self.messages,
            self.params(max_tokens=limit, logprobs=wanted, **({} if shape is None else {"structured_outputs": shape})),
            tools=read_tools(self.tools or ()),
            **read_choice(self.tool_choice),
            several=self.parallel_tool_calls is not False,
            template_options=self.chat_template_kwargs,
            priority=self.priority or 0,
            cache=self.cache,
            deadline_ms=self.deadline_ms,
        )


def read_choice(given: str | dict[str, Any] | None) -> dict[str, Any]:
    """`tool_choice`, a word or the name of a tool, as fields of `Asked`."""
    if given is None or given in ("auto", "none", "required"):
        return {"choice": given or "auto"}
    if isinstance(given, dict):
        function = given.get("function")
        name = function.get("name") if isinstance(function, dict) else given.get("name")
        if isinstance(name, str):
            return {"choice": "named", "named": name}
    raise InvalidRequestError('tool_choice must be "auto", "none", "required" or name a function.')


def read_response_format(given: dict[str, Any] | None) -> StructuredOutputs | None:
    """OpenAI's `response_format`."""
    kind = "text" if given is None else given.get("type")
    if given is None or kind == "text":
        return None
    if kind == "json_object":
        return StructuredOutputs(json_object=True)
    shape = given.get("json_schema")
    if kind != "json_schema" or not isinstance(shape, dict) or not isinstance(shape.get("schema"), dict):
        raise InvalidRequestError(
            'response_format must have the type "text", "json_object", or "json_schema" with a schema in json_schema.'
        )
    return StructuredOutputs(json=shape["schema"], strict=shape.get("strict") is True)


class CompletionRequest(Sampling, kw_only=True):
    """POST /v1/completions."""

    prompt: str | list[str | int | list[int]]
    echo: bool | None = None
    logprobs: int | None = None
    suffix: str | None = None
    best_of: int | None = None

    def prompts(self) -> list[str | list[int]]:
        """One or several texts or lists of token ids. Raises InvalidRequestError for none, too many, or a mixture."""
        given = self.prompt
        prompts: list[Any] = given if isinstance(given, list) and not _are_tokens(given) else [given]
        if not 1 <= len(prompts) <= MAX_PROMPTS:
            raise InvalidRequestError(f"prompt must hold 1 to {MAX_PROMPTS} prompts, not {len(prompts)}.")
        if any(isinstance(prompt, int) for prompt in prompts):
            raise InvalidRequestError("prompt must be texts, or token ids, or lists of token ids, not a mixture.")
        return prompts

    def sampling(self) -> SamplingParams:
        """As the engine takes them; 16 tokens by default, as with OpenAI's.

        Raises InvalidRequestError for values out of range.
        """
        if self.best_of not in (None, 1, self.n):
            raise InvalidRequestError("best_of must be n, or left out: every completion is returned, none is chosen.")
        default = 16 if self.max_tokens is None else self.max_tokens
        scores = self.logprobs if self.echo else None
        return self.params(max_tokens=default, logprobs=self.logprobs, prompt_logprobs=scores)


MAX_PROMPTS = 64
MAX_TEXTS = 2048


def _are_tokens(values: list[Any]) -> bool:
    return bool(values) and all(isinstance(value, int) for value in values)


class EmbeddingsRequest(msgspec.Struct, kw_only=True):
    """POST /v1/embeddings. Behind `dimensions` come those that only miaotui knows.

    truncate: whether a text that is too long is cut. miaotui: whether the reply is to hold the receipt.
    """

    input: str | list[str | int | list[int]]
    model: str | None = None
    encoding_format: str | None = None
    dimensions: int | None = None
    truncate: bool | None = None
    miaotui: bool | None = None

    def texts(self) -> list[str]:
        """One or several texts. Raises InvalidRequestError for none, too many, or token ids."""
        given = [self.input] if isinstance(self.input, str) else self.input
        texts = [item for item in given if isinstance(item, str)]
        if len(texts) < len(given):
            raise InvalidRequestError(
                "input must be text: token ids of another model mean nothing here. LangChain sends them unless "
                "OpenAIEmbeddings is given check_embedding_ctx_length=False."
            )
        if not 1 <= len(texts) <= MAX_TEXTS:
            raise InvalidRequestError(f"input must hold 1 to {MAX_TEXTS} texts, not {len(texts)}.")
        return texts


MAX_TOKENIZE_CHARS = 1 << 18
"""A second's work."""


class TokenizeRequest(msgspec.Struct, kw_only=True):
    """POST /tokenize: a text, or a conversation."""

    prompt: Annotated[str, msgspec.Meta(max_length=MAX_TOKENIZE_CHARS)] | None = None
    messages: list[dict[str, Any]] | None = None
    add_special_tokens: bool = True


class DetokenizeRequest(msgspec.Struct, kw_only=True):
    """POST /detokenize."""

    tokens: Annotated[list[int], msgspec.Meta(max_length=1 << 17)]


def _token_id(key: str) -> int:
    try:
        return int(key)
    except ValueError:
        raise InvalidRequestError(f"logit_bias names the token {key[:20]!r}; token ids are numbers.") from None
