"""The public face, on a tiny random model."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.tiny_model import CONTEXT, write_tiny_model
from miaotui import LLM, SamplingParams
from miaotui.core import Request
from miaotui.errors import (
    CapacityError,
    ChatTemplateError,
    ConfigError,
    ContextLengthError,
    InvalidRequestError,
    ModelFileError,
    ModelNotFoundError,
)
from miaotui.graph.passes import PASSES

SEEDED = SamplingParams(seed=11, max_tokens=24, logprobs=1, ignore_eos=True)


@pytest.fixture
def llm(tiny_model: Path) -> Iterator[LLM]:
    with LLM(tiny_model, kv_memory_bytes=1 << 20) as llm:
        yield llm
        llm.loaded.engine.check_integrity()
        pool = llm.loaded.engine.scheduler.pool
        assert pool.num_free == pool.num_blocks


def outcome(completion: Any) -> tuple[Any, ...]:
    return completion.text, completion.token_ids, completion.finish_reason, completion.logprobs


def interrupt_at(llm: LLM, run: int, action: Callable[[], None]) -> None:
    """Do something in the middle of the engine's n-th step from now."""
    inner, count = llm.loaded.engine.runner.run, 0

    def wrapped(slices: Any) -> Any:
        nonlocal count
        count += 1
        if count == run:
            action()
        return inner(slices)

    llm.loaded.engine.runner.run = wrapped  # type: ignore[method-assign]


def send_sigint() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def test_prefix_hit_gives_identical_log_probabilities(tiny_model: Path) -> None:
    prompt = [i % 90 + 5 for i in range(100)]
    params = SamplingParams(temperature=0.0, max_tokens=20, ignore_eos=True, logprobs=3)
    with LLM(tiny_model, context_length=160, prefix_cache=False) as llm:
        want = [llm.generate(prompt, params) for _ in range(2)]
        assert [c.receipt.cached_tokens for c in want] == [0, 0]
    with LLM(tiny_model, context_length=160) as llm:
        got = [llm.generate(p, params) for p in (prompt, prompt, [*prompt[:50], *prompt[50:]])]
        assert [c.receipt.cached_tokens for c in got] == [0, 96, 96]
        assert all(c.logprobs == want[0].logprobs for c in got)
        llm.generate([*prompt[:40], 7], params)
        assert llm.generate(prompt[:60], params).receipt.cached_tokens == 48


def test_text_and_its_token_ids_are_the_same_prompt(llm: LLM) -> None:
    by_text = llm.generate("the cat and the dog", SEEDED)
    by_ids = llm.generate(llm.tokenizer.encode("the cat and the dog"), SEEDED)
    by_array = llm.generate(np.array(llm.tokenizer.encode("the cat and the dog")), SEEDED)
    assert outcome(by_text) == outcome(by_ids) == outcome(by_array)
    assert len(by_text.token_ids) == 24
    assert by_text.receipt.prompt_tokens == len(llm.tokenizer.encode("the cat and the dog"))


def test_one_prompt_gives_one_completion_and_several_a_list(llm: LLM) -> None:
    prompts = ["the", "and the dog is in the house", "x" * 200]
    together = llm.generate(prompts, SEEDED)
    assert [outcome(c) for c in together] == [outcome(llm.generate(p, SEEDED)) for p in prompts]
    assert llm.generate([], SEEDED) == []


def test_a_fusion_can_be_switched_off_and_no_bit_changes(llm: LLM, tiny_model: Path) -> None:
    prompt = llm.tokenizer.encode("the cat and the dog")
    kinds = [node.kind for node in llm.loaded.compiled.graph.nodes]
    changed = set()
    for disabled in [*([name] for name in PASSES), list(PASSES)]:
        with LLM(tiny_model, kv_memory_bytes=1 << 20, disabled_passes=disabled) as other:
            assert np.array_equal(other.logits(prompt), llm.logits(prompt)), disabled
            assert outcome(other.generate(prompt, SEEDED)) == outcome(llm.generate(prompt, SEEDED)), disabled
            if [node.kind for node in other.loaded.compiled.graph.nodes] != kinds:
                changed |= set(disabled)
    assert changed == set(PASSES)
    with pytest.raises(ConfigError, match=r"unknown fusion pass merge_everything; the passes are select_rows_early, "):
        LLM(tiny_model, disabled_passes=["merge_everything"])


