"""The cascade: who answers, what the receipt tells, that drafts change nothing, and that memory is shared out."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from adaptive.cascade.conftest import KV_BYTES
from miaotui import LLM, SamplingParams
from miaotui.adaptive.cascade import SIGNALS, Asking, Cascade, Gate, Labelled, collect, digests, open_models
from miaotui.adaptive.cascade.asking import answers, prompt_for
from miaotui.adaptive.drafters.given import GivenDrafter
from miaotui.engine.engine import Engine
from miaotui.errors import CapacityError, ContextLengthError, GateError, InvalidRequestError

TEXTS = ["the cat", "and the dog in the house", "in the end", "the the the", "and"]
WRITTEN = Asking(max_tokens=40)
CHOSEN = Asking("Which?", ("yes", "no"))


def gate_for(models: Sequence[LLM], threshold: float | None, asking: Asking = WRITTEN, signal: str = "margin") -> Gate:
    return Gate(signal, threshold, digests(models), asking, 0.95, 0.9)


def margins(llm: LLM, asking: Asking) -> list[float]:
    said = answers(llm, asking, [prompt_for(llm, asking, text) for text in TEXTS])
    return [min(position.margin for position in answer.positions) for answer in said]


def alone(llm: LLM, asking: Asking = WRITTEN) -> list[str]:
    return [answer.text for answer in answers(llm, asking, [prompt_for(llm, asking, text) for text in TEXTS])]


@pytest.mark.parametrize("asking", [WRITTEN, CHOSEN], ids=["written", "chosen"])
def test_answers_that_are_sure_enough_are_the_small_models_and_others_the_large_ones(
    small: LLM, large: LLM, asking: Asking
) -> None:
    values = margins(small, asking)
    threshold = sorted(values)[2]
    own, others = alone(small, asking), alone(large, asking)
    done = Cascade([small, large], [gate_for([small, large], threshold, asking)]).generate(TEXTS)
    for value, completion, mine, other in zip(values, done, own, others, strict=True):
        assert completion.text == (mine if value >= threshold else other)
        stages = completion.receipt.stages
        assert len(stages) == (1 if value >= threshold else 2)
        assert stages[0].value == pytest.approx(value, abs=1e-5)
        assert (stages[0].signal, stages[0].threshold, stages[0].model) == ("margin", threshold, "tiny")


def test_the_receipt_says_who_answered_why_and_what_each_took(small: LLM, large: LLM) -> None:
    cascade = Cascade([small, large], [gate_for([small, large], 1e6)])
    (doubted,) = cascade.generate(TEXTS[:1])
    first, last = doubted.receipt.stages
    assert doubted.receipt.path == "cascade"
    assert "was not sure enough (margin" in doubted.receipt.why
    assert (last.signal, last.value, last.threshold) == (None, None, None)
    assert doubted.receipt.first_token_s >= first.seconds > 0
    receipt = doubted.receipt
    assert receipt.queue_s + receipt.prefill_s + receipt.decode_s >= first.seconds + last.seconds
    (trusted,) = Cascade([small, large], [gate_for([small, large], -1e6)]).generate(TEXTS[:1])
    assert "was sure enough (margin" in trusted.receipt.why
    assert len(trusted.receipt.stages) == 1


def test_a_gate_without_a_threshold_has_nobody_ask_the_small_model(
    small: LLM, large: LLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    cascade = Cascade([small, large], [gate_for([small, large], None)])
    monkeypatch.setattr(small, "generate", None)
    done = cascade.generate(TEXTS)
    assert [one.text for one in done] == alone(large)
    assert {len(one.receipt.stages) for one in done} == {1}
    assert "no answer of a smaller model is known to suffice" in done[0].receipt.why


def test_three_models_are_asked_in_turn(paths: dict[str, Path], small: LLM, large: LLM) -> None:
    with LLM(paths["other"], kv_memory_bytes=KV_BYTES) as other:
        models = [small, other, large]
        gates = [gate_for(models, sorted(margins(small, WRITTEN))[3]), gate_for(models[1:], 0.5)]
        done = Cascade(models, gates).generate(TEXTS)
        said = [alone(llm) for llm in models]
        for at, completion in enumerate(done):
            assert completion.text == said[len(completion.receipt.stages) - 1][at]
        assert {len(one.receipt.stages) for one in done} >= {1, 2} or len({len(one.receipt.stages) for one in done}) > 1
        with pytest.raises(InvalidRequestError, match="a gate for each but the last"):
            Cascade(models, gates[:1])
        with pytest.raises(GateError, match="different instructions"):
            Cascade(models, [gates[0], gate_for(models[1:], 0.5, CHOSEN)])


def test_a_gate_of_other_models_is_refused(small: LLM, large: LLM) -> None:
    with pytest.raises(GateError, match="another model"):
        Cascade([small, large], [gate_for([large, small], 1.0)])


def test_the_small_models_answer_as_a_draft_changes_nothing_and_saves_steps(paths: dict[str, Path]) -> None:
    """Both models are the same file here, so all that was said before is right."""
    asking = Asking(max_tokens=60)
    with LLM(paths["small"]) as first, LLM(paths["small"], drafter=GivenDrafter()) as second:
        cascade = Cascade([first, second], [gate_for([first, second], 1e6, asking)])
        for _ in range(3):  # what steps cost is learned first
            done = cascade.generate(TEXTS)
        plain = [first.generate(prompt_for(first, asking, t).ids, temperature=0.0, max_tokens=60) for t in TEXTS]
        assert [one.token_ids for one in done] == [one.token_ids for one in plain]
        assert sum(one.receipt.accepted_tokens for one in done) > 0


def test_drafts_that_differ_change_nothing(small: LLM, large: LLM, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(GivenDrafter, "_num_worth", lambda self, num_answers, offers, spent: min(len(offers), 8))
    asking = Asking(max_tokens=60)
    cascade = Cascade([small, large], [gate_for([small, large], 1e6, asking)])
    for _ in range(3):
        done = cascade.generate(TEXTS)
    large.loaded.engine.scheduler.drafter = None
    plain = [large.generate(prompt_for(large, asking, t).ids, temperature=0.0, max_tokens=60) for t in TEXTS]
    assert [one.token_ids for one in done] == [one.token_ids for one in plain]
    assert sum(one.receipt.drafted_tokens for one in done) > 0


def given_to(drafter: GivenDrafter, monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    given: list[tuple[Any, ...]] = []
    give = drafter.give

    def spy(*arguments: Any) -> None:
        given.append(arguments)
        give(*arguments)

    monkeypatch.setattr(drafter, "give", spy)
    return given


def test_drafts_are_given_with_the_asking_tenant_and_forgotten(
    small: LLM, large: LLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    drafter = large.loaded.engine.scheduler.drafter
    assert isinstance(drafter, GivenDrafter)
    given = given_to(drafter, monkeypatch)
    cascade = Cascade([small, large], [gate_for([small, large], 1e6)])
    cascade.generate(TEXTS, tenant="alice")
    assert [tenant for *_, tenant in given] == ["alice"] * len(TEXTS)
    assert not drafter._given

    def fail(*_: Any, **__: Any) -> None:
        assert len(drafter._given) == len(TEXTS)
        raise OverflowError

    monkeypatch.setattr(large, "generate", fail)
    with pytest.raises(OverflowError):
        cascade.generate(TEXTS)
    assert not drafter._given


def test_nothing_is_given_across_vocabularies(
    paths: dict[str, Path], large: LLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    with LLM(paths["other"], kv_memory_bytes=KV_BYTES) as other:
        given = given_to(large.loaded.engine.scheduler.drafter, monkeypatch)  # type: ignore[arg-type]
        Cascade([other, large], [gate_for([other, large], 1e6)]).generate(TEXTS)
        assert given == []


@pytest.mark.parametrize("signal", ["margin", "agreement", "verifier"])
def test_every_question_is_asked_in_the_tenants_name(
    small: LLM, large: LLM, monkeypatch: pytest.MonkeyPatch, signal: str
) -> None:
    tenants: list[str] = []
    add = Engine.add

    def spy(self: Engine, *arguments: Any, **options: Any) -> Any:
        tenants.append(options.get("tenant", ""))
        return add(self, *arguments, **options)

    monkeypatch.setattr(Engine, "add", spy)
    Cascade([small, large], [gate_for([small, large], 1e6, signal=signal)]).generate(TEXTS, tenant="bob")
    assert set(tenants) == {"bob"}
    assert len(tenants) >= 2 * len(TEXTS)


def test_one_tenants_prompts_are_in_memory_for_no_other(small: LLM, large: LLM) -> None:
    cascade = Cascade([small, large], [gate_for([small, large], -1e6)])
    text = "the cat and the dog in the house " * 4
    found = [cascade.generate([text], tenant=tenant)[0].receipt.cached_tokens for tenant in ("a", "b", "a")]
    assert found[:2] == [0, 0]
    assert found[2] > 0


def test_models_are_never_asked_at_once(small: LLM, large: LLM, monkeypatch: pytest.MonkeyPatch) -> None:
    cascade = Cascade([small, large], [gate_for([small, large], 1e6)])
    busy, overlaps = [0], [0]
    for llm in (small, large):
        generate = llm.generate

        def spied(*arguments: Any, _generate: Any = generate, **options: Any) -> Any:
            busy[0] += 1
            overlaps[0] += busy[0] > 1
            try:
                return _generate(*arguments, **options)
            finally:
                busy[0] -= 1

        monkeypatch.setattr(llm, "generate", spied)
    callers = [threading.Thread(target=cascade.generate, args=(TEXTS,)) for _ in range(3)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert overlaps == [0]


def test_what_goes_wrong_leaves_no_drafts_behind_and_the_cascade_usable(small: LLM, large: LLM) -> None:
    cascade = Cascade([small, large], [gate_for([small, large], 1e6)])
    with pytest.raises(ContextLengthError):
        cascade.generate([TEXTS[0], "x" * 5000])
    assert len(cascade.generate(TEXTS[:1])) == 1
    assert cascade.generate([]) == []
    with pytest.raises(InvalidRequestError, match="list of prompts"):
        cascade.generate("the cat")
    for llm in (small, large):
        llm.loaded.engine.check_integrity()


def test_models_opened_together_share_one_budget_and_hold_as_many_tokens(paths: dict[str, Path]) -> None:
    names = [paths["small"], paths["large"]]
    opened = open_models(names, kv_memory_bytes=1 << 20, drafting=True)
    with Cascade(opened, [gate_for(opened, 1.0)]) as cascade:
        plans = [llm.loaded.kv_plan for llm in opened]
        assert sum(plan.total_bytes for plan in plans) <= 1 << 20
        assert len({plan.num_blocks for plan in plans}) == 1
        assert isinstance(cascade.models[1].loaded.engine.scheduler.drafter, GivenDrafter)
        assert cascade.models[0].loaded.engine.scheduler.drafter is None
    with pytest.raises(InvalidRequestError, match="closed"):
        _ = opened[0].loaded


def test_without_a_budget_all_models_take_what_one_would(paths: dict[str, Path], monkeypatch: Any) -> None:
    from miaotui.engine import memory_shares

    monkeypatch.setattr(memory_shares, "available_memory_bytes", lambda: 4 << 20)
    opened = open_models([paths["small"], paths["large"]])
    assert sum(llm.loaded.kv_plan.total_bytes for llm in opened) <= 1 << 20
    for llm in opened:
        llm.close()
    opened = open_models([paths["small"], paths["large"]], context_length=1024)
    assert [llm.context_length for llm in opened] == [1024, 1024]
    for llm in opened:
        llm.close()
    monkeypatch.setattr(memory_shares, "available_memory_bytes", lambda: 300_000)
    with pytest.raises(CapacityError, match="weights take"):
        open_models([paths["small"], paths["large"]])


def test_models_that_cannot_all_be_opened_leave_none_open(
    paths: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[LLM] = []
    close = LLM.close
    monkeypatch.setattr(LLM, "close", lambda self: (closed.append(self), close(self)))
    gates = [Gate("margin", 1.0, ("a" * 64, "b" * 64), WRITTEN, 0.9, 0.9)]
    with pytest.raises(GateError):
        Cascade.open([paths["small"], paths["large"]], gates, kv_memory_bytes=1 << 20)
    assert len(closed) == 2
    with pytest.raises(CapacityError):
        open_models([paths["small"], paths["large"]], kv_memory_bytes=9000)
    with pytest.raises(InvalidRequestError, match="two models"):
        open_models([paths["small"]])


@pytest.mark.parametrize("together", [1, 3])
def test_cases_hold_what_each_model_said_on_its_own(small: LLM, large: LLM, together: int) -> None:
    own, others = alone(small), alone(large)
    rows = [Labelled(text, wanted) for text, wanted in zip(TEXTS, own, strict=True)]
    steps: list[tuple[int, int]] = []
    cases = collect(
        small, large, WRITTEN, rows, [SIGNALS["margin"], SIGNALS["verifier"]], together=together,
        step=lambda done, total: steps.append((done, total)),
    )  # fmt: skip
    assert [case.small_right for case in cases] == [True] * len(TEXTS)
    assert [case.large_right for case in cases] == [mine == other for mine, other in zip(own, others, strict=True)]
    assert [case.values["margin"] for case in cases] == pytest.approx(margins(small, WRITTEN), abs=1e-5)
    assert all(case.signal_s["verifier"] > 0 == case.signal_s["margin"] for case in cases)
    assert all(case.kept_s("verifier") > case.kept_s("margin") == case.small_s for case in cases)
    assert steps[-1] == (len(TEXTS), len(TEXTS))


def test_without_labels_the_large_model_is_the_teacher(small: LLM, large: LLM) -> None:
    cases = collect(small, large, WRITTEN, [Labelled(text, None) for text in TEXTS], [SIGNALS["margin"]])
    agree = [mine == other for mine, other in zip(alone(small), alone(large), strict=True)]
    assert [case.large_right for case in cases] == [True] * len(TEXTS)
    assert [case.small_right for case in cases] == agree


def test_answers_take_greedy_text_whatever_the_models_would_like(small: LLM) -> None:
    (answer,) = answers(small, WRITTEN, [prompt_for(small, WRITTEN, "the cat")])
    plain = small.generate(small.encode_chat("the cat"), SamplingParams(temperature=0.0, max_tokens=40))
    assert answer.completion.token_ids == plain.token_ids
    assert replace(WRITTEN, max_tokens=40) == WRITTEN
