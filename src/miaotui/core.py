"""What is asked and what it cost: sampling parameters, requests and receipts. Standard library only."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields, replace
from numbers import Integral, Real
from typing import Any, Literal, get_args

from miaotui.errors import InvalidRequestError, brief

Activations = Literal["int16", "int8", "float32"]
"""What quantized weights are multiplied with: 16-bit integers (two int8 planes; as good as floats), int8 wherever the
model bears it (faster, less exact), or floats (the slow reference). docs/decisions/0003 has the figures."""

ACTIVATIONS: tuple[Activations, ...] = get_args(Activations)

MAX_COMPLETIONS = 8
MAX_LOGPROBS = 20
MAX_STOP_STRINGS = 16
MAX_STOP_CHARACTERS = 1024
MAX_STOP_TOKEN_IDS = 256
MAX_STOP_CHOICES = 64
MAX_STOP_CHOICE_CHARACTERS = 4096
MAX_BIASED_TOKENS = 1024
MAX_GRAMMAR_CHARACTERS = 64 << 10
MAX_GRAMMAR_DEPTH = 32
MAX_CHOICES = 1024
MAX_PATTERN_TOKENS = 1024
MAX_TOKEN_COUNT = 2**31 - 1

# Parameter → least and largest value; bounds of 0 < top_p and 0 < repetition_penalty are checked apart.
_REAL_RANGES: dict[str, tuple[float, float]] = {
    "temperature": (0.0, 100.0),
    "top_p": (0.0, 1.0),
    "min_p": (0.0, 1.0),
    "repetition_penalty": (0.01, 10.0),  # logits divided by less may overflow
    "presence_penalty": (-2.0, 2.0),
    "frequency_penalty": (-2.0, 2.0),
}
_INTEGER_RANGES: dict[str, tuple[int, int]] = {
    "top_k": (-1, MAX_TOKEN_COUNT),
    "seed": (-(2**63), 2**64 - 1),
    "min_tokens": (0, MAX_TOKEN_COUNT),
    "max_tokens": (0, MAX_TOKEN_COUNT),
    "n": (1, MAX_COMPLETIONS),
    "logprobs": (0, MAX_LOGPROBS),
    "prompt_logprobs": (0, MAX_LOGPROBS),
}
_OPTIONAL = frozenset({"seed", "max_tokens", "logprobs", "prompt_logprobs"})
_SWITCHES = ("ignore_eos", "include_stop_str_in_output", "drafting")


@dataclass(frozen=True, slots=True)
class StructuredOutputs:
    """What the output must look like, in exactly one of these ways; names as in vLLM.

    json: a JSON schema, as an object or as text. json_object: any JSON object. regex: a regular expression for the
    whole output (Rust's syntax). choice: one of these texts. grammar: a context-free grammar in Lark's syntax, as
    llguidance reads it.
    strict: refuse a schema with keywords that cannot be enforced; otherwise those are ignored.

    Raises InvalidRequestError for none, several, or ones too long or nested too deeply.
    """

    json: Mapping[str, Any] | str | None = None
    json_object: bool = False
    regex: str | None = None
    choice: Sequence[str] | None = None
    grammar: str | None = None
    strict: bool = True

    def __post_init__(self) -> None:
        given = [f.name for f in fields(self)[:-1] if getattr(self, f.name) not in (None, False)]
        if len(given) != 1:
            raise InvalidRequestError(
                f"structured_outputs must have one of json, json_object, regex, choice and grammar, not {len(given)}."
            )
        if isinstance(self.json, str):
            object.__setattr__(self, "json", _parsed(self.json))
        value = getattr(self, given[0])
        kinds: dict[str, type] = {"json": Mapping, "json_object": bool, "choice": Sequence}
        if not isinstance(value, kinds.get(given[0], str)) or isinstance(value, bytes):
            raise InvalidRequestError(f"structured_outputs: {given[0]} cannot be {brief(value)}.")
        if self.choice is not None:
            _check_choices(self.choice)
        _charge(value, given[0], MAX_GRAMMAR_CHARACTERS, MAX_GRAMMAR_DEPTH)


@dataclass(frozen=True, slots=True)
class RepetitionDetection:
    """When an output counts as going round in circles: a pattern of tokens comes several times on end; as in vLLM.

    max_pattern_size: tokens of the longest pattern that is looked for, at most 1,024. min_count: how often it comes, at
    least twice. min_pattern_size: tokens of the shortest; 0 means 1.

    Raises InvalidRequestError for numbers out of range, or a shortest pattern longer than the longest.
    """

    max_pattern_size: int
    min_count: int
    min_pattern_size: int = 0

    def __post_init__(self) -> None:
        for name, low, high in (
            ("max_pattern_size", 1, MAX_PATTERN_TOKENS),
            ("min_count", 2, MAX_TOKEN_COUNT),
            ("min_pattern_size", 0, MAX_PATTERN_TOKENS),
        ):
            object.__setattr__(self, name, _integer(f"repetition_detection: {name}", getattr(self, name), low, high))
        if self.min_pattern_size > self.max_pattern_size:
            raise InvalidRequestError(
                f"repetition_detection: min_pattern_size ({self.min_pattern_size}) is more than max_pattern_size "
                f"({self.max_pattern_size}); lower it or raise that."
            )


@dataclass(frozen=True, slots=True)
class StopWhen:
    """When an answer counts as complete, so that it ends there without a grammar; exactly one of these.

    json: its first JSON object or array has ended; text may stand before it, and a fence around it is closed. choice:
    it has named one of these texts, at its beginning ("B) …") or behind words that announce it ("the answer is B").
    Nothing ends in reasoning before the answer (<think>…</think>). Where max_tokens cuts an answer off, a choice counts
    only if nothing that could have followed would take it back.

    Raises InvalidRequestError for none, both, or choices that cannot be told apart from the text around them.
    """

    json: bool = False
    choice: Sequence[str] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.json, bool) or self.json == (self.choice is not None):
            raise InvalidRequestError('stop_when must be "json", or have one of json (true) and choice.')
        if self.choice is not None:
            object.__setattr__(self, "choice", _stop_choices(self.choice))


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How to choose tokens and when to stop; names and meanings as in the OpenAI API and vLLM.

    temperature: 0 takes the most likely token (of equals, the lowest id).
    top_k: keep so many tokens; 0 or -1 keeps all. top_p: keep the fewest most likely with this share. min_p: keep
        those with at least this share of the best one's probability.
    repetition_penalty: above 1 discourages tokens of prompt and output; at least 0.01. presence_penalty and
        frequency_penalty discourage tokens of the output once, or by their number.
    seed: equal seeds give equal text, whoever else is served; None draws one, which the receipt names.
    stop: strings that end the text (one or several); stop_token_ids: tokens that do.
    logit_bias: token id → added to its logit, -100 to 100.
    min_tokens: nothing ends the text before so many tokens. max_tokens: at most so many; None allows what context and
        KV memory leave; 0 only reads the prompt.
    ignore_eos: go on after the model's own end of text.
    n: completions of the same prompt. logprobs: report the token's log-probability and this many alternatives, under
        the model's own distribution, before any of the above. prompt_logprobs: the same for the prompt's tokens.
    include_stop_str_in_output: keep the stop string at the end of the text.
    structured_outputs: what the text must look like, as `StructuredOutputs` or a mapping of its fields. Tokens that
        leave no choice are not asked of the model; penalties, bias and temperature act on what is allowed.
    repetition_detection: end the text with finish_reason "repetition" once it goes round in circles, as
        `RepetitionDetection` or a mapping of its fields; min_tokens holds it off. None lets it go on.
    stop_when: end the text once the answer is complete, as `StopWhen`, a mapping of its fields or "json"; `stop_reason`
        is then "json" or the choice. None lets the model end it. Not where tools are offered, whose calls are JSON.
    drafting: whether tokens may be guessed where the engine does so: the same text, often sooner.

    Raises InvalidRequestError when a value is not of its type, not finite or out of range.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    seed: int | None = None
    stop: str | Sequence[str] = ()
    stop_token_ids: Sequence[int] = ()
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    min_tokens: int = 0
    max_tokens: int | None = 256
    ignore_eos: bool = False
    n: int = 1
    logprobs: int | None = None
    prompt_logprobs: int | None = None
    include_stop_str_in_output: bool = False
    structured_outputs: StructuredOutputs | None = None
    repetition_detection: RepetitionDetection | None = None
    stop_when: StopWhen | None = None
    drafting: bool = True

    def __post_init__(self) -> None:
        for name, (low, high) in _REAL_RANGES.items():
            self._set(name, _real(name, getattr(self, name), low, high))
        if self.top_p == 0.0:
            raise InvalidRequestError("top_p must be greater than 0.")
        for name, (low, high) in _INTEGER_RANGES.items():
            value = getattr(self, name)
            if value is not None or name not in _OPTIONAL:
                self._set(name, _integer(name, value, low, high))
        for name in _SWITCHES:
            if not isinstance(getattr(self, name), bool):
                raise InvalidRequestError(f"{name} must be true or false, not {brief(getattr(self, name))}.")
        self._set("stop", _stop_strings(self.stop))
        self._set("stop_token_ids", _token_ids("stop_token_ids", self.stop_token_ids))
        self._set("logit_bias", _biases(self.logit_bias))
        if self.max_tokens is not None and self.min_tokens > self.max_tokens:
            raise InvalidRequestError(
                f"min_tokens ({self.min_tokens}) is more than max_tokens ({self.max_tokens}); lower it or raise that."
            )
        self._set("structured_outputs", _structured(self.structured_outputs))
        if self.structured_outputs is not None and self.min_tokens:
            raise InvalidRequestError(
                "min_tokens must be 0 with structured_outputs, which end where they are complete."
            )
        self._set("repetition_detection", _repetition(self.repetition_detection))
        self._set("stop_when", _stop_when(self.stop_when))
        if self.stop_when is not None and self.min_tokens:
            raise InvalidRequestError(
                "min_tokens must be 0 with stop_when, which ends answers where they are complete."
            )

    def _set(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)

    def changed(self, **changes: Any) -> SamplingParams:
        """A copy with some parameters replaced. Raises InvalidRequestError for an unknown name, too."""
        known = [f.name for f in fields(self)]
        if unknown := sorted(set(changes) - set(known)):
            raise InvalidRequestError(f"unknown parameter {', '.join(unknown)}; the parameters are {', '.join(known)}.")
        return replace(self, **changes)


@dataclass(frozen=True, slots=True)
class Request:
    """What the user asked: a tokenized prompt and how to go on from it.

    arrival_s: monotonic seconds. seed: the one in force. first_scored: with prompt_logprobs, the first prompt position
    whose token is scored (position 0 has no context, so at least 1). tenant: whose cached prefixes it may use, and
    whose turn it takes. priority: lower ones are served first. keep: whether the answer may be kept to draft later ones
    of the same tenant from.
    """

    id: int
    prompt_token_ids: tuple[int, ...]
    sampling: SamplingParams
    seed: int
    arrival_s: float
    first_scored: int = 1
    tenant: str = ""
    priority: int = 0
    keep: bool = True


@dataclass(frozen=True, slots=True)
class Stage:
    """One model that a cascade asked: how long that took, and how sure of its answer it had to be and was.

    signal: what is taken for how sure it is, `miaotui.adaptive.cascade.SIGNALS`; None for the last model, whose answer
    counts in any case.
    """

    model: str
    seconds: float
    signal: str | None = None
    value: float | None = None
    threshold: float | None = None


@dataclass(frozen=True, slots=True)
class Candidate:
    """A path that a request could have taken, and what was expected of it; holds no text of anybody's.

    expected_ms: over all that may become of it. chance: that it suffices. quality: share of its answers that are as
    good as the model's own. energy: in the plan's unit. refused: why it could not be taken; empty if it could.
    """

    path: str
    expected_ms: float
    chance: float = 1.0
    quality: float = 1.0
    energy: float = 0.0
    refused: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """Which path was chosen for a request before it ran, what that was to cost, and what else there was.

    predicted_ms: of the path that was taken, from asking the engine (or the kept answers) to the last token; made of
    queue_ms, read_ms and, for each of output_tokens but the first, token_ms. explored: chosen to learn, not because it
    seemed cheapest. max_tokens: that it could say, where its end was not given beforehand. num_beside: sequences that
    ran or waited then. draft_gain: how many times as fast drafts were taken to make it. corrections: what the plain
    sums of queue_ms, read_ms and token_ms were multiplied with, as was learned from other requests. energy_unit: "J"
    where the machine tells joules, else "CPU-s".
    """

    path: str
    predicted_ms: float
    why: str
    candidates: tuple[Candidate, ...] = ()
    explored: bool = False
    deadline_ms: float | None = None
    queue_ms: float = 0.0
    read_ms: float = 0.0
    token_ms: float = 0.0
    output_tokens: float = 0.0
    max_tokens: int = 0
    num_beside: int = 0
    draft_gain: float = 1.0
    corrections: tuple[float, float, float] = (1.0, 1.0, 1.0)
    predicted_energy: float = 0.0
    energy_unit: str = "CPU-s"

    def told(self) -> dict[str, Any]:
        """As people and other programs read it, times in milliseconds."""
        rounded = {name: round(getattr(self, name), 3) for name in _PLAN_FIGURES}
        return {
            "path": self.path,
            "why": self.why,
            **rounded,
            "energy_unit": self.energy_unit,
            "explored": self.explored,
            "deadline_ms": self.deadline_ms,
            "candidates": [
                {
                    "path": one.path,
                    "expected_ms": round(one.expected_ms, 3),
                    "chance": round(one.chance, 4),
                    "quality": round(one.quality, 4),
                    "energy": round(one.energy, 4),
                    "refused": one.refused,
                }
                for one in self.candidates
            ],
        }


_PLAN_FIGURES = ("predicted_ms", "queue_ms", "read_ms", "token_ms", "output_tokens", "num_beside", "draft_gain",
                 "predicted_energy")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Receipt:
    """Which path answered a request, why, and what it cost; times in seconds of wall clock.

    `path` is "model" when the model computed the answer; `miaotui.answers.decision.Path` has the others.
    `cached_tokens` of the prompt were computed for another sequence already, `forced_tokens` of the output followed
    from its grammar. `drafted_tokens` were guessed, and `accepted_tokens` of them were what the model said.
    `prefill_s` ends with the first token, `decode_s` with the last. `saved_s` is what a kept answer took to compute;
    `entry` names it, `matched` is the question it was given to if that reads otherwise, `similarity` how alike the two
    are, and `guards` what each guard said. `plan` is what was chosen and expected beforehand, where somebody planned.
    `stages` are the models that a cascade asked, with path "cascade"; the last one has answered, and `queue_s` holds
    what those before it took.
    """

    path: str
    why: str
    prompt_tokens: int
    cached_tokens: int
    output_tokens: int
    queue_s: float
    prefill_s: float
    decode_s: float
    seed: int
    forced_tokens: int = 0
    drafted_tokens: int = 0
    accepted_tokens: int = 0
    saved_s: float = 0.0
    entry: str | None = None
    matched: str | None = None
    similarity: float | None = None
    guards: Mapping[str, str] = field(default_factory=dict)
    plan: Plan | None = None
    stages: tuple[Stage, ...] = ()

    @property
    def first_token_s(self) -> float:
        """From asking to the first token."""
        return self.queue_s + self.prefill_s

    @property
    def whole_s(self) -> float:
        """From asking to the last token: what a plan's `predicted_ms` is to be compared with."""
        return self.queue_s + self.prefill_s + self.decode_s

    @property
    def planned(self) -> dict[str, Any] | None:
        """The plan beside what came of it, as people and other programs read it; None where nobody planned."""
        return None if self.plan is None else self.plan.told() | {"actual_ms": round(self.whole_s * 1e3, 3)}

    @property
    def tokens_per_s(self) -> float | None:
        """Decode rate; None for fewer than two tokens."""
        if self.output_tokens < 2 or self.decode_s <= 0:
            return None
        return (self.output_tokens - 1) / self.decode_s


def _real(name: str, value: object, low: float, high: float) -> float:
    number = math.nan
    if isinstance(value, Real) and not isinstance(value, bool):
        with suppress(OverflowError):
            number = float(value)
    if not low <= number <= high:  # false for NaN, too
        raise InvalidRequestError(f"{name} must be a number from {low:g} to {high:g}, not {brief(value)}.")
    return number


def _integer(name: str, value: object, low: int, high: int) -> int:
    if isinstance(value, Integral) and not isinstance(value, bool) and low <= int(value) <= high:
        return int(value)
    raise InvalidRequestError(f"{name} must be a whole number from {low} to {high}, not {brief(value)}.")


def _structured(value: object) -> StructuredOutputs | None:
    if value is None or isinstance(value, StructuredOutputs):
        return value
    return StructuredOutputs(**_fields_of(StructuredOutputs, "structured_outputs", value))


def _repetition(value: object) -> RepetitionDetection | None:
    if value is None or isinstance(value, RepetitionDetection):
        return value
    given = _fields_of(RepetitionDetection, "repetition_detection", value)
    if not {"max_pattern_size", "min_count"} <= set(given):
        raise InvalidRequestError("repetition_detection must have max_pattern_size and min_count.")
    return RepetitionDetection(**given)


def _stop_when(value: object) -> StopWhen | None:
    if value is None or isinstance(value, StopWhen):
        return value
    return StopWhen(json=True) if value == "json" else StopWhen(**_fields_of(StopWhen, "stop_when", value))


def _stop_choices(value: object) -> tuple[str, ...]:
    texts = () if isinstance(value, str) or not isinstance(value, Sequence) else tuple(value)
    if not 1 <= len(texts) <= MAX_STOP_CHOICES or len(set(map(str, texts))) < len(texts):
        raise InvalidRequestError(f"stop_when: choice must be 1 to {MAX_STOP_CHOICES} different texts.")
    for text in texts:
        whole = isinstance(text, str) and 0 < len(text) <= MAX_STOP_CHARACTERS
        if not whole or not text[0].isalnum() or text != text.rstrip():
            raise InvalidRequestError(
                f"stop_when: each choice must have 1 to {MAX_STOP_CHARACTERS} characters, the first a letter or digit, "
                f"and no blank at the end, unlike {brief(text)}."
            )
    if (size := sum(map(len, texts))) > MAX_STOP_CHOICE_CHARACTERS:
        raise InvalidRequestError(
            f"stop_when: choice must have at most {MAX_STOP_CHOICE_CHARACTERS} characters in all, not {size}; give "
            "fewer texts or shorter ones."
        )
    return texts


def _fields_of(kind: type, name: str, value: object) -> dict[str, Any]:
    """A mapping with no other keys than the fields of a dataclass."""
    known = [f.name for f in fields(kind)]
    if not isinstance(value, Mapping) or not set(value) <= set(known):
        raise InvalidRequestError(f"{name} must be an object of {', '.join(known)}, not {brief(value)}.")
    return dict(value)


def _parsed(text: str) -> object:
    import json  # needed by few

    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidRequestError(f"structured_outputs: json is not JSON: {error}") from None


def _check_choices(choice: Sequence[str]) -> None:
    if (
        isinstance(choice, str)
        or not 1 <= len(choice) <= MAX_CHOICES
        or not all(isinstance(text, str) and text for text in choice)
    ):
        raise InvalidRequestError(f"structured_outputs: choice must be 1 to {MAX_CHOICES} texts that are not empty.")


def _charge(value: object, name: str, left: int, depth: int) -> int:
    """What is left of a budget of characters behind a JSON value; looks at no more of it than that.

    Raises InvalidRequestError where it is spent, the value is nested more deeply than `depth`, or is no text at all.
    """
    if depth < 0:
        raise InvalidRequestError(f"structured_outputs: {name} is nested deeper than {MAX_GRAMMAR_DEPTH}; flatten it.")
    if isinstance(value, str):
        left -= len(value)
        if left >= 0 and any("\ud800" <= sign <= "\udfff" for sign in value):
            raise InvalidRequestError(f"structured_outputs: {name} holds half a surrogate pair; send UTF-8.")
    elif isinstance(value, Mapping):
        for key, item in value.items():
            left = _charge(item, name, _charge(str(key), name, left - 4, depth), depth - 1)
    elif isinstance(value, Sequence):
        for item in value:
            left = _charge(item, name, left - 2, depth - 1)
    else:
        left -= 5
    if left < 0:
        raise InvalidRequestError(
            f"structured_outputs: {name} is too long; at most {MAX_GRAMMAR_CHARACTERS} characters are taken."
        )
    return left


def _stop_strings(value: object) -> tuple[str, ...]:
    strings = (value,) if isinstance(value, str) else () if value is None else value
    if not isinstance(strings, Sequence) or len(strings) > MAX_STOP_STRINGS:
        raise InvalidRequestError(f"stop must be a string or at most {MAX_STOP_STRINGS} strings.")
    for text in strings:
        if not isinstance(text, str) or not 0 < len(text) <= MAX_STOP_CHARACTERS:
            raise InvalidRequestError(
                f"each stop string must have 1 to {MAX_STOP_CHARACTERS} characters, unlike {brief(text)}."
            )
    return tuple(strings)


def _token_ids(name: str, value: object) -> tuple[int, ...]:
    ids = () if value is None else value
    if not isinstance(ids, Sequence) or isinstance(ids, (str, bytes)) or len(ids) > MAX_STOP_TOKEN_IDS:
        raise InvalidRequestError(f"{name} must be a list of at most {MAX_STOP_TOKEN_IDS} token ids.")
    return tuple(_integer(f"each of {name}", token_id, 0, MAX_TOKEN_COUNT) for token_id in ids)


def _biases(value: object) -> dict[int, float]:
    biases = {} if value is None else value
    if not isinstance(biases, Mapping) or len(biases) > MAX_BIASED_TOKENS:
        raise InvalidRequestError(f"logit_bias must map at most {MAX_BIASED_TOKENS} token ids to numbers.")
    return {
        _integer("each token id of logit_bias", key, 0, MAX_TOKEN_COUNT): _real("each logit_bias", bias, -100.0, 100.0)
        for key, bias in biases.items()
    }