def test_more_prompts_than_sequences_take_turns(llm: LLM, tiny_model: Path) -> None:
    prompts = ["the", "and", "in", "an the", "the an"]
    with LLM(tiny_model, kv_memory_bytes=1 << 20, max_sequences=2) as narrow:
        inner, most = narrow.loaded.engine.runner.run, 0

        def counted(slices: Any) -> Any:
            nonlocal most
            most = max(most, len(slices))
            return inner(slices)

        narrow.loaded.engine.runner.run = counted  # type: ignore[method-assign]
        together = narrow.generate(prompts, SEEDED)
    assert most == 2
    assert [outcome(c) for c in together] == [outcome(c) for c in llm.generate(prompts, SEEDED)]
    with pytest.raises(ConfigError, match="max_logit_rows must be a whole number from 17"):
        LLM(tiny_model, max_sequences=17)


def test_a_table_instead_of_parameters_is_refused_with_the_way_to_say_it(llm: LLM) -> None:
    for ask in (llm.generate, llm.chat, llm.stream):
        with pytest.raises(InvalidRequestError, match=r"params is a dict; give SamplingParams\(max_tokens=5"):
            ask("hi", {"max_tokens": 5})  # type: ignore[operator, arg-type]


def test_keywords_change_the_given_parameters(llm: LLM) -> None:
    assert len(llm.generate("the", SEEDED, max_tokens=3).token_ids) == 3
    assert llm.generate("the", temperature=0.0, max_tokens=5).receipt.output_tokens <= 5
    with pytest.raises(InvalidRequestError, match="unknown parameter max_new_tokens"):
        llm.generate("the", max_new_tokens=3)


def test_further_completions_follow_the_first(llm: LLM) -> None:
    several = llm.generate("the dog and the cat are in the house", SEEDED, n=3)
    assert len(several.others) == 2
    assert len({c.token_ids for c in (several, *several.others)}) == 3
    assert outcome(several) == outcome(llm.generate("the dog and the cat are in the house", SEEDED))
    assert [c.receipt.cached_tokens > 0 for c in (several, *several.others)] == [False, True, True]


def test_chunked_reading_gives_the_same_answer(tiny_model: Path, llm: LLM) -> None:
    prompt = "the cat sat on the mat and the dog sat on the cat. " * 6
    whole = llm.generate(prompt, SEEDED, prompt_logprobs=0)
    with LLM(tiny_model, max_tokens_per_step=17) as chunked:
        assert outcome(chunked.generate(prompt, SEEDED, prompt_logprobs=0)) == outcome(whole)
        assert chunked.generate(prompt, SEEDED, prompt_logprobs=0).prompt_logprobs == whole.prompt_logprobs


def test_stream_parts_add_up_to_what_generate_says(llm: LLM) -> None:
    with llm.stream("the cat", SEEDED) as stream:
        assert stream.completion is None
        parts = list(stream)
    assert "".join(part.text for part in parts) == llm.generate("the cat", SEEDED).text
    assert stream.completion is not None
    assert outcome(stream.completion) == outcome(llm.generate("the cat", SEEDED))


def test_interleaved_streams_do_not_disturb_each_other(llm: LLM) -> None:
    first, second = llm.stream("the cat", SEEDED), llm.stream("and the dog", SEEDED)
    texts = ["", ""]
    for a, b in zip(first, second, strict=True):
        texts[0] += a.text
        texts[1] += b.text
    assert texts == [llm.generate("the cat", SEEDED).text, llm.generate("and the dog", SEEDED).text]


@pytest.mark.parametrize("leave", ["close", "with", "drop", "error"])
def test_leaving_a_stream_early_frees_its_memory(llm: LLM, leave: str) -> None:
    stream = llm.stream("the cat", SEEDED)
    said = "".join(next(stream).text for _ in range(5))
    if leave == "close":
        stream.close()
    elif leave == "with":
        with stream:
            pass
    elif leave == "error":
        with pytest.raises(ZeroDivisionError), stream:
            raise ZeroDivisionError
    if leave != "drop":
        assert stream.completion is not None
        assert stream.completion.finish_reason == "cancelled"
        assert stream.completion.text.startswith(said)
        assert len(stream.completion.token_ids) == 5
    del stream
    assert not llm.loaded.engine.scheduler.has_work


def test_a_stream_collected_in_the_middle_of_a_step_neither_hangs_nor_disturbs(llm: LLM) -> None:
    whole = llm.generate("the cat", SEEDED)
    dropped = [llm.stream("the dog", SEEDED, max_tokens=200)]
    interrupt_at(llm, 3, dropped.clear)
    assert outcome(llm.generate("the cat", SEEDED)) == outcome(whole)
    assert not llm.loaded.engine.scheduler.has_work


