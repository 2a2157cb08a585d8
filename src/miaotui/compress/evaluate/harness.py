"""Our models under EleutherAI's lm-evaluation-harness (`lm-eval`, 0.4.9 and later), which drives them as its `LM`.

    import lm_eval
    from miaotui import LLM
    from miaotui.compress.evaluate.harness import harness_model

    with LLM("model.gguf") as llm:
        results = lm_eval.simple_evaluate(model=harness_model(llm), tasks=["arc_easy"], limit=200)

Requests become tokens as the harness's own models do it: blanks at a context's end belong to the continuation, the two
are encoded together, and an empty context is the token that texts begin with.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

from miaotui.errors import ConfigError, InvalidRequestError, brief
from miaotui.formats.chat_template import ChatTemplate
from miaotui.formats.tokenizer import Tokenizer

AT_ONCE = 64
"""Requests that run together; as many as the engine's steps hold."""
MAX_TOKENS = 256
"""Of a generation whose task sets no limit, as in the harness."""
_SAMPLING = ("temperature", "top_p", "top_k", "min_p", "seed")
_LIMITS = ("max_gen_toks", "max_new_tokens", "max_tokens")


class Score(Protocol):
    """As `miaotui.engine.results.Score`."""

    @property
    def total(self) -> float:
        """Log-probability of all tokens."""

    @property
    def is_greedy(self) -> bool | None:
        """Whether each token is the most likely one."""


class Drivable(Protocol):
    """What is asked of a model: `miaotui.LLM` has it all."""

    @property
    def tokenizer(self) -> Tokenizer:
        """The model's tokenizer."""

    @property
    def context_length(self) -> int:
        """Most tokens together."""

    @property
    def chat_template(self) -> str | None:
        """Jinja source."""

    def score_all(self, pairs: Sequence[tuple[list[int], list[int]]]) -> Sequence[Score]:
        """Each pair's second part after its first."""

    def generate(self, prompt: Sequence[list[int]], **changes: Any) -> Any:
        """Completions of prompts given as ids, with sampling parameters by name."""


def harness_model(model: Drivable, name: str = "miaotui") -> Any:
    """An `lm_eval.api.model.LM` that has this model answer. Raises ConfigError where lm-eval is not installed."""
    try:
        from lm_eval.api.model import LM
    except ImportError as error:
        raise ConfigError(f"lm-eval cannot be imported ({error}): pip install lm-eval") from None
    made = type("MiaotuiLM", (HarnessMethods, LM), {})()
    made.attach(model, name)
    return made


