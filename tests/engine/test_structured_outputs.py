"""Outputs keep to what was asked for, whoever else is served, and cost no forward pass where there is no choice."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.fakes import EOS, VOCAB, drain, make_engine
from failure_rate import failure_rate_bound
from miaotui import LLM, Completion, SamplingParams
from miaotui.core import StructuredOutputs
from miaotui.errors import InvalidRequestError

NUM_SCHEMAS = 500
CLOSING = {3 + ord(sign): 15.0 for sign in '"}]'}  # or noise would go on for ever
PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 12},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "tags": {"type": "array", "items": {"enum": ["a", "b", "naïve"]}, "maxItems": 3},
    },
    "required": ["name", "age", "tags"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def llm(tiny_model: Path) -> Iterator[LLM]:
    with LLM(tiny_model) as model:
        yield model
        model.loaded.engine.check_integrity()


def say(llm: LLM, wanted: dict[str, Any], **options: Any) -> str:
    completion = llm.generate("It is", structured_outputs=wanted, **{"max_tokens": 900, "seed": 1, **options})
    assert completion.finish_reason == "stop", completion.stop_reason
    return completion.text


def test_every_kind_of_output_keeps_to_what_was_asked(llm: LLM) -> None:
    for seed in range(3):
        assert isinstance(json.loads(say(llm, {"json_object": True}, seed=seed, logit_bias=CLOSING)), dict)
        jsonschema.validate(json.loads(say(llm, {"json": PERSON}, seed=seed)), PERSON)
        assert re.fullmatch(r"[0-9]{4}-[0-9]{2}x+", say(llm, {"regex": "[0-9]{4}-[0-9]{2}x{1,9}"}, seed=seed))
        choices = ["yes", 'no "really"\n', "更 🙂", "\\d", "a/b", "\x7f\x01"]
        assert say(llm, {"choice": choices}, seed=seed) in choices
        lark = 'start: sum\nsum: NUMBER ("+" NUMBER){1,3} "=" \nNUMBER: /[0-9]{1,3}/'
        assert re.fullmatch(r"[0-9]{1,3}(\+[0-9]{1,3}){1,3}=", say(llm, {"grammar": lark}, seed=seed))


def test_a_schema_may_be_given_as_text(llm: LLM) -> None:
    assert say(llm, {"json": json.dumps(PERSON)}) == say(llm, {"json": PERSON})


def test_what_leaves_no_choice_is_not_asked_of_the_model(llm: LLM) -> None:
    constant = {"const": {"a long key": "a long value that could not be another one", "n": 12345}}
    completion = llm.generate("It is", structured_outputs={"json": constant}, max_tokens=300)
    assert json.loads(completion.text) == constant["const"]
    assert completion.receipt.forced_tokens >= completion.receipt.output_tokens - 2
    with_scores = llm.generate("It is", structured_outputs={"json": constant}, max_tokens=300, logprobs=0)
    assert with_scores.text == completion.text
    assert with_scores.receipt.forced_tokens == 0  # the model has to be asked how likely they were
    assert with_scores.logprobs is not None
    assert len(with_scores.logprobs) == with_scores.receipt.output_tokens


def test_an_output_ends_where_it_is_complete_even_if_end_of_text_is_ignored(llm: LLM) -> None:
    completion = llm.generate("It is", structured_outputs={"regex": "ab?"}, ignore_eos=True, max_tokens=50)
    assert completion.text in ("a", "ab")
    assert completion.finish_reason == "stop"


def test_max_tokens_still_bounds_forced_tokens(llm: LLM) -> None:
    completion = llm.generate("It is", structured_outputs={"choice": ["x" * 100]}, max_tokens=7)
    assert (completion.text, completion.finish_reason, len(completion.token_ids)) == ("x" * 7, "length", 7)


def test_stop_strings_still_end_the_text(llm: LLM) -> None:
    completion = llm.generate("It is", structured_outputs={"choice": ["abcdef"]}, stop="cd", max_tokens=50)
    assert (completion.text, completion.finish_reason, completion.stop_reason) == ("ab", "stop", "cd")


def test_each_of_several_completions_keeps_to_the_grammar(llm: LLM) -> None:
    first = llm.generate("It is", structured_outputs={"json": PERSON}, n=3, max_tokens=900, seed=5)
    texts = {one.text for one in (first, *first.others)}
    assert len(texts) > 1
    for text in texts:
        jsonschema.validate(json.loads(text), PERSON)


def test_structured_and_free_outputs_run_together_with_the_bits_they_have_alone(llm: LLM) -> None:
    def options(number: int) -> dict[str, Any]:
        wanted = [None, {"json": PERSON}, {"regex": "[a-z ]{5,40}!"}][number % 3]
        return {"structured_outputs": wanted, "seed": number, "max_tokens": 120}

    prompts = [f"Number {number} is" for number in range(9)]
    alone = [llm.generate(prompt, **options(n)).token_ids for n, prompt in enumerate(prompts)]
    streams = [llm.stream(prompt, **options(n)) for n, prompt in enumerate(prompts)]
    together = []
    for stream in streams:
        said = tuple(token for part in stream for token in part.token_ids)
        assert stream.completion is not None
        assert said == stream.completion.token_ids
        together.append(said)
    assert together == alone


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        ({}, "one of json, json_object, regex, choice and grammar, not 0"),
        ({"regex": "a", "choice": ["a"]}, "not 2"),
        ({"regex": 5}, "regex cannot be 5"),
        ({"yaml": "a"}, "must be an object of json"),
        ({"choice": []}, "1 to 1024 texts"),
        ({"choice": "abc"}, "1 to 1024 texts"),
        ({"choice": ["a", ""]}, "not empty"),
        ({"json": "[1"}, "json is not JSON"),
        ({"json": "17"}, "json cannot be 17"),
        ({"json": {"a": "x" * 70000}}, "at most 65536 characters"),
        ({"json": {"enum": [1] * 10**6}}, "at most 65536 characters"),
        ({"regex": "a\ud800"}, "half a surrogate pair"),
    ],
)
def test_wrong_wishes_are_refused_by_name(wanted: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidRequestError, match=words):
        SamplingParams(structured_outputs=wanted)


def test_nesting_is_bounded() -> None:
    schema: dict[str, Any] = {"type": "integer"}
    for _ in range(40):
        schema = {"type": "object", "properties": {"a": schema}}
    with pytest.raises(InvalidRequestError, match="nested deeper than 32"):
        SamplingParams(structured_outputs={"json": schema})
    with pytest.raises(InvalidRequestError, match="json is not JSON"):
        SamplingParams(structured_outputs={"json": "[" * 60_000})


def test_min_tokens_cannot_be_kept_beside_a_grammar() -> None:
    with pytest.raises(InvalidRequestError, match="min_tokens must be 0"):
        SamplingParams(structured_outputs={"json_object": True}, min_tokens=3)


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        ({"regex": "(a"}, "invalid regex"),
        ({"grammar": "start: missing"}, 'unknown name: "missing"'),
        ({"json": {"type": "objekt"}}, "Invalid type: objekt"),
        ({"json": {"not": {"type": "string"}}}, 'Unimplemented keys: \\["not"\\]'),
    ],
)
def test_what_cannot_be_compiled_is_refused_before_anything_runs(llm: LLM, wanted: Any, words: str) -> None:
    with pytest.raises(InvalidRequestError, match=words):
        llm.generate("It is", structured_outputs=wanted)
    assert not llm.loaded.engine.scheduler.has_work


def test_an_expression_that_explodes_is_refused_or_ended(llm: LLM) -> None:
    wanted = {"regex": "((a{1000}){1000}){1000}"}
    with suppress(InvalidRequestError):  # where the processor is too slow for it to be compiled in time
        completion = llm.generate("It is", structured_outputs=wanted, max_tokens=20)
        assert completion.finish_reason == "error"
        assert "cannot be followed" in str(completion.stop_reason)


def test_keywords_that_cannot_be_enforced_are_ignored_only_on_request(llm: LLM) -> None:
    wanted = {"json": {"type": "boolean", "not": {"const": 3}}, "strict": False}
    assert say(llm, wanted) in ("true", "false")


def test_an_output_that_cannot_go_on_is_an_error_and_says_nothing_wrong(llm: LLM) -> None:
    for seed in range(5):
        wanted = {"grammar": 'start: "a" X\nX: /[^\\s\\S]/'}
        try:
            completion = llm.generate("It is", structured_outputs=wanted, max_tokens=9, seed=seed)
        except InvalidRequestError:
            continue
        assert completion.finish_reason == "error"
        assert completion.text in ("", "a")


def test_a_parser_that_breaks_down_ends_one_output_and_not_the_engine(
    llm: LLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken(BaseException):
        """As a panic of the native parser is."""

    def fail(self: Any) -> None:
        raise Broken

    free = llm.generate("It is", max_tokens=5, seed=1).text
    with monkeypatch.context() as patch:
        patch.setattr("miaotui.engine.grammar.Constraint.compute", lambda self: self._do(lambda: fail(self), None))
        broken = llm.stream("It is", structured_outputs={"regex": "[a-z]{9}"}, max_tokens=9)
        beside = llm.stream("It is", max_tokens=5, seed=1)
        assert "".join(part.text for part in beside) == free
        list(broken)
    assert broken.completion is not None
    assert broken.completion.finish_reason == "error"
    assert "Broken" in str(broken.completion.stop_reason)


def test_grammars_that_took_long_are_not_kept(llm: LLM, monkeypatch: pytest.MonkeyPatch) -> None:
    compiler = llm.loaded.grammars
    llm.generate("It is", structured_outputs={"regex": "[a-z]{30}"}, max_tokens=9)
    kept = len(compiler._kept)
    monkeypatch.setattr("miaotui.engine.grammar.HEAVY_S", -1.0)
    llm.generate("It is", structured_outputs={"regex": "[a-z]{30}"}, max_tokens=9)
    llm.generate("It is", structured_outputs={"regex": "[a-z]{31}"}, max_tokens=9)
    assert len(compiler._kept) == kept


def test_an_output_whose_grammar_takes_too_long_ends_and_says_so(llm: LLM, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("miaotui.engine.grammar.MEAN_MASK_S", -1.0)
    completion = llm.generate("It is", structured_outputs={"regex": "[a-z]{100}"}, max_tokens=50)
    assert completion.finish_reason == "error"
    assert "takes too long" in str(completion.stop_reason)


def test_a_machine_that_stood_still_once_ends_no_output(llm: LLM, monkeypatch: pytest.MonkeyPatch) -> None:
    class Still:
        """A processor's clock that jumps by a second within the third call, and within any from the given one on."""

        def __init__(self, always_from: int) -> None:
            self.num_asked, self.always_from = 0, always_from

        def __call__(self) -> float:
            self.num_asked += 1
            return float(self.num_asked >= 6) + max(self.num_asked - self.always_from, 0)

    def said(always_from: int) -> Completion:
        llm.generate("It is", structured_outputs={"regex": "[a-z]{9}"}, max_tokens=50)  # compiled and kept
        with monkeypatch.context() as patch:
            patch.setattr("miaotui.engine.grammar.time.thread_time", Still(always_from))
            return llm.generate("It is", structured_outputs={"regex": "[a-z]{9}"}, max_tokens=50, seed=1)

    once = said(always_from=10**9)
    assert (once.finish_reason, len(once.text)) == ("stop", 9), once.stop_reason
    assert said(always_from=6).finish_reason == "error"
    with monkeypatch.context() as patch:
        patch.setattr("miaotui.engine.grammar.time.thread_time", iter([0.0, 1.0, 1.0, 1.1]).__next__)
        llm.loaded.grammars.compile(StructuredOutputs(regex="[a-z]{8}"))
        patch.setattr("miaotui.engine.grammar.time.thread_time", iter([0.0, 1.0, 1.0, 2.0]).__next__)
        with pytest.raises(InvalidRequestError, match="1000 ms to compile, of 250 allowed"):
            llm.loaded.grammars.compile(StructuredOutputs(regex="[a-z]{7}"))