def test_ctrl_c_ends_a_stream_and_keeps_what_was_said(llm: LLM) -> None:
    whole = llm.generate("the cat", SEEDED)
    interrupt_at(llm, 6, send_sigint)
    stream = llm.stream("the cat", SEEDED)
    with pytest.raises(KeyboardInterrupt):
        list(stream)
    completion = stream.completion
    assert completion is not None
    assert completion.finish_reason == "cancelled"
    assert completion.token_ids == whole.token_ids[:6]  # the step that was interrupted still counts
    assert whole.text.startswith(completion.text.removesuffix("\ufffd"))
    assert not llm.loaded.engine.scheduler.has_work
    assert outcome(llm.generate("the cat", SEEDED)) == outcome(whole)


def test_ctrl_c_ends_generate_and_frees_everything(llm: LLM) -> None:
    interrupt_at(llm, 3, send_sigint)
    with pytest.raises(KeyboardInterrupt):
        llm.generate(["the cat", "the dog", "and"], SEEDED, n=2)
    assert not llm.loaded.engine.scheduler.has_work
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize("call", [lambda llm: llm.stream("the cat", SEEDED), lambda llm: llm.logits("the cat")])
def test_ctrl_c_while_a_request_is_queued_leaves_nothing_behind(llm: LLM, call: Callable[[LLM], Any]) -> None:
    add = llm.loaded.engine.add

    def interrupted(*arguments: Any, **options: Any) -> Any:
        send_sigint()
        return add(*arguments, **options)

    llm.loaded.engine.add = interrupted  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        call(llm)
    assert not llm.loaded.engine.scheduler.has_work
    assert not llm._parts


def test_the_engine_knows_whether_a_prompt_opens_a_block_of_reasoning(llm: LLM) -> None:
    opens = llm.loaded.engine.vocabulary.opens_reasoning
    assert opens(llm.encode_prompt("What is it?\n<think>\n"))
    assert not opens(llm.encode_prompt("<think>\nHm.</think>\n"))
    assert not opens(())


def test_an_end_within_a_call_cannot_be_asked_for(llm: LLM) -> None:
    tools = [{"type": "function", "function": {"name": "note"}}]
    asked: Any = {"tools": tools, "stop_when": "json", "max_tokens": 2}
    for ask in (llm.chat, llm.stream):
        with pytest.raises(InvalidRequestError, match="stop_when must be left out where tools are offered"):
            ask([{"role": "user", "content": "the cat"}], **asked)
    assert llm.chat("the cat", **asked | {"tools": []}).receipt.output_tokens


def test_a_template_of_ones_own_takes_the_place_of_the_models(llm: LLM, tiny_model: Path) -> None:
    with LLM(tiny_model, kv_memory_bytes=1 << 20, chat_template="{{ messages[0].content }} and") as own:
        assert own.encode_chat("the cat") == own.tokenizer.encode("the cat and")
        assert outcome(own.chat("the cat", SEEDED)) == outcome(llm.generate("the cat and", SEEDED))
        assert own.chat_template != llm.chat_template
    with pytest.raises(ChatTemplateError), LLM(tiny_model, chat_template="{% if %}") as broken:
        broken.chat("the cat")


def test_an_interrupt_between_two_prompts_leaves_neither_behind(llm: LLM) -> None:
    def prompts() -> Iterator[list[int]]:
        yield [5, 6]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        llm._complete(prompts(), SEEDED)  # type: ignore[arg-type]
    assert not llm.loaded.engine.scheduler.has_work


def test_a_broken_step_ends_the_requests_of_the_call_and_no_more(llm: LLM) -> None:
    other = llm.stream("the dog", SEEDED)
    said = [next(other).text]

    def fail() -> None:
        raise OSError("broken")

    interrupt_at(llm, 2, fail)
    with pytest.raises(OSError, match="broken"):
        llm.generate("the cat", SEEDED)
    said += [part.text for part in other]
    assert "".join(said) == llm.generate("the dog", SEEDED).text


def test_threads_take_turns_without_mixing_answers(llm: LLM) -> None:
    prompts = ["the cat", "and the dog", "in the house", "x"]
    expected = [llm.generate(p, SEEDED).text for p in prompts]
    answers: dict[str, str] = {}
    threads = [threading.Thread(target=lambda p=p: answers.update({p: llm.generate(p, SEEDED).text})) for p in prompts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [answers[p] for p in prompts] == expected


def test_damaged_weights_are_a_typed_error_and_leave_nothing_behind(tmp_path: Path) -> None:
    with LLM(write_tiny_model(tmp_path / "bad.gguf", damage="output_norm.weight")) as llm:
        with pytest.raises(ModelFileError, match="not numbers"):
            llm.generate("the", max_tokens=3)
        assert not llm.loaded.engine.scheduler.has_work
        llm.loaded.engine.check_integrity()


@pytest.fixture(scope="module")
def half_damaged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LLM]:
    """A model that computes nonsense behind an "x", and only there."""
    with LLM(write_tiny_model(tmp_path_factory.mktemp("models") / "half.gguf", nonsense="x")) as llm:
        yield llm


