"""OpenAI's own client works unmodified."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import anthropic
import httpx2 as httpx
import openai
import pytest

from miaotui import LLM
from miaotui.server.keys import parse_keys
from miaotui.server.wire import CompletionRequest
from server.conftest import Running

MESSAGES: list[Any] = [{"role": "user", "content": "the cat"}]
GREEDY: dict[str, Any] = {"model": "tiny", "temperature": 0, "max_tokens": 12, "extra_body": {"ignore_eos": True}}


@pytest.fixture
def client(running: Running) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=running.url + "/v1/", api_key="none", max_retries=0) as client:
        yield client


@pytest.fixture(scope="module")
def alone(tiny_model: Path) -> Iterator[LLM]:
    with LLM(tiny_model, context_length=200) as llm:
        yield llm


def test_chat_says_what_the_library_says(client: openai.OpenAI, alone: LLM) -> None:
    got = client.chat.completions.create(messages=MESSAGES, **GREEDY)
    want = alone.chat(MESSAGES, temperature=0, max_tokens=12, ignore_eos=True)
    assert got.choices[0].message.content == want.text
    assert got.choices[0].message.role == "assistant"
    assert got.choices[0].finish_reason == "length"
    assert (got.object, got.model) == ("chat.completion", "tiny")
    assert got.usage is not None
    assert got.usage.prompt_tokens == want.receipt.prompt_tokens
    assert got.usage.completion_tokens == 12
    assert got.usage.total_tokens == want.receipt.prompt_tokens + 12


def test_streamed_chat_is_the_same_in_the_order_clients_expect(client: openai.OpenAI) -> None:
    whole = client.chat.completions.create(messages=MESSAGES, **GREEDY)
    options: Any = {"include_usage": True}
    chunks = list(client.chat.completions.create(messages=MESSAGES, stream=True, stream_options=options, **GREEDY))
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[0].choices[0].delta.content == ""
    assert all(c.choices[0].delta.role is None and c.choices[0].delta.content is not None for c in chunks[1:-1])
    text = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
    assert text == whole.choices[0].message.content
    assert [c.choices[0].finish_reason for c in chunks[:-1] if c.choices[0].finish_reason] == ["length"]
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert whole.usage is not None
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens
    assert len({chunk.id for chunk in chunks}) == 1


def test_usage_is_sent_only_where_it_is_asked_for(client: openai.OpenAI) -> None:
    chunks = list(client.chat.completions.create(messages=MESSAGES, stream=True, **GREEDY))
    assert all(chunk.choices and chunk.usage is None for chunk in chunks)


def test_logprobs_have_tokens_bytes_and_alternatives(client: openai.OpenAI) -> None:
    got = client.chat.completions.create(messages=MESSAGES, logprobs=True, top_logprobs=3, **GREEDY)
    assert got.choices[0].logprobs is not None
    content = got.choices[0].logprobs.content
    assert content is not None
    assert len(content) == 12
    for entry in content:
        assert len(entry.top_logprobs) == 3
        assert entry.logprob == pytest.approx(entry.top_logprobs[0].logprob, rel=1e-6)
        assert bytes(entry.bytes or []).decode("utf-8", "replace") == entry.token


def test_several_choices_and_seeds(client: openai.OpenAI) -> None:
    options = {**GREEDY, "temperature": 1.0, "seed": 7, "n": 3}
    first, again = (client.chat.completions.create(messages=MESSAGES, **options) for _ in range(2))
    assert [c.index for c in first.choices] == [0, 1, 2]
    assert [c.message.content for c in first.choices] == [c.message.content for c in again.choices]
    streamed = ["", "", ""]
    for chunk in client.chat.completions.create(messages=MESSAGES, stream=True, **options):
        for choice in chunk.choices:
            streamed[choice.index] += choice.delta.content or ""
    assert streamed == [c.message.content for c in first.choices]


def test_text_completions_of_several_prompts(client: openai.OpenAI, alone: LLM) -> None:
    prompts = ["the cat", "a dog", [5, 6, 7]]
    want = [alone.generate(p, temperature=0, max_tokens=12, ignore_eos=True).text for p in prompts]
    got = client.completions.create(prompt=prompts[:2], **GREEDY)  # type: ignore[arg-type]
    assert [choice.text for choice in got.choices] == want[:2]
    assert client.completions.create(prompt=[5, 6, 7], **GREEDY).choices[0].text == want[2]
    streamed = ["", ""]
    for chunk in client.completions.create(prompt=prompts[:2], stream=True, **GREEDY):  # type: ignore[arg-type]
        for choice in chunk.choices:
            streamed[choice.index] += choice.text
    assert streamed == want[:2]


def test_echo_scores_the_prompt(client: openai.OpenAI) -> None:
    got = client.completions.create(prompt="the cat", echo=True, logprobs=1, **{**GREEDY, "max_tokens": 0})
    assert got.choices[0].text == "the cat"
    assert got.choices[0].logprobs is not None
    scores = got.choices[0].logprobs.token_logprobs
    assert scores is not None
    assert scores[0] is None
    assert all(score < 0 for score in scores[1:])


@pytest.mark.parametrize("allowed", [None, 1, 3])
def test_best_of_chooses_nothing(client: openai.OpenAI, allowed: int | None) -> None:
    got = client.completions.create(prompt="the cat", n=3, best_of=allowed, **GREEDY)
    assert len(got.choices) == 3
    for refused in (0, 2, 4, -1):
        with pytest.raises(openai.BadRequestError) as caught:
            client.completions.create(prompt="the cat", n=3, best_of=refused, **GREEDY)
        assert caught.value.param == "best_of"
    with pytest.raises(openai.BadRequestError):
        client.completions.create(prompt="the cat", best_of=2, **GREEDY)


def test_models(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["tiny"]
    assert client.models.retrieve("tiny").owned_by == "miaotui"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("gpt-4")


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"temperature": -1}, "temperature"),
        ({"temperature": "hot"}, "temperature"),
        ({"max_tokens": 100_000}, None),
        ({"n": 99}, "n"),
        ({"messages": "hello"}, "messages"),
        ({"messages": [{"role": "user", "content": 3}]}, None),
        ({"logit_bias": {"x": 1}}, None),
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"response_format": {"type": "xml"}}, "response_format"),
        ({"tool_choice": "maybe"}, "tool_choice"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": [{"type": "function"}]}, "tools"),
        ({"extra_body": {"structured_outputs": {"regex": "(a"}}}, "structured_outputs"),
        ({"extra_body": {"chat_template_kwargs": {"bos_token": "x"}}}, "chat_template_kwargs"),
    ],
    ids=str,
)
def test_bad_requests_name_the_field(client: openai.OpenAI, change: dict[str, Any], param: str | None) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(**{"messages": MESSAGES, "model": "tiny", **change})
    assert caught.value.body is not None
    assert caught.value.body["message"]  # type: ignore[index]
    assert param is None or caught.value.param == param


def test_unknown_fields_are_ignored(client: openai.OpenAI) -> None:
    options = {**GREEDY, "extra_body": {"ignore_eos": True, "some_new_field": {"x": 1}, "user": "me"}}
    assert client.chat.completions.create(messages=MESSAGES, **options).choices


def test_an_answer_that_goes_round_in_circles_ends_where_that_is_wanted(client: openai.OpenAI) -> None:
    same: Any = {"5": 100}  # the same token again and again
    asked: Any = {"ignore_eos": True, "repetition_detection": {"max_pattern_size": 4, "min_count": 3}}
    got = client.chat.completions.create(messages=MESSAGES, logit_bias=same, **GREEDY | {"extra_body": asked})
    assert got.usage is not None
    assert (got.usage.completion_tokens, got.choices[0].finish_reason) == (3, "repetition")
    asked["repetition_detection"] = {"max_pattern_size": 4}
    with pytest.raises(openai.BadRequestError, match="repetition_detection must have max_pattern_size and min_count"):
        client.chat.completions.create(messages=MESSAGES, **GREEDY | {"extra_body": asked})


def test_an_answer_ends_where_it_is_complete_if_that_is_wanted(client: openai.OpenAI) -> None:
    asked: Any = {"ignore_eos": True, "stop_when": {"choice": ["A", "B"]}}
    assert client.chat.completions.create(messages=MESSAGES, **GREEDY | {"extra_body": asked}).choices
    asked["stop_when"] = "xml"
    with pytest.raises(openai.BadRequestError, match="stop_when must be an object of json, choice"):
        client.chat.completions.create(messages=MESSAGES, **GREEDY | {"extra_body": asked})


def test_a_request_may_switch_drafting_off(client: openai.OpenAI) -> None:
    for drafting in (True, False):
        assert CompletionRequest(prompt="x", drafting=drafting).sampling().drafting == drafting
        asked = GREEDY | {"extra_body": {"drafting": drafting}}
        assert client.chat.completions.create(messages=MESSAGES, **asked).choices
    with pytest.raises(openai.BadRequestError, match="drafting"):
        client.chat.completions.create(messages=MESSAGES, **GREEDY | {"extra_body": {"drafting": "no"}})


def test_another_model_is_404(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="tiny"):
        client.chat.completions.create(messages=MESSAGES, model="gpt-4")


def test_clients_at_once_get_what_they_would_get_alone(client: openai.OpenAI, alone: LLM) -> None:
    prompts = [f"the cat {'so ' * i}" for i in range(12)]
    want = [alone.generate(p, temperature=0, max_tokens=12, ignore_eos=True).text for p in prompts]
    with ThreadPoolExecutor(12) as pool:
        got = list(pool.map(lambda p: client.completions.create(prompt=p, **GREEDY).choices[0].text, prompts))
    assert got == want


def test_a_client_that_leaves_frees_its_pages(running: Running, client: openai.OpenAI) -> None:
    scheduler = running.llm.llm.loaded.engine.scheduler
    for _ in range(5):
        stream = client.chat.completions.create(
            messages=MESSAGES, stream=True, **{**GREEDY, "max_tokens": 150}
        )  # fmt: skip
        next(iter(stream))
        stream.close()
    client.chat.completions.create(messages=MESSAGES, **GREEDY)
    for _ in range(500):
        if not scheduler.has_work:
            break
        client.models.list()
    assert not scheduler.has_work
    assert scheduler.pool.num_free == scheduler.pool.num_blocks


def test_a_key_is_asked_for_everywhere_and_never_kept(start: Any) -> None:
    with start(keys=parse_keys(["secret"], "here")) as running:
        good = openai.OpenAI(base_url=running.url + "/v1", api_key="secret", max_retries=0)
        assert good.chat.completions.create(messages=MESSAGES, **GREEDY).choices
        bad = openai.OpenAI(base_url=running.url + "/v1", api_key="wrong", max_retries=0)
        with pytest.raises(openai.AuthenticationError):
            bad.models.list()


def test_too_many_waiting_are_told_to_come_back(start: Any) -> None:
    with start({"max_sequences": 1}, max_waiting=1) as running:
        client = openai.OpenAI(base_url=running.url + "/v1", api_key="none", max_retries=0)

        def ask(_: int) -> str:
            try:
                client.chat.completions.create(messages=MESSAGES, **{**GREEDY, "max_tokens": 100})
            except openai.RateLimitError as error:
                return f"refused, to come back in {error.response.headers['retry-after']} s"
            return "answered"

        with ThreadPoolExecutor(24) as pool:
            outcomes = list(pool.map(ask, range(24)))
        assert set(outcomes) == {"refused, to come back in 1 s", "answered"}


@pytest.mark.parametrize("kind", ["openai", "anthropic"])
def test_clients_that_were_refused_come_back_by_themselves(
    start: Any, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    def ask(url: str) -> str | None:
        messages: list[Any] = [{"role": "user", "content": "the dog"}]
        if kind == "openai":
            with openai.OpenAI(base_url=url + "/v1", api_key="none", max_retries=2) as client:
                return client.chat.completions.create(messages=messages, **GREEDY).choices[0].finish_reason
        with anthropic.Anthropic(base_url=url, api_key="none", max_retries=2) as client:
            body = {"ignore_eos": True}
            said = client.messages.create(model="tiny", messages=messages, max_tokens=12, extra_body=body)
            return said.stop_reason

    with (
        start({"max_sequences": 1}, max_waiting=0, stalled_s=60.0, hung_s=60.0) as running,
        ThreadPoolExecutor(2) as pool,
    ):
        may_go_on = threading.Event()
        engine = running.llm.llm.loaded.engine
        step = engine.step
        monkeypatch.setattr(engine, "step", lambda: may_go_on.wait(60) and step())
        first = pool.submit(httpx.post, running.url + "/v1/completions", json={"prompt": "the cat", "max_tokens": 1})
        running.until(lambda: engine.scheduler.has_work)
        second = pool.submit(ask, running.url)
        running.until(lambda: num_refused(running) == 1)
        may_go_on.set()
        assert first.result(60).status_code == 200
        assert second.result(60) in ("length", "max_tokens", "end_turn")


def num_refused(running: Running) -> int:
    text = httpx.get(running.url + "/metrics").text
    (found,) = re.findall(r'^miaotui_rejected_total\{reason="overloaded"\} ([0-9.]+)$', text, re.MULTILINE) or ["0"]
    return int(float(found))


def test_a_burst_finds_no_more_places_than_there_are(start: Any) -> None:
    asked: dict[str, Any] = {
        "model": "tiny",
        "messages": MESSAGES,
        "max_tokens": 100,
        "extra_body": {"ignore_eos": True},
    }
    with start({"max_sequences": 1}, max_waiting=2) as running:
        most = 0

        def ask(number: int) -> int:
            nonlocal most
            with openai.OpenAI(base_url=running.url + "/v1", api_key="none", max_retries=0) as client:
                try:
                    client.chat.completions.create(**asked)
                except openai.RateLimitError as error:
                    return int(error.status_code)
                finally:
                    most = max(most, running.llm._scheduler.num_unfinished)
            return 200

        with ThreadPoolExecutor(24) as pool:
            statuses = list(pool.map(ask, range(48)))
    assert set(statuses) == {200, 429}
    assert most <= 3  # one that runs and two that wait
    with (
        start({"max_sequences": 2}, max_waiting=2) as running,
        openai.OpenAI(base_url=running.url + "/v1", api_key="none", max_retries=0) as client,
    ):
        with pytest.raises(openai.BadRequestError, match="room for 4; ask for fewer"):  # to try again would be in vain
            client.chat.completions.create(**asked, n=5)
        with pytest.raises(openai.BadRequestError, match="6 answers are asked for"):
            client.completions.create(model=asked["model"], prompt=["a", "b", "c"], n=2, max_tokens=1)