class HarnessMethods:
    """The methods of the harness's `LM`; its own class is mixed in by `harness_model`."""

    def attach(self, model: Drivable, name: str) -> None:
        """Answer with this model from now on."""
        self._model = model
        self._name = name

    def loglikelihood(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """For each request's (context, continuation): log-probability of the latter, and whether it is greedy.

        Raises ContextLengthError where both together are too long; nothing is cut off.
        """
        found: list[tuple[float, bool]] = []
        for chunk in _chunks(requests):
            scored = self._model.score_all([self._pair(*request.args) for request in chunk])
            answers = [(score.total, bool(score.is_greedy)) for score in scored]
            self._remember("loglikelihood", chunk, answers)
            found += answers
        return found

    def loglikelihood_rolling(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[float]:
        """For each request's (text,): log-probability of all of it, in windows that overlap as little as they can."""
        found: list[float] = []
        for request in requests:
            ids = self._encode(request.args[0])
            if ids[:1] == [self._model.tokenizer.bos_id]:
                ids = ids[1:]
            pairs = list(rolling_windows(ids, self._prefix(), self._model.context_length))
            total = sum(score.total for score in self._model.score_all(pairs)) if pairs else 0.0
            self._remember("loglikelihood_rolling", [request], [total])
            found.append(total)
        return found

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[str]:
        """For each request's (context, settings): what is written behind it, up to a stop text.

        Raises InvalidRequestError for settings that mean nothing here.
        """
        found: list[str] = []
        for chunk in _chunks(requests):
            answers = [""] * len(chunk)
            groups: dict[str, list[int]] = {}
            for at, request in enumerate(chunk):
                groups.setdefault(repr(sorted(request.args[1].items(), key=str)), []).append(at)
            for members in groups.values():
                prompts = [self._encode(chunk[at].args[0]) for at in members]
                done = self._model.generate(prompts, progress=False, **sampling(chunk[members[0]].args[1]))
                for at, completion in zip(members, done, strict=True):
                    answers[at] = completion.text
            self._remember("generate_until", chunk, answers)
            found += answers
        return found

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """A conversation as text, for the other methods."""
        return self._template().render(chat_history, add_generation_prompt=add_generation_prompt)

    def chat_template(self, chat_template: bool | str = False) -> str:
        """The model's template where one is wanted; it has no others to choose from."""
        return (self._model.chat_template or "") if chat_template else ""

    @property
    def tokenizer_name(self) -> str:
        """What the harness's cache of requests goes by."""
        return self._name.replace("/", "__")

    def _template(self) -> ChatTemplate:
        tokenizer = self._model.tokenizer
        return ChatTemplate(self._model.chat_template, bos_token=tokenizer.bos_token, eos_token=tokenizer.eos_token)

    def _encode(self, text: str) -> list[int]:
        """With BOS if the model wants one and a template has not written it already."""
        tokenizer = self._model.tokenizer
        has_bos = bool(tokenizer.bos_token) and text.startswith(tokenizer.bos_token)
        return tokenizer.encode(text, add_special=not has_bos, parse_special=True)

    def _prefix(self) -> int:
        tokenizer = self._model.tokenizer
        prefix = tokenizer.bos_id if tokenizer.bos_id is not None else tokenizer.eos_id
        if prefix is None:
            raise InvalidRequestError("the model has neither BOS nor EOS, so nothing can come before an empty context.")
        return prefix

    def _pair(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
        if not context:
            return [self._prefix()], self._model.tokenizer.encode(continuation, add_special=False)
        kept = context.rstrip()
        if kept:
            context, continuation = kept, context[len(kept) :] + continuation
        before, both = self._encode(context), self._encode(context + continuation)
        return before, both[len(before) :]

    def _remember(self, method: str, requests: Sequence[Any], answers: Sequence[Any]) -> None:
        hook = getattr(self, "cache_hook", None)
        if hook is not None:
            for request, answer in zip(requests, answers, strict=True):
                hook.add_partial(method, request.args, answer)


def _chunks(requests: Sequence[Any]) -> Iterator[Sequence[Any]]:
    for start in range(0, len(requests), AT_ONCE):
        yield requests[start : start + AT_ONCE]


def rolling_windows(ids: Sequence[int], prefix: int, most: int) -> Iterator[tuple[list[int], list[int]]]:
    """Context and targets of windows of at most so many tokens together: every token is a target once.

    All but the last have as many targets as they hold behind one token; the last is filled up with context.
    """
    room = most - 1
    for start in range(0, len(ids), room):
        targets = list(ids[start : start + room])
        num_before = min(most - len(targets), start)
        yield list(ids[start - num_before : start]) or [prefix], targets


def sampling(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The harness's settings of a generation as sampling parameters. Raises InvalidRequestError for unknown ones."""
    left = dict(settings)
    until = left.pop("until", None) or []
    limits = [left.pop(name) for name in _LIMITS if name in left]
    does_sample = left.pop("do_sample", None)
    chosen = {name: left.pop(name) for name in _SAMPLING if left.get(name) is not None}
    chosen.setdefault("temperature", 1.0 if does_sample else 0.0)
    if does_sample is False:
        chosen["temperature"] = 0.0
    unknown = [name for name, value in left.items() if value is not None]
    if unknown:
        raise InvalidRequestError(f"the task's generation setting {brief(unknown[0])} is not known here; take it out.")
    stop = [until] if isinstance(until, str) else list(until)
    return {**chosen, "stop": [text for text in stop if text], "max_tokens": limits[0] if limits else MAX_TOKENS}
