"""A draft model changes no answer, keeps to its own memory, and is told from one that does not fit."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine.tiny_model import write_tiny_model
from miaotui import LLM, AsyncLLM, SamplingParams
from miaotui.adaptive import AdaptiveDrafter
from miaotui.adaptive.model_drafting import ModelDrafting
from miaotui.adaptive.step_cost import StepCost
from miaotui.core import StructuredOutputs
from miaotui.engine import memory_shares
from miaotui.engine.results import Completion
from miaotui.errors import CapacityError, ConfigError, EngineStoppedError, UnsupportedModelError

KV_BYTES = 4 << 20
TEXTS = ["the cat and the dog in the house", "the house " * 20, "a dog", "and then there was"]
PARAMS = SamplingParams(temperature=0, max_tokens=60, ignore_eos=True)


class Slow(StepCost):
    """Steps are taken to last a second, whatever they read: so a tiny draft model is as good as free."""

    def observe(self, num_answers: int, num_drafted: int, seconds: float) -> None:
        super().observe(num_answers, num_drafted, 1.0)


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("drafts")
    return {
        "large": write_tiny_model(folder / "large.gguf", seed=2),
        "small": write_tiny_model(folder / "small.gguf", seed=1),
        "longer": write_tiny_model(folder / "longer.gguf", seed=3, infill=True),
        "other": write_tiny_model(folder / "other.gguf", seed=4, turned=5),
    }


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIAOTUI_HOME", str(tmp_path / "home"))


@contextmanager
def drafting(models: dict[str, Path], draft: str = "large", **options: Any) -> Iterator[tuple[LLM, ModelDrafting]]:
    """The large model with a draft model; by default it is its own, and so right but for its activations."""
    drafter = AdaptiveDrafter()
    drafter.costs = Slow()
    options = {"kv_memory_bytes": KV_BYTES, "activations": "int8", **options}
    with LLM(models["large"], drafter=drafter, draft_model=models[draft], **options) as llm:
        assert drafter.model is not None
        model = drafter.model
        yield llm, model
        model.model.check_integrity()
        assert model.model.pool.num_free == model.model.pool.num_blocks


def facts(done: Completion) -> object:
    return done.text, done.token_ids, done.logprobs, done.finish_reason, [facts(one) for one in done.others]


ASKS = {
    "greedy": replace(PARAMS, logprobs=1),
    "sampled": replace(PARAMS, temperature=1.0, seed=1),
    "penalties": replace(PARAMS, temperature=0.8, seed=2, frequency_penalty=0.5, n=2),
    "stop": replace(PARAMS, stop=["e"], ignore_eos=False),
    "grammar": SamplingParams(
        temperature=0, max_tokens=40, structured_outputs=StructuredOutputs(regex="(the |cat |dog )+")
    ),
}


@pytest.mark.parametrize("draft", ["large", "small", "longer"])
@pytest.mark.parametrize("name", ASKS)
def test_a_draft_model_changes_no_answer(name: str, draft: str, models: dict[str, Path]) -> None:
    params = ASKS[name]
    with LLM(models["large"], activations="int8", kv_memory_bytes=KV_BYTES) as llm:
        plain = [*llm.generate(TEXTS, params), llm.generate(TEXTS[0], params)]
    with drafting(models, draft) as (llm, model):
        drafted = [*llm.generate(TEXTS, params), llm.generate(TEXTS[0], params)]
        assert model.told.num_guesses > 0 or name in ("stop", "grammar")  # which end soon, or leave little to guess
    assert [facts(done) for done in drafted] == [facts(done) for done in plain]
    if draft == "large" and name == "greedy":
        tokens = sum(done.receipt.accepted_tokens for done in drafted)
        assert tokens > 0.3 * sum(done.receipt.output_tokens for done in drafted)


def test_a_request_may_ask_for_no_drafts(models: dict[str, Path]) -> None:
    with drafting(models) as (llm, model):
        llm.generate(TEXTS, PARAMS, drafting=False)
        assert model.told.num_guesses == model.told.num_read == 0


def test_an_answer_that_nobody_reads_on_gives_its_pages_back(models: dict[str, Path]) -> None:
    with drafting(models) as (llm, model):
        pool = model.model.pool
        stream = llm.stream(TEXTS[0], PARAMS)
        assert any(pool.num_free < pool.num_blocks for _part in stream)
        stream.close()
        assert pool.num_free == pool.num_blocks


def test_answers_are_the_same_where_either_model_runs_out_of_pages(models: dict[str, Path]) -> None:
    asked = [f"{text} number {number}" for number, text in enumerate(TEXTS * 3)]
    params = replace(PARAMS, max_tokens=150)
    with LLM(models["large"], activations="int8", kv_memory_bytes=KV_BYTES) as llm:
        plain = llm.generate(asked, params)
    with drafting(models, kv_memory_bytes=250_000) as (llm, model):
        drafted = llm.generate(asked, params)
        assert llm.loaded.engine.scheduler.num_preemptions > 0
        assert model.told.num_guesses > 0
    assert [facts(done) for done in drafted] == [facts(done) for done in plain]


def test_where_the_small_pool_is_tiny_answers_are_the_same(models: dict[str, Path]) -> None:
    with LLM(models["large"], activations="int8", kv_memory_bytes=KV_BYTES) as llm:
        plain = llm.generate(TEXTS, PARAMS)
    with drafting(models) as (llm, model):
        held = model.model.pool.allocate(model.model.pool.num_blocks - 9)
        drafted = llm.generate(TEXTS, PARAMS)
        assert model.told.num_guesses > 0
        model.model.pool.release(held)
    assert [facts(done) for done in drafted] == [facts(done) for done in plain]


def test_both_models_keep_to_one_budget(models: dict[str, Path]) -> None:
    with drafting(models) as (llm, model):
        small = model.model.pool.num_blocks * llm.loaded.kv_plan.block_bytes  # the same shape
        assert llm.loaded.kv_plan.total_bytes + small <= KV_BYTES
        assert small > KV_BYTES // 4


def test_models_that_do_not_fit_the_memory_are_refused(
    models: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory_shares, "available_memory_bytes", lambda: 300_000)
    with pytest.raises(CapacityError, match="take smaller models, or lower kv_memory_bytes"):
        LLM(models["large"], draft_model=models["small"], kv_memory_bytes=100_000)


def test_another_vocabulary_is_refused_and_told_what_to_do(models: dict[str, Path]) -> None:
    with pytest.raises(UnsupportedModelError, match=r"another vocabulary .* same family, .* leave the draft model out"):
        LLM(models["large"], draft_model=models["other"], kv_memory_bytes=KV_BYTES)


def test_what_writes_no_text_is_no_draft_model(models: dict[str, Path], tiny_bert: Path) -> None:
    with pytest.raises(UnsupportedModelError, match="writes no text; take another draft model"):
        LLM(models["large"], draft_model=tiny_bert)


class Plain:
    """A drafter that knows nothing of models."""


def test_a_drafter_that_asks_no_model_is_refused(models: dict[str, Path]) -> None:
    with pytest.raises(ConfigError, match="give an AdaptiveDrafter"):
        LLM(models["large"], drafter=Plain(), draft_model=models["small"])  # type: ignore[arg-type]


def test_without_a_drafter_there_is_one_and_closing_gives_the_small_model_back(models: dict[str, Path]) -> None:
    llm = LLM(models["large"], draft_model=models["small"], kv_memory_bytes=KV_BYTES)
    drafter = llm.loaded.engine.scheduler.drafter
    assert isinstance(drafter, AdaptiveDrafter)
    assert drafter.model is not None
    llm.generate(TEXTS, PARAMS)
    llm.close()
    assert drafter.model is None


def test_callers_of_one_loop_have_the_same_answers(models: dict[str, Path]) -> None:
    with LLM(models["large"], kv_memory_bytes=KV_BYTES) as llm:
        plain = [llm.generate(text, PARAMS) for text in TEXTS]

    async def ask() -> list[Completion]:
        options = {"draft_model": models["large"], "kv_memory_bytes": KV_BYTES}
        async with AsyncLLM(models["large"], **options) as llm:
            return await asyncio.gather(*(llm.generate(text, PARAMS) for text in TEXTS))

    assert [facts(done) for done in asyncio.run(ask())] == [facts(done) for done in plain]


def test_a_draft_model_that_fails_is_left_out_and_answers_go_on(
    models: dict[str, Path], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with LLM(models["large"], activations="int8", kv_memory_bytes=KV_BYTES) as llm:
        plain = llm.generate(TEXTS, PARAMS)
    with drafting(models) as (llm, model):
        monkeypatch.setattr(model, "ask", lambda *_: 1 / 0)
        done = llm.generate(TEXTS, PARAMS)
        drafter = llm.loaded.engine.scheduler.drafter
        assert isinstance(drafter, AdaptiveDrafter)
        assert drafter.model is None
    assert [facts(one) for one in done] == [facts(one) for one in plain]
    assert len([record for record in caplog.records if "the draft model has failed" in record.message]) == 1


def test_an_engine_that_starts_anew_leaves_nothing_with_the_draft_model(models: dict[str, Path]) -> None:
    async def stop_and_go() -> None:
        drafter = AdaptiveDrafter()
        drafter.costs = Slow()
        options: dict[str, Any] = {"draft_model": models["large"], "kv_memory_bytes": KV_BYTES, "drafter": drafter}
        async with AsyncLLM(models["large"], **options) as llm:
            assert drafter.model is not None
            pool = drafter.model.model.pool
            await llm.generate(TEXTS[0], PARAMS)
            answer = await llm.stream(TEXTS[1], replace(PARAMS, max_tokens=400))
            async for _ in answer:
                if pool.num_free < pool.num_blocks:
                    break
            assert pool.num_free < pool.num_blocks
            llm.fail(EngineStoppedError("for the test"))
            while not llm.has_ended:
                await asyncio.sleep(0)
            llm.restart()
            assert pool.num_free == pool.num_blocks
            assert (await llm.generate(TEXTS[0], PARAMS)).finish_reason == "length"

    asyncio.run(stop_and_go())
