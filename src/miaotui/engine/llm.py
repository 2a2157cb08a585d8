"""`LLM`: one model, loaded and ready, for one caller at a time."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Collection, Iterator, Mapping
from collections.abc import Sequence as Row
from contextlib import contextmanager
from itertools import repeat
from numbers import Integral
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeGuard, cast, overload

from miaotui.core import Activations, SamplingParams
from miaotui.engine.draft_loading import default_drafter, load_with_draft_model
from miaotui.engine.drafter import ModelDrafter
from miaotui.engine.interrupts import DeferredInterrupt
from miaotui.engine.loading import LoadedModel, LoadOptions, find_model, fingerprint, load_model
from miaotui.engine.messages import Message, check_conversation, for_template, plain_messages, tell_of_tools
from miaotui.engine.progress import Progress, ProgressCallback, ProgressMeter, reporter
from miaotui.engine.results import Completion, Delta, Score, TokenLogprob
from miaotui.engine.sequence import Sequence
from miaotui.engine.stream import Stream, completion_of, raise_error_of
from miaotui.engine.tools import check_ends, read_tools, tool_format
from miaotui.engine.tuner import AT_START_S
from miaotui.errors import ContextLengthError, InvalidRequestError, UnsupportedModelError, brief

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from miaotui.engine.drafter import Drafter
    from miaotui.engine.embedder import Embedder
    from miaotui.engine.engine import Engine
    from miaotui.engine.grammar import TokenGrammar
    from miaotui.formats import ModelFile
    from miaotui.formats.chat_template import ChatTemplate
    from miaotui.formats.spec import ModelSpec
    from miaotui.formats.tokenizer import Tokenizer

__all__ = ["LLM", "Completion", "Delta", "Progress", "Score", "Stream", "TokenLogprob"]

Prompt = str | Row[int]
CHARS_PER_TOKEN_UNCHECKED = 8
"""Texts of so many characters for each token of the context are encoded without a look at the vocabulary first."""
_TEMPLATE_VARIABLES = frozenset(
    {"tokenizer", "messages", "tools", "add_generation_prompt", "bos_token", "eos_token", "self"}
)


class LLM:
    """A model ready to answer. A context manager; `close` frees its memory.

    model: a name in the model store ("smollm2:135m") or the path of a GGUF file or Hugging Face folder.
    activations: what quantized weights are multiplied with, "int16", "int8" or "float32" (`miaotui.core.Activations`).
    kv_dtype: element type of keys and values, "int16", "f16", "bf16", "int8" or "f32".
    context_length: most tokens of prompt and output together; None: the model's, as far as memory allows.
    kv_memory_bytes: memory of keys and values at most; None: 1 GiB or a quarter of the free memory, the less.
    max_tokens_per_step: prompts are read in chunks of at most so many tokens.
    max_sequences, max_logit_rows: at most so many sequences take part in a step, and rows are computed into logits.
    disabled_passes: names of fusions to leave out: slower, the same bits.
    pack_cache_bytes: packed weights are kept on disk for the next start, at most so many bytes; 0: not; None: as
        configured (16 GiB).
    tune: whether to measure what is fastest, once per machine and shape of model, for at most 2.5 s; None: as
        configured (yes).
    tune_in_pauses: not before the model is ready, but while an `AsyncLLM` over it has nothing to do, or by `tune`.
    prefix_cache: whether a prompt begins from KV pages that others have filled with the same tokens: faster, the same
        bits. `Receipt.cached_tokens` says how many.
    prefix_cache_bytes: such pages are kept on disk for the next start, at most so many bytes; 0: not; None: as
        configured (not). They hold what was asked and said, in numbers, readable for this user alone.
    drafter: guesses tokens, so that one step can read several of them (`miaotui.adaptive.AdaptiveDrafter`): the same
        output, bit for bit. One drafter serves one LLM; None: nothing is guessed.
    draft_model: a smaller model of the same vocabulary, by name or path, that guesses tokens where this pays (with
        `AdaptiveDrafter`, if no drafter is given); its weights and pages count as memory of this one.
    chat_template: Jinja source to use instead of the model's own.

    Of a text encoder ("minilm"), which writes no text, only `embed` is of use, and of the options only `activations`,
    `max_tokens_per_step` and `disabled_passes`; `Embedder` is the same with defaults that suit it.

    The threads are the process's: MIAOTUI_THREADS sets their number, MIAOTUI_ISA the instruction set, before first use.

    Sampling parameters are given as a `SamplingParams`, as keywords, or both (keywords win). Prompts are text, or token
    ids taken as they are. Nothing is ever truncated: what exceeds the context raises ContextLengthError, what can never
    fit the KV memory CapacityError, other unusable arguments InvalidRequestError.

    Methods may be called from several threads; they take turns step by step. Ctrl-C cancels what the interrupted
    call was doing, frees its memory and raises KeyboardInterrupt.
    """

    def __init__(
        self,
        model: str | os.PathLike[str],
        *,
        activations: Activations = "int16",
        kv_dtype: str = "int16",
        context_length: int | None = None,
        kv_memory_bytes: int | None = None,
        max_tokens_per_step: int = 512,
        max_sequences: int = 16,
        max_logit_rows: int = 16,
        disabled_passes: Collection[str] = (),
        chat_template: str | None = None,
        pack_cache_bytes: int | None = None,
        tune: bool | None = None,
        tune_in_pauses: bool = False,
        prefix_cache: bool = True,
        prefix_cache_bytes: int | None = None,
        drafter: Drafter | None = None,
        draft_model: str | os.PathLike[str] | None = None,
    ) -> None:
        if draft_model is not None and drafter is None:
            drafter = default_drafter()
        options = LoadOptions(
            activations=activations,
            kv_dtype=kv_dtype,
            context_length=context_length,
            kv_memory_bytes=kv_memory_bytes,
            max_tokens_per_step=max_tokens_per_step,
            max_sequences=max_sequences,
            max_logit_rows=max_logit_rows,
            disabled_passes=frozenset(disabled_passes),
            pack_cache_bytes=pack_cache_bytes,
            tune=tune,
            tune_in_pauses=tune_in_pauses,
            prefix_cache=prefix_cache,
            prefix_cache_bytes=prefix_cache_bytes,
            drafter=drafter,
        )
        file = find_model(model)
        if file.spec.is_classifier:
            raise UnsupportedModelError(
                f"{file.spec.name} scores labels for texts and writes none; take another model."
            )
        self._embedder: Embedder | None = _open_embedder(file, options) if file.spec.is_encoder else None
        self._loaded: LoadedModel | None = None if self._embedder else _load(file, draft_model, options)
        self._own_template = chat_template
        self._lock = threading.Lock()
        self._parts: dict[int, deque[Delta]] = {}
        self._dropped: deque[list[Sequence]] = deque()  # of streams nobody holds any more

    @overload
    def generate(
        self,
        prompt: Prompt,
        params: SamplingParams | None = None,
        *,
        progress: bool | ProgressCallback | None = None,
        tenant: str = "",
        **changes: Any,
    ) -> Completion: ...
    @overload
    def generate(
        self,
        prompt: Row[Prompt],
        params: SamplingParams | None = None,
        *,
        progress: bool | ProgressCallback | None = None,
        tenant: str = "",
        **changes: Any,
    ) -> list[Completion]: ...
    def generate(
        self,
        prompt: Prompt | Row[Prompt],
        params: SamplingParams | None = None,
        *,
        progress: bool | ProgressCallback | None = None,
        tenant: str = "",
        **changes: Any,
    ) -> Completion | list[Completion]:
        """Go on from one prompt, or from each of several, which run together.

        Text is encoded as the model was trained (with BOS if it wants one), control tokens in it recognized.
        progress: whether to draw a bar on standard error, by default for several prompts on a terminal; or what to
        call with each `Progress`. tenant: who asks; tenants share no cached prefixes.
        """
        resolved = resolve_params(params, changes)
        if _is_one(prompt):
            return self._complete([self._encode(prompt)], resolved, report=reporter(progress, 1), tenant=tenant)[0]
        prompts = [self._encode(p) for p in cast(Row[Prompt], prompt)]
        return self._complete(prompts, resolved, report=reporter(progress, len(prompts)), tenant=tenant)

    def chat(
        self,
        messages: Row[Message] | str,
        params: SamplingParams | None = None,
        *,
        tools: Row[Mapping[str, Any]] | None = None,
        **changes: Any,
    ) -> Completion:
        """Answer a conversation: messages with "role" and "content", or one user message as text.

        Content is text, or a list of the OpenAI API's text parts. Raises InvalidRequestError for other things,
        ChatTemplateError when the model has no chat template, or it refuses the messages.
        """
        resolved = resolve_params(params, changes)
        check_ends(resolved, tools)
        return self._complete([self.encode_chat(messages, tools=tools)], resolved)[0]

    def stream(
        self,
        prompt: Prompt | Row[Message],
        params: SamplingParams | None = None,
        *,
        tools: Row[Mapping[str, Any]] | None = None,
        **changes: Any,
    ) -> Stream:
        """As `generate` for a text or token ids, as `chat` for a list of messages, but part by part as it comes."""
        resolved = resolve_params(params, changes)
        check_ends(resolved, tools)
        prompt_ids = self.encode_prompt(prompt, tools=tools)
        grammar = self.compile_grammar(resolved)
        sequences: list[Sequence] = []
        with self._cancelling(sequences), self._lock, DeferredInterrupt():
            sequences += self._engine.add(prompt_ids, resolved, grammar=grammar)
            parts = self._parts[sequences[0].request.id] = deque()
        return Stream(self, sequences, parts)

    def score(self, prompt: Prompt, continuation: Prompt | None = None) -> Score:
        """How likely `continuation` is after `prompt`; without it, how likely each token of `prompt` but the first is.

        The two are encoded apart, so tokens never span the seam.
        """
        ids, first = self._joined(prompt, continuation)
        params = SamplingParams(max_tokens=0, prompt_logprobs=0)
        return _score_of(self._complete([ids], params, first_scored=[first])[0], ids, first)

    def score_all(self, pairs: Row[tuple[Prompt, Prompt]]) -> list[Score]:
        """`score` of many prompts and continuations, which run together; `Score.is_greedy` is told, too."""
        joined = [self._joined(prompt, continuation) for prompt, continuation in pairs]
        params = SamplingParams(max_tokens=0, prompt_logprobs=1)
        done = self._complete([ids for ids, _ in joined], params, first_scored=[first for _, first in joined])
        return [_score_of(one, ids, first) for one, (ids, first) in zip(done, joined, strict=True)]

    def _joined(self, prompt: Prompt, continuation: Prompt | None) -> tuple[list[int], int]:
        """Ids of both, and which of them is the first to be scored."""
        ids = self._encode(prompt)
        first = 1
        if continuation is not None:
            first = len(ids)
            ids = ids + self._encode(continuation, add_special=False)
        if len(ids) <= first or first < 1:
            raise InvalidRequestError("there is no token to score behind another one; give a longer text.")
        return ids, first

    def encode_chat(
        self,
        messages: Row[Message] | str,
        *,
        tools: Row[Mapping[str, Any]] | None = None,
        template_options: Mapping[str, Any] | None = None,
        must_fit: bool = False,
    ) -> list[int]:
        """Token ids of a conversation as `chat` would feed it to the model. Raises as `chat` does.

        template_options: further variables for the chat template, such as {"enable_thinking": False}. must_fit: what
        `check_length` refuses is not encoded.
        """
        options = dict(template_options or {})
        if taken := _TEMPLATE_VARIABLES & set(options):
            raise InvalidRequestError(f"chat_template_kwargs must not set {', '.join(sorted(taken))}.")
        template, plain = self._chat_template(), for_template(plain_messages(messages), self.chat_template)
        style = tool_format(self.chat_template)
        if not style.in_template:
            plain, tools = tell_of_tools(plain, read_tools(tools or ()), style), None
        check_conversation(plain)
        check = self.check_length if must_fit else None
        return template.encode(self.tokenizer, plain, tools=tools or None, check=check, **options)

    def encode_prompt(self, prompt: Prompt | Row[Message], **options: Any) -> list[int]:
        """Token ids of a text, a conversation, or token ids as they are, as `stream` would feed them to the model.

        options: those of `encode_chat`, for a conversation.
        """
        messages = _messages(prompt)
        if messages is None:
            return self._encode(prompt)  # type: ignore[arg-type]
        return self.encode_chat(messages, **options, must_fit=True)

    def encode_gap(self, before: str, after: str) -> list[int]:
        """Token ids of a prompt that asks for the text between two others, for models trained to fill gaps.

        Raises InvalidRequestError for a model whose vocabulary has no tokens for that, ContextLengthError as
        `check_length` does.
        """
        self.check_length(before + after)
        ids = self.tokenizer.encode_gap(before, after)
        if ids is None:
            raise InvalidRequestError(
                f"suffix must be empty: {self.spec.name} has no tokens for filling gaps (<|fim_prefix|> and so on); "
                "serve a model that has, such as qwen2.5-coder."
            )
        return ids

    def check_length(self, text: str) -> None:
        """Raise ContextLengthError for a text that could not fit if all its tokens were the vocabulary's longest.

        To be asked before a text is encoded, which takes seconds for some megabytes.
        """
        if len(text) <= CHARS_PER_TOKEN_UNCHECKED * self.context_length:
            return  # it may be too long, but not by much
        num_bytes = len(text.encode("utf-8", "surrogatepass"))
        most = self.context_length * self.tokenizer.longest_token_bytes
        if num_bytes > most:
            raise ContextLengthError(
                f"the text has {num_bytes} bytes, but the {self.context_length} tokens of the context hold {most} at "
                "most: shorten it."
            )

    def compile_grammar(self, params: SamplingParams) -> TokenGrammar | None:
        """What `structured_outputs` asks for over this model's tokens, if anything; the first one takes a moment.

        Raises InvalidRequestError for what cannot be compiled, ConfigError where llguidance is missing.
        """
        wanted = params.structured_outputs
        return None if wanted is None else self.loaded.grammars.compile(wanted)

    def logits(self, prompt: Prompt, *, first: int = 0) -> NDArray[np.float32]:
        """The model's raw scores, float32 [tokens - first, vocab_size], of the tokens from `first` on.

        The row of token i predicts the token behind it. For measuring one model against another; a long prompt takes 4
        bytes x rows x vocabulary.
        """
        import numpy as np

        rows: list[NDArray[np.float32]] = []
        ids, sequences = self._encode(prompt), list[Sequence]()
        if not 0 <= first < max(len(ids), 1):
            raise InvalidRequestError(f"first must be one of the {len(ids)} tokens, not {brief(first)}.")
        with self._cancelling(sequences):
            with self._lock, DeferredInterrupt():
                params = SamplingParams(max_tokens=0, prompt_logprobs=0)
                sequences += self._engine.add(ids, params, first_scored=first + 1)
                sequences[0].kept_logits = rows
            self._finish(sequences)
        return np.concatenate(rows)

    def embed(self, texts: Row[str], *, dimensions: int | None = None, truncate: bool = False) -> NDArray[np.float32]:
        """Vectors of unit length, float32 [texts, dimensions], of a model that is a text encoder ("minilm").

        dimensions: only the first so many of each, at unit length again. truncate: whether a text that is too long is
        cut; otherwise it raises ContextLengthError. Raises InvalidRequestError for a model that writes text.
        """
        if self._embedder is None:
            name = self.loaded.file.spec.name
            raise InvalidRequestError(
                f"{name} writes text and makes no embeddings; load a text encoder such as minilm."
            )
        return self._embedder.embed(texts, dimensions=dimensions, truncate=truncate)

    def tune(self) -> None:
        """Measure what is fastest where `tune_in_pauses` left that for later: once per machine, for at most 2.5 s."""
        for tuner in self.loaded.engine.tuners:
            with self._lock:
                tuner.go_on(AT_START_S)

    def close(self) -> None:
        """Cancel everything and give the memory back. Harmless when repeated."""
        if self._embedder is not None:
            self._embedder.close()
        if self._loaded is not None:
            self._cancel(self._engine.scheduler.unfinished())
            self._engine.save_prefixes()
            drafter = self._engine.scheduler.drafter
            if isinstance(drafter, ModelDrafter):
                drafter.use_model(None, self.loaded)
            self._loaded = None

    def __enter__(self) -> LLM:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def loaded(self) -> LoadedModel:
        """The parts of the loaded model. Raises InvalidRequestError after `close`, and for a text encoder."""
        if self._embedder is not None:
            raise InvalidRequestError(f"{self._embedder.spec.name} makes embeddings and writes no text; call embed.")
        if self._loaded is None:
            raise InvalidRequestError("this LLM is closed; create another one.")
        return self._loaded

    @property
    def spec(self) -> ModelSpec:
        """Architecture and hyper-parameters."""
        return self.loaded.file.spec if self._embedder is None else self._embedder.spec

    @property
    def tokenizer(self) -> Tokenizer:
        """The model's tokenizer."""
        return self.loaded.tokenizer

    @property
    def chat_template(self) -> str | None:
        """Jinja source that conversations are written with; None for a base model, which can only go on from text."""
        return self.tokenizer.chat_template if self._own_template is None else self._own_template

    def clock_options(self, prompt: Prompt | Row[Message]) -> dict[str, object]:
        """What a prompt is made with beside what was asked: the dates that the chat template writes, if it writes any.

        Two equal conversations are the same prompt only while this is the same. Raises as `encode_prompt` does.
        """
        if self.chat_template is None or _messages(prompt) is None:
            return {}
        dates = self._chat_template().dates()
        return {"strftime_now": dates} if dates else {}

    def fingerprint(self) -> str:
        """Names all that an answer depends on beside the request: weights, template, arithmetic.

        The first time, the model's files are read, about a second per gigabyte. Raises OSError and ValueError where
        they have gone or changed.
        """
        return fingerprint(self.loaded, self.chat_template)

    @property
    def context_length(self) -> int:
        """Most tokens of prompt and output together."""
        return self.loaded.kv_plan.context.length

    @property
    def _engine(self) -> Engine:
        return self.loaded.engine

    def _complete(
        self,
        prompts: list[list[int]],
        params: SamplingParams,
        first_scored: Row[int] | None = None,
        report: ProgressCallback = lambda progress: None,
        tenant: str = "",
    ) -> list[Completion]:
        grammar = self.compile_grammar(params)
        groups: list[list[Sequence]] = []
        sequences: list[Sequence] = []
        with self._cancelling(sequences):
            for prompt_ids, first in zip(prompts, repeat(1) if first_scored is None else first_scored, strict=False):
                with self._lock, DeferredInterrupt():
                    added = self._engine.add(prompt_ids, params, grammar=grammar, first_scored=first, tenant=tenant)
                    groups.append(added)
                    sequences += groups[-1]
            self._finish(sequences, report)
        return [completion_of(group) for group in groups]

    @contextmanager
    def _cancelling(self, sequences: list[Sequence]) -> Iterator[None]:
        """What is in `sequences` by then is cancelled if anything goes wrong inside, or is interrupted."""
        try:
            yield
        except BaseException:
            self._cancel(sequences)
            raise

    def _finish(self, sequences: list[Sequence], report: ProgressCallback = lambda progress: None) -> None:
        """Step until these have ended."""
        meter = ProgressMeter(sequences, report)
        while sequences and not meter.look():
            self._step()
        raise_error_of(sequences)

    def _step(self) -> None:
        """One step of the engine, whoever asks for it; parts of streams go to the streams."""
        with self._lock, DeferredInterrupt():
            self._cancel_dropped()
            self._deliver(self._engine.step())

    def _cancel(self, sequences: list[Sequence]) -> None:
        if self._loaded is None:
            return
        with self._lock, DeferredInterrupt():
            self._cancel_now(sequences)

    def _drop(self, sequences: list[Sequence]) -> None:
        """Cancel what a collected stream left. The collector may strike while this very thread holds the lock."""
        self._dropped.append(sequences)
        if self._lock.acquire(blocking=False):
            try:
                self._cancel_dropped()
            finally:
                self._lock.release()

    def _cancel_dropped(self) -> None:
        while self._dropped:
            self._cancel_now(self._dropped.popleft())

    def _cancel_now(self, sequences: list[Sequence]) -> None:
        if self._loaded is None:
            return
        self._deliver(self._engine.cancel(sequences))
        for sequence in sequences:
            self._parts.pop(sequence.request.id, None)

    def _deliver(self, updates: list[tuple[Sequence, Delta]]) -> None:
        for sequence, delta in updates:
            parts = self._parts.get(sequence.request.id)
            if parts is not None:
                parts.append(delta)

    def _encode(self, prompt: Prompt, *, add_special: bool = True) -> list[int]:
        if isinstance(prompt, str):
            self.check_length(prompt)
            return self.tokenizer.encode(prompt, add_special=add_special, parse_special=True)
        _check_kind(prompt)
        return list(prompt)

    def _chat_template(self) -> ChatTemplate:
        from miaotui.formats.chat_template import ChatTemplate

        tokens = {"bos_token": self.tokenizer.bos_token, "eos_token": self.tokenizer.eos_token}
        return ChatTemplate(self.chat_template, **tokens)  # compiled once per process


