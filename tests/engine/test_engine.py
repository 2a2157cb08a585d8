"""The step loop: what comes out depends on the prompt, the parameters and nothing else."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.fakes import EOS, GREEDY, VOCAB, drain, greedy_tokens, logits_after, make_engine
from miaotui.core import SamplingParams
from miaotui.engine.sequence import Sequence
from miaotui.errors import ContextLengthError

PROMPTS = st.lists(st.integers(0, VOCAB - 2), min_size=1, max_size=60)
PARAMS = st.builds(
    SamplingParams,
    temperature=st.sampled_from([0.0, 1.0]),
    seed=st.integers(0, 9),
    top_k=st.sampled_from([0, 5]),
    repetition_penalty=st.sampled_from([1.0, 1.4]),
    max_tokens=st.integers(0, 24),
    n=st.integers(1, 3),
    logprobs=st.sampled_from([None, 0, 2]),
    prompt_logprobs=st.sampled_from([None, 0, 2]),
    stop=st.sampled_from([(), ("AB",), ("Q", "XYZ")]),
)


def outcome(sequence: Sequence) -> tuple[Any, ...]:
    done = sequence.completion()
    return (done.text, done.token_ids, done.finish_reason, done.stop_reason, done.logprobs, done.prompt_logprobs)


def alone(prompt: list[int], params: SamplingParams) -> list[tuple[Any, ...]]:
    engine, _ = make_engine(max_tokens=256, max_logit_rows=64)
    sequences = engine.add(prompt, params)
    drain(engine)
    return [outcome(sequence) for sequence in sequences]


def test_greedy_output_is_the_programs_own() -> None:
    engine, program = make_engine()
    (sequence,) = engine.add([1, 2, 3], GREEDY)
    drain(engine)
    assert sequence.completion().token_ids == tuple(greedy_tokens([1, 2, 3], 20))
    assert len(program.runs) == sequence.num_output_tokens  # one native call per step, the last token is never read


@settings(max_examples=60)
@given(
    st.lists(st.tuples(PROMPTS, PARAMS), min_size=1, max_size=5),
    st.integers(4, 40),
    st.integers(3, 9),
    st.integers(24, 60),
)
def test_results_do_not_depend_on_company_chunks_or_memory(
    requests: list[tuple[list[int], SamplingParams]], max_tokens: int, max_rows: int, num_blocks: int
) -> None:
    engine, _ = make_engine(max_tokens=max_tokens, max_logit_rows=max_rows, max_sequences=3, num_blocks=num_blocks)
    groups = [engine.add(prompt, params) for prompt, params in requests]
    drain(engine)
    for group, (prompt, params) in zip(groups, requests, strict=True):
        assert [outcome(sequence) for sequence in group] == alone(prompt, params)


@given(PARAMS, PROMPTS)
def test_parts_add_up_to_the_completion(params: SamplingParams, prompt: list[int]) -> None:
    engine, _ = make_engine()
    sequences = engine.add(prompt, params)
    updates = drain(engine)
    for sequence in sequences:
        parts = [delta for owner, delta in updates if owner is sequence]
        done = sequence.completion()
        assert "".join(part.text for part in parts) == done.text
        assert sum((part.token_ids for part in parts), ()) == done.token_ids
        assert [part.finish_reason for part in parts] == [None] * (len(parts) - 1) + [done.finish_reason]
        if done.logprobs is not None:
            assert sum((part.logprobs or () for part in parts), ()) == done.logprobs


def test_completions_of_one_prompt_share_its_full_pages_and_read_them_once() -> None:
    engine, program = make_engine()
    prompt = list(range(50))
    sequences = engine.add(prompt, SamplingParams(n=4, max_tokens=8, seed=1))
    for _ in range(3):  # the first reads the prompt in two steps, the others begin with the third
        engine.step()
    tables = [sequence.block_table.tolist() for sequence in sequences]
    assert all(table[:3] == tables[0][:3] for table in tables)
    assert len({block for table in tables for block in table[3:]}) == sum(len(table) - 3 for table in tables)
    drain(engine)
    assert [s.receipt().cached_tokens for s in sequences] == [0, 48, 48, 48]
    assert sum(run["tokens"] for run in program.runs[:3]) <= 50 + 3 * 2 + 3 * 4
    assert len({tuple(s.token_ids) for s in sequences}) == 4  # each draws its own random numbers


def test_log_probabilities_are_the_models_own_before_any_shaping() -> None:
    engine, _ = make_engine()
    params = SamplingParams(
        temperature=0.3, top_k=2, logprobs=3, prompt_logprobs=1, max_tokens=5, seed=3, presence_penalty=1.0
    )
    (sequence,) = engine.add([5, 6, 7, 8], params)
    drain(engine)
    done = sequence.completion()
    assert done.logprobs is not None
    assert done.prompt_logprobs is not None
    assert done.prompt_logprobs[0] is None
    entries = [entry for entry in (*done.prompt_logprobs[1:], *done.logprobs) if entry is not None]
    assert [entry.token_id for entry in entries] == sequence.token_ids[1:]
    for position, entry in enumerate(entries, start=1):
        logits = logits_after(sequence.token_ids[:position]).astype(np.float64)
        exact = logits - np.log(np.exp(logits).sum())
        assert entry.logprob == pytest.approx(exact[entry.token_id], abs=1e-5)
        count = 1 if position < 4 else 3
        assert [token for token, _ in entry.top] == np.argsort(-exact)[:count].tolist()
        assert [value for _, value in entry.top] == pytest.approx(np.sort(exact)[::-1][:count].tolist(), abs=1e-5)


def test_no_token_ends_the_text_before_min_tokens() -> None:
    bias = {EOS: 100.0, 3: 60.0}
    engine, _ = make_engine()
    free, held, ignoring = (
        engine.add([1], SamplingParams(temperature=0.0, logit_bias=bias, max_tokens=9, **more))[0]
        for more in ({}, {"min_tokens": 4, "stop_token_ids": [3]}, {"ignore_eos": True})
    )
    drain(engine)
    assert free.completion().token_ids == (EOS,)
    done = held.completion()
    assert len(done.token_ids) == 5
    assert not {EOS, 3} & set(done.token_ids[:4])
    assert (done.token_ids[4], done.finish_reason, done.stop_reason) == (EOS, "stop", None)
    assert ignoring.completion().token_ids == (EOS,) * 9
    assert ignoring.completion().finish_reason == "length"


def test_a_stop_string_within_min_tokens_is_ordinary_text() -> None:
    letters = "".join(chr(ord("A") + token) for token in greedy_tokens([1, 2, 3], 10))
    engine, _ = make_engine()
    (sequence,) = engine.add([1, 2, 3], GREEDY.changed(stop=[letters[1], letters[7]], min_tokens=5))
    drain(engine)
    assert sequence.completion().text == letters[:7]


def test_stop_tokens_and_strings_end_the_text_and_are_named() -> None:
    tokens = greedy_tokens([1, 2, 3], 10)
    letters = "".join(chr(ord("A") + token) for token in tokens)
    engine, _ = make_engine()
    by_token, by_string, with_string = (
        engine.add([1, 2, 3], GREEDY.changed(**stop))[0]
        for stop in (
            {"stop_token_ids": [tokens[4]]},
            {"stop": letters[3:6]},
            {"stop": [letters[3:6]], "include_stop_str_in_output": True},
        )
    )
    drain(engine)
    done = by_token.completion()
    assert (done.text, done.token_ids, done.stop_reason) == (letters[:4], tuple(tokens[:5]), tokens[4])
    done = by_string.completion()
    assert (done.text, done.finish_reason, done.stop_reason) == (letters[:3], "stop", letters[3:6])
    assert with_string.completion().text == letters[:6]


def test_reading_only_gives_an_empty_answer_of_length_zero() -> None:
    engine, program = make_engine()
    (sequence,) = engine.add(list(range(40)), SamplingParams(max_tokens=0))
    drain(engine)
    done = sequence.completion()
    assert (done.text, done.token_ids, done.finish_reason) == ("", (), "length")
    assert sum(run["tokens"] for run in program.runs) == 40


@given(st.integers(1, 30), st.integers(0, 2), st.integers(1, 3))
def test_cancelling_at_any_step_frees_pages_and_leaves_neighbours_alone(step: int, victim: int, n: int) -> None:
    prompts = [[1, 2, 3], list(range(40)), [9] * 20]
    params = SamplingParams(seed=5, max_tokens=20, n=n, ignore_eos=True)
    engine, _ = make_engine(max_tokens=10, max_sequences=6)
    groups = [engine.add(prompt, params) for prompt in prompts]
    for _ in range(step):
        engine.step()
    said = [list(sequence.token_ids) for sequence in groups[victim]]
    engine.cancel(groups[victim])
    engine.check_integrity()
    engine.cancel(groups[victim])
    assert all(sequence not in engine.scheduler.unfinished() for sequence in groups[victim])
    drain(engine)
    assert [sequence.token_ids for sequence in groups[victim]] == said
    for at, group in enumerate(groups):
        if at != victim:
            assert [outcome(sequence) for sequence in group] == alone(prompts[at], params)


def test_200_cancellations_at_random_moments_leak_no_page(report_faults: Callable[[str, int, int], None]) -> None:
    rng = random.Random(1)
    engine, _ = make_engine(max_tokens=16, max_sequences=6, num_blocks=24)
    leaks = 0
    live: list[list[Sequence]] = []
    for _ in range(200):
        while len(live) < 4:
            params = SamplingParams(max_tokens=rng.randint(0, 20), n=rng.randint(1, 3), seed=1)
            live.append(engine.add([1] * rng.randint(1, 60), params))
        for _ in range(rng.randint(0, 4)):
            engine.step()
        engine.cancel(live.pop(rng.randrange(len(live))))
        try:
            engine.check_integrity()
        except RuntimeError:
            leaks += 1
    for group in live:
        engine.cancel(group)
    leaks += engine.scheduler.pool.num_free != engine.scheduler.pool.num_blocks
    report_faults("cancelled requests, pages leaked", 200, leaks)


def test_a_failed_run_loses_nothing() -> None:
    engine, program = make_engine(max_tokens=8)
    (sequence,) = engine.add(list(range(20)), GREEDY)

    def fail_once(number: int) -> None:
        if number in (2, 3, 9):
            raise OSError("broken")

    program.before_run = fail_once
    failures = 0
    while engine.scheduler.has_work:
        try:
            engine.step()
        except OSError:
            failures += 1
        engine.check_integrity()
    assert failures == 3
    assert sequence.completion().token_ids == tuple(greedy_tokens(list(range(20)), 20))


def test_unseeded_requests_differ_and_their_receipts_name_the_seed() -> None:
    engine, _ = make_engine()
    params = SamplingParams(max_tokens=30, ignore_eos=True)
    first, second = engine.add([1], params)[0], engine.add([1], params)[0]
    drain(engine)
    assert first.token_ids != second.token_ids
    (again,) = engine.add([1], params.changed(seed=first.receipt().seed))
    drain(engine)
    assert again.token_ids == first.token_ids


def test_receipts_account_for_all_of_the_time() -> None:
    engine, _ = make_engine(max_sequences=1)
    first, second = (engine.add([1, 2, 3], SamplingParams(max_tokens=5, ignore_eos=True))[0] for _ in range(2))
    cancelled = engine.add([1], GREEDY)
    engine.cancel(cancelled)
    drain(engine)
    for sequence in (first, second):
        receipt = sequence.receipt()
        assert (receipt.prompt_tokens, receipt.output_tokens) == (3, 5)
        assert min(receipt.queue_s, receipt.prefill_s, receipt.decode_s) >= 0
        assert sequence.finished_s is not None
        whole_s = sequence.finished_s - sequence.request.arrival_s
        assert receipt.queue_s + receipt.prefill_s + receipt.decode_s == pytest.approx(whole_s)
        assert sequence.first_token_s is not None
        assert receipt.first_token_s == pytest.approx(sequence.first_token_s - sequence.request.arrival_s, abs=1e-9)
    assert first.finished_s is not None
    assert second.receipt().queue_s >= first.finished_s - second.request.arrival_s
    assert cancelled[0].receipt().prefill_s == cancelled[0].receipt().decode_s == 0


def test_a_prompt_that_cannot_be_run_is_refused_without_looking_at_it() -> None:
    class Untouched(list):  # type: ignore[type-arg]
        def __iter__(self) -> Any:
            raise AssertionError("the engine's thread has better things to do")

    engine, _ = make_engine(context=64)
    with pytest.raises(ContextLengthError, match="the prompt has 1000000 tokens"):
        engine.add(Untouched([1] * 1000000), SamplingParams(max_tokens=1))