# Schemas from a generator: whatever the model says (this one is noise), the output is valid.

_names = st.text("abcdefgé_ ", min_size=1, max_size=6)
_scalars = st.one_of(
    st.just({"type": "boolean"}),
    st.just({"type": "null"}),
    st.tuples(st.integers(-999, 999), st.integers(0, 500)).map(
        lambda t: {"type": "integer", "minimum": t[0], "maximum": t[0] + t[1]}
    ),
    st.tuples(st.integers(-50, 50), st.integers(1, 50)).map(
        lambda t: {"type": "number", "minimum": t[0], "maximum": t[0] + t[1]}
    ),
    st.tuples(st.integers(0, 4), st.integers(0, 8)).map(
        lambda t: {"type": "string", "minLength": t[0], "maxLength": t[0] + t[1]}
    ),
    st.sampled_from(["^[a-z]{1,5}$", "^(x|yz)+[0-9]$", "^\\d{3}-\\d{2}$"]).map(
        lambda pattern: {"type": "string", "pattern": pattern}
    ),
    st.sampled_from(["date", "uuid", "ipv4"]).map(lambda name: {"type": "string", "format": name}),
    st.lists(st.one_of(st.integers(-9, 99), _names, st.booleans(), st.none()), min_size=1, max_size=4).map(
        lambda values: {"enum": values}
    ),
    _names.map(lambda value: {"const": {"is": [value, 1]}}),
)