def test_what_cannot_be_computed_for_one_prompt_leaves_the_others_alone(half_damaged: LLM, llm: LLM) -> None:
    alone = half_damaged.generate("the cat", SEEDED)
    with half_damaged.stream("the cat", SEEDED) as stream:
        with pytest.raises(ModelFileError, match="not numbers"):
            half_damaged.generate("an x", SEEDED)
        assert "".join(part.text for part in stream) == alone.text
    assert stream.completion is not None
    assert stream.completion.finish_reason == alone.finish_reason
    half_damaged.loaded.engine.check_integrity()


@pytest.mark.parametrize("changes", [{}, {"logprobs": 1}, {"prompt_logprobs": 1}])
def test_a_stream_raises_what_cannot_be_computed(half_damaged: LLM, changes: dict[str, int]) -> None:
    with half_damaged.stream("an x", SEEDED, **changes) as stream:
        assert next(stream).finish_reason == "error"
        with pytest.raises(ModelFileError, match="not numbers"):
            next(stream)
    assert not half_damaged.loaded.engine.scheduler.has_work
    half_damaged.loaded.engine.check_integrity()


def test_score_is_the_log_probability_of_each_token_after_all_before_it(llm: LLM) -> None:
    text = "the cat and the dog"
    whole = llm.generate(text, max_tokens=0, prompt_logprobs=0)
    assert whole.prompt_logprobs is not None
    expected = [entry.logprob for entry in whole.prompt_logprobs if entry is not None]
    score = llm.score(text)
    assert list(score.logprobs) == expected
    assert score.total == pytest.approx(sum(expected))
    assert score.perplexity == pytest.approx(np.exp(-np.mean(expected)))
    ids = llm.tokenizer.encode(text)
    behind = llm.score(ids[:6], ids[6:])
    assert (behind.token_ids, list(behind.logprobs)) == (tuple(ids[6:]), expected[5:])


def test_logits_are_those_that_scores_and_samples_come_from(llm: LLM, tiny_model: Path) -> None:
    ids = llm.tokenizer.encode("the cat sat on the mat and the dog in the house. " * 3)
    logits = llm.logits(ids)
    assert logits.shape == (len(ids), llm.spec.vocab_size)
    wide = logits.astype(np.float64)
    exact = wide - np.log(np.exp(wide).sum(axis=1, keepdims=True))
    assert llm.score(ids).logprobs == pytest.approx(exact[np.arange(len(ids) - 1), ids[1:]].tolist(), abs=1e-5)
    assert llm.generate(ids, temperature=0.0, max_tokens=1).token_ids == (int(logits[-1].argmax()),)
    with LLM(tiny_model, max_tokens_per_step=17) as chunked:
        assert (chunked.logits(ids) == logits).all()


def test_logits_of_a_part_are_those_of_the_whole(llm: LLM) -> None:
    ids = llm.tokenizer.encode("the cat sat on the mat and the dog in the house. " * 3)
    logits = llm.logits(ids)
    for first, last in ((0, len(ids)), (32, 64), (64, len(ids)), (len(ids) - 1, len(ids))):
        assert (llm.logits(ids[:last], first=first) == logits[first:last]).all()
    for first in (-1, len(ids)):
        with pytest.raises(InvalidRequestError, match="first must be one of"):
            llm.logits(ids, first=first)


def test_scores_of_many_are_those_of_each(llm: LLM) -> None:
    pairs = [("the cat", " and the dog"), ("the", " end"), ("the cat", " in the house")]
    logits = llm.logits("the cat and")
    best = int(logits[-1].argmax())
    scores = llm.score_all([*pairs, ("the cat and", [best])])
    assert [one.logprobs for one in scores[:3]] == [llm.score(*pair).logprobs for pair in pairs]
    assert [one.is_greedy for one in scores] == [False, False, False, True]
    assert llm.score("the cat").is_greedy is None


@pytest.mark.parametrize(("prompt", "continuation"), [("t", None), ("the", ""), ("", "x"), ("", None)])
def test_there_must_be_something_to_score(llm: LLM, prompt: str, continuation: str | None) -> None:
    with pytest.raises(InvalidRequestError):
        llm.score(prompt, continuation)