def _load(file: ModelFile, draft_model: str | os.PathLike[str] | None, options: LoadOptions) -> LoadedModel:
    if draft_model is None:
        return load_model(file, options)
    return load_with_draft_model(file, find_model(draft_model), options)


def _open_embedder(file: ModelFile, options: LoadOptions) -> Embedder:
    from miaotui.engine.embedder import Embedder  # few models are of this kind

    return Embedder(
        file,
        activations=options.activations,
        max_tokens_per_step=options.max_tokens_per_step,
        disabled_passes=options.disabled_passes,
    )


def _score_of(done: Completion, ids: list[int], first: int) -> Score:
    scored = [entry for entry in (done.prompt_logprobs or ())[first:] if entry is not None]
    tops = [entry.top[0][0] for entry in scored if entry.top]
    greedy = tops == ids[first:] if tops else None
    return Score(tuple(ids[first:]), tuple(entry.logprob for entry in scored), greedy)


def resolve_params(params: SamplingParams | None, changes: Mapping[str, Any]) -> SamplingParams:
    """Sampling parameters with the changes that keywords ask for; raises as `SamplingParams` does."""
    params = SamplingParams() if params is None else params
    if not isinstance(params, SamplingParams):
        raise InvalidRequestError(
            f"params is a {type(params).__name__}; give SamplingParams(max_tokens=5, …), or the values as keywords"
        )
    return params.changed(**changes) if changes else params


def _check_kind(prompt: object) -> None:
    if not hasattr(prompt, "__getitem__") or isinstance(prompt, (bytes, bytearray, Mapping)):
        raise InvalidRequestError(f"a prompt is text or token ids, not {brief(prompt)}; several come as a list.")


def _is_one(prompt: Prompt | Row[Prompt]) -> TypeGuard[Prompt]:
    _check_kind(prompt)
    return isinstance(prompt, str) or (len(prompt) > 0 and isinstance(prompt[0], Integral))


def _messages(prompt: Prompt | Row[Message]) -> Row[Message] | None:
    _check_kind(prompt)
    if isinstance(prompt, str) or not len(prompt) or isinstance(prompt[0], Integral):
        return None
    if isinstance(prompt[0], str):
        raise InvalidRequestError("a stream goes on from one prompt; open one for each, or give all to `generate`.")
    return cast(Row[Message], prompt)