def _containers(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    objects = st.dictionaries(_names, inner, min_size=1, max_size=4).flatmap(
        lambda properties: st.lists(st.sampled_from(sorted(properties)), unique=True).map(
            lambda required: {
                "type": "object",
                "properties": properties,
                "required": required,
                "additionalProperties": False,
            }
        )
    )
    arrays = st.tuples(inner, st.integers(0, 2), st.integers(0, 2)).map(
        lambda t: {"type": "array", "items": t[0], "minItems": t[1], "maxItems": t[1] + t[2]}
    )
    tuples = st.lists(inner, min_size=1, max_size=3).map(
        lambda items: {"type": "array", "prefixItems": items, "minItems": len(items), "items": False}
    )
    return st.one_of(objects, arrays, tuples, st.lists(inner, min_size=1, max_size=3).map(lambda a: {"anyOf": a}))


schemas = st.recursive(_scalars, _containers, max_leaves=8)


def test_random_schemas_give_valid_json(llm: LLM) -> None:
    invalid: list[tuple[object, str, str | int | None]] = []
    seen = 0

    @settings(max_examples=NUM_SCHEMAS, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(schemas, st.integers(0, 2**32))
    def one_schema(schema: dict[str, Any], seed: int) -> None:
        nonlocal seen
        completion = llm.generate("It is", structured_outputs={"json": schema}, max_tokens=1000, seed=seed)
        seen += 1
        if completion.finish_reason != "stop" or not _is_valid(completion.text, schema):
            invalid.append((schema, completion.text, completion.stop_reason))

    one_schema()
    bound = failure_rate_bound(len(invalid), seen)
    print(f"{seen} JSON schemas, {len(invalid)} invalid outputs; at most {bound:.2%} with 95 % confidence")
    assert seen >= NUM_SCHEMAS
    assert not invalid


def _is_valid(text: str, schema: dict[str, Any]) -> bool:
    checker = jsonschema.FormatChecker(["date", "uuid", "ipv4"])
    return bool(jsonschema.Draft202012Validator(schema, format_checker=checker).is_valid(json.loads(text)))


# The engine with a grammar of its own making: whole turns of three tokens, the last two of which are forced.


class Turns:
    """A constraint: letters 0 … 9, each followed by 20, 21, …; complete after some turns."""

    def __init__(self, num_turns: int, num_forced: int) -> None:
        self.said: list[int] = []
        self.num_turns, self.length = num_turns, 1 + num_forced
        self.allowed = np.zeros(-(-VOCAB // 32), np.uint32)
        self.error = ""

    def compute(self) -> None:
        self.allowed[:] = 0
        for token in range(10) if len(self.said) % self.length == 0 else self.forced()[:1]:
            self.allowed[token // 32] |= np.uint32(1 << (token % 32))

    def accept(self, token_id: int) -> None:
        if len(self.said) % self.length and token_id != self.forced()[0]:
            self.error = "wrong token"
        self.said.append(token_id)

    def forced(self) -> list[int]:
        at = len(self.said) % self.length
        return [20 + place for place in range(at - 1, self.length - 1)] if at else []

    @property
    def is_complete(self) -> bool:
        return len(self.said) >= self.num_turns * self.length


class TurnGrammar:
    def __init__(self, num_turns: int, num_forced: int) -> None:
        self.begin = lambda: Turns(num_turns, num_forced)


@given(
    st.lists(st.tuples(st.integers(1, 40), st.integers(0, 30), st.booleans()), min_size=1, max_size=5),
    st.sampled_from([(8, 12), (16, 12), (64, 32), (20, 9)]),
)
@settings(max_examples=60, deadline=None)
def test_forced_tokens_survive_company_chunks_and_preemption(
    wishes: list[tuple[int, int, bool]], size: tuple[int, int]
) -> None:
    num_blocks, max_tokens = size

    def run(which: list[int], blocks: int, tokens: int) -> dict[int, tuple[int, ...]]:
        engine, _ = make_engine(num_blocks=blocks, max_tokens=tokens)
        added = {}
        for number in which:
            length, num_forced, with_logprobs = wishes[number]
            grammar: Any = TurnGrammar(3, num_forced)
            logprobs = 0 if with_logprobs else None
            params = SamplingParams(temperature=0.0, max_tokens=60, logprobs=logprobs)
            added[number] = engine.add([number + 1] * length, params, grammar=grammar)[0]
        drain(engine)
        assert all(sequence.finish_reason in ("stop", "length") for sequence in added.values())
        return {number: sequence.completion().token_ids for number, sequence in added.items()}

    together = run(list(range(len(wishes))), num_blocks, max_tokens)
    for number in range(len(wishes)):
        assert run([number], 64, 64)[number] == together[number]
        assert EOS not in together[number]