def test_what_exceeds_the_context_is_refused_whole(llm: LLM) -> None:
    assert llm.context_length == CONTEXT
    with pytest.raises(ContextLengthError, match=rf"{CONTEXT + 1} tokens.*holds {CONTEXT}"):
        llm.generate([5] * (CONTEXT + 1), max_tokens=1)
    with pytest.raises(ContextLengthError, match="lower max_tokens to at most 24"):
        llm.generate([5] * (CONTEXT - 24), max_tokens=25)
    assert len(llm.generate([5] * (CONTEXT - 24), SEEDED).token_ids) == 24
    assert len(llm.generate([5] * (CONTEXT - 24), SEEDED, max_tokens=None).token_ids) == 24


def test_one_refused_prompt_among_several_leaves_nothing_running(llm: LLM) -> None:
    with pytest.raises(ContextLengthError):
        llm.generate(["the", "x" * 2000], SEEDED)
    assert not llm.loaded.engine.scheduler.has_work


def test_a_small_kv_budget_shortens_the_context_and_says_so(tiny_model: Path) -> None:
    with LLM(tiny_model, kv_memory_bytes=16 * 1024) as llm:
        assert 0 < llm.context_length < CONTEXT
        with pytest.raises(ContextLengthError, match=f"raise context_length .this model allows {CONTEXT}"):
            llm.generate([5] * (llm.context_length + 1), max_tokens=1)
    with pytest.raises(CapacityError, match=r"needs .*B of KV memory, but 16.0 kB .* enough for \d+ tokens"):
        LLM(tiny_model, kv_memory_bytes=16_000, context_length=CONTEXT)
    with pytest.raises(CapacityError, match=r"enough for 0 tokens; the least is .* kB, for 16"):
        LLM(tiny_model, kv_memory_bytes=1)
    with pytest.raises(ContextLengthError, match=f"{CONTEXT + 1} is more than this model's {CONTEXT}"):
        LLM(tiny_model, context_length=CONTEXT + 1)


@pytest.mark.parametrize(
    "bad",
    [
        {"activations": "int4"},
        {"kv_dtype": "f64"},
        {"context_length": 0},
        {"kv_memory_bytes": 0},
        {"max_tokens_per_step": 3},
        {"max_tokens_per_step": 1 << 17},
        {"max_logit_rows": 2},
        {"context_length": 1.5},
        {"kv_memory_bytes": True},
    ],
    ids=str,
)
def test_unusable_settings_are_named(tiny_model: Path, bad: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(bad))):
        LLM(tiny_model, **bad)


@pytest.mark.parametrize(
    "bad", [5, None, {"role": "user"}, [None], [[1.5]], [["x"]], [b"x"], b"", [[]], "", [{}]], ids=str
)
def test_prompts_of_another_kind_are_refused(llm: LLM, bad: Any) -> None:
    with pytest.raises(InvalidRequestError):
        llm.generate(bad, max_tokens=1)
    if bad != [{}]:
        with pytest.raises(InvalidRequestError):
            llm.stream(bad, max_tokens=1)


def test_a_model_that_is_not_there_is_named(tmp_path: Path) -> None:
    for missing in (tmp_path / "none.gguf", str(tmp_path / "none.gguf")):
        with pytest.raises(ModelNotFoundError, match=r"none\.gguf"):
            LLM(missing)


def test_a_closed_model_says_so(tiny_model: Path) -> None:
    llm = LLM(tiny_model)
    stream = llm.stream("the", SEEDED)
    next(stream)
    llm.close()
    llm.close()
    assert stream.completion is not None
    assert stream.completion.finish_reason == "cancelled"
    with pytest.raises(InvalidRequestError, match="closed"):
        llm.generate("the")


def test_requests_are_frozen() -> None:
    request = Request(0, (1,), SEEDED, 0, 0.0)
    with pytest.raises(AttributeError):
        request.seed = 3  # type: ignore[misc]


def test_many_prompts_tell_how_far_they_are(tiny_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    seen: list[Any] = []
    with LLM(tiny_model) as llm:
        llm.generate(["one", "two", "three"], max_tokens=5, ignore_eos=True, progress=seen.append)
        assert (seen[-1].done, seen[-1].total, seen[-1].output_tokens) == (3, 3, 15)
        llm.generate(["one", "two"], max_tokens=5)
        assert capsys.readouterr().err == ""  # no terminal
        llm.generate(["one", "two"], max_tokens=5, progress=True)
        assert "2/2 answers" in capsys.readouterr().err
        assert llm.generate([], max_tokens=5) == []
