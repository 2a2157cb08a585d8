"""A question that was answered before is answered again without the model, in every protocol, for its tenant alone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import anthropic
import httpx2 as httpx
import openai
import pytest

from answers.dict_store import DictStore
from miaotui.answers.cache import AnswerCache
from miaotui.server.keys import ApiKey, digest_of
from server.conftest import Running

ASKED = [{"role": "user", "content": "the cat sat on the mat"}]


class Kept:
    """A server that keeps answers, a stop string that ends an answer to ASKED, and its store."""

    def __init__(self, running: Running, store: DictStore, key: str = "") -> None:
        self.running, self.store = running, store
        self.headers = {"authorization": f"Bearer {key}"} if key else {}
        whole = self.chat(stop=None, max_tokens=12, cache={"mode": "no-store"})
        text = whole["choices"][0]["message"]["content"]
        self.stop = next(sign for sign in text[3:] if sign not in text[:3])

    def post(self, path: str, body: dict[str, Any], **headers: str) -> httpx.Response:
        return httpx.post(self.running.url + path, json=body, headers=self.headers | headers, timeout=60)

    def get(self, path: str) -> Any:
        return httpx.get(self.running.url + path, headers=self.headers).json()

    def chat(self, **more: Any) -> Any:
        body = {"messages": ASKED, "temperature": 0, "max_tokens": 100, "miaotui": True}
        if "stop" not in more:
            more["stop"] = [self.stop]
        reply = self.post("/v1/chat/completions", body | more)
        assert reply.status_code == 200, reply.text
        return reply.json()

    @property
    def num_model_tokens(self) -> int:
        text = httpx.get(self.running.url + "/metrics", headers=self.headers).text
        (line,) = [line for line in text.splitlines() if line.startswith("miaotui_output_tokens_total")]
        return int(float(line.split()[1]))


@pytest.fixture
def kept(start: Any) -> Iterator[Kept]:
    store = DictStore("second")
    with start({"cache": AnswerCache([DictStore("first"), store], b"s" * 32)}) as running:
        yield Kept(running, store)


def test_the_second_answer_is_the_first_one_without_the_model(kept: Kept) -> None:
    first = kept.chat()
    spent = kept.num_model_tokens
    second = kept.chat()
    assert kept.num_model_tokens == spent
    assert second["choices"] == first["choices"]
    assert second["usage"]["completion_tokens"] == first["usage"]["completion_tokens"]
    assert second["usage"]["prompt_tokens"] == first["usage"]["prompt_tokens"]
    assert (first["miaotui"]["path"], second["miaotui"]["path"]) == ("model", "memory")
    assert second["miaotui"]["saved_ms"] > 0
    assert kept.get("/v1/cache/stats")["hits"]["memory"] == 1


def test_a_stream_of_a_kept_answer_reads_like_any_other(kept: Kept) -> None:
    whole = kept.chat()["choices"][0]["message"]["content"]
    client = openai.OpenAI(base_url=kept.running.url + "/v1", api_key="none")
    stream = client.chat.completions.create(
        model="tiny", messages=ASKED, temperature=0, stop=[kept.stop], max_tokens=100, stream=True,  # type: ignore[arg-type]
        stream_options={"include_usage": True}, extra_body={"miaotui": True},
    )  # fmt: skip
    chunks = list(stream)  # type: ignore[call-overload]
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == whole
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "stop"
    assert chunks[-1].miaotui["path"] == "memory"


def test_other_protocols_have_answers_kept_as_well(kept: Kept) -> None:
    client = anthropic.Anthropic(base_url=kept.running.url, api_key="none")
    said = [
        client.messages.create(
            model="tiny",
            max_tokens=100,
            messages=ASKED,  # type: ignore[arg-type]
            stop_sequences=[kept.stop],
            extra_body={"temperature": 0},
        )
        for _ in range(2)
    ]
    assert said[0].content == said[1].content
    assert said[1].stop_reason == "stop_sequence"
    assert said[1].usage.cache_read_input_tokens == said[0].usage.input_tokens + said[0].usage.cache_read_input_tokens
    body = {"prompt": ["the cat", "the dog"], "temperature": 0, "max_tokens": 100, "stop": ["a", "e"], "miaotui": True}
    done = [kept.post("/v1/completions", body).json() for _ in range(2)]
    assert done[0]["choices"] == done[1]["choices"]
    ended = [choice["finish_reason"] for choice in done[0]["choices"]]
    assert "stop" in ended
    paths = [receipt["path"] for receipt in done[1]["miaotui"]]
    assert paths == ["memory" if reason == "stop" else "model" for reason in ended]


def test_an_answer_that_was_cut_short_is_not_kept(kept: Kept) -> None:
    for _ in range(2):
        assert kept.chat(stop=None, max_tokens=3)["miaotui"]["path"] == "model"
    assert not [name for name in kept.store.kept if name[0] == "answer"]


def test_what_the_request_says_of_kept_answers_is_followed(kept: Kept) -> None:
    kept.chat()
    assert kept.chat(cache={"mode": "no-store"})["miaotui"]["path"] == "model"
    assert kept.chat(cache={"mode": "refresh"})["miaotui"]["path"] == "model"
    assert kept.chat(cache={"max_age_s": 0})["miaotui"]["path"] == "model"
    assert kept.chat(temperature=0.5)["miaotui"]["path"] == "model"
    assert kept.chat(cache={"max_age_s": 1000})["miaotui"]["path"] == "memory"
    body = {"messages": ASKED, "temperature": 0, "max_tokens": 100, "stop": [kept.stop], "miaotui": True}
    reply = kept.post("/v1/chat/completions", body, **{"cache-control": "no-store"})
    assert reply.json()["miaotui"]["path"] == "model"
    refused = kept.post("/v1/chat/completions", body | {"cache": {"mode": "always"}})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "cache")


def test_a_request_that_wants_nothing_kept_leaves_nothing_behind(kept: Kept) -> None:
    kept.chat(cache={"mode": "no-store"})
    kept.get("/v1/cache/why/none")  # which waits for what is on its way
    assert not any("cat" in row.text or b"cat" in row.payload for row in kept.store.kept.values())


def test_equal_questions_at_the_same_time_are_computed_once(kept: Kept) -> None:
    before = kept.num_model_tokens
    with ThreadPoolExecutor(8) as pool:
        said = list(pool.map(lambda _: kept.chat(), range(8)))
    assert len({one["choices"][0]["message"]["content"] for one in said}) == 1
    paths = sorted(one["miaotui"]["path"] for one in said)
    assert paths.count("model") == 1
    assert set(paths) <= {"model", "shared", "memory"}
    assert kept.num_model_tokens - before == said[0]["usage"]["completion_tokens"]


def test_why_tells_what_became_of_a_request_and_others_cannot_know(kept: Kept) -> None:
    kept.chat()
    reply = kept.post(
        "/v1/chat/completions", {"messages": ASKED, "temperature": 0, "max_tokens": 100, "stop": [kept.stop]}
    )
    why = kept.get(f"/v1/cache/why/{reply.headers['x-request-id']}")
    assert (why["path"], why["question"]) == ("memory", ASKED[0]["content"])
    assert httpx.get(kept.running.url + "/v1/cache/why/nobody").status_code == 404


def test_a_wrong_answer_is_rejected_and_not_kept_again(kept: Kept) -> None:
    kept.chat()
    identity = kept.chat()["miaotui"]["entry"]
    assert kept.get(f"/v1/cache/entries/{identity}")["question"] == ASKED[0]["content"]
    assert kept.post(f"/v1/cache/entries/{identity}/reject", {"comment": "no"}).json() == {"rejected": identity}
    for _ in range(2):
        assert kept.chat()["miaotui"]["path"] == "model"
    assert httpx.get(f"{kept.running.url}/v1/cache/entries/{identity}").status_code == 404


def test_feedback_is_kept_and_thumbs_down_take_the_answer_out(kept: Kept) -> None:
    reply = kept.post(
        "/v1/chat/completions", {"messages": ASKED, "temperature": 0, "max_tokens": 100, "stop": [kept.stop]}
    )
    said = {"request_id": reply.headers["x-request-id"], "rating": "down", "correction": "on the sofa"}
    assert kept.post("/v1/feedback", said).status_code == 200
    assert kept.chat()["miaotui"]["path"] == "model"
    (row,) = [row for name, row in kept.store.kept.items() if name[0] == "feedback"]
    assert row.fields["correction"] == "on the sofa"
    assert (row.fields["conversation"], row.fields["receipt"]["path"]) == (ASKED, "model")
    assert row.fields["answer"]
    unknown = kept.post("/v1/feedback", said | {"request_id": "nobody"})
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "unknown_request")
    assert kept.post("/v1/feedback", said | {"rating": "sideways"}).status_code == 400


def test_feedback_on_an_answer_that_was_not_kept_has_all_that_is_needed_to_learn(kept: Kept) -> None:
    body = {"messages": ASKED, "temperature": 0.7, "max_tokens": 5, "ignore_eos": True}
    for stream in (False, True):
        reply = kept.post("/v1/chat/completions", body | {"stream": stream})
        said = {"request_id": reply.headers["x-request-id"], "rating": "up"}
        assert kept.post("/v1/feedback", said).json() == {"kept": said["request_id"]}
        found = [row.fields for name, row in kept.store.kept.items() if name[0] == "feedback"]
        (fields,) = [one for one in found if one["request_id"] == said["request_id"]]
        assert (fields["conversation"], fields["finish_reason"], fields["cut"]) == (ASKED, "length", False)
        assert fields["answer"]
        assert fields["model"]
    unsaid = kept.post("/v1/chat/completions", body | {"cache": {"mode": "no-store"}})
    said = {"request_id": unsaid.headers["x-request-id"], "rating": "up"}
    assert kept.post("/v1/feedback", said).status_code == 404


def test_feedback_is_refused_while_the_store_is_down(kept: Kept) -> None:
    reply = kept.post("/v1/chat/completions", {"messages": ASKED, "temperature": 0, "max_tokens": 5})
    kept.store.is_down = True
    refused = kept.post("/v1/feedback", {"request_id": reply.headers["x-request-id"], "rating": "up"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "store_down")


def test_paging_goes_on_behind_rows_that_are_not_genuine(kept: Kept) -> None:
    for text in ("the cat", "the dog", "a cat", "a dog"):
        kept.chat(messages=[{"role": "user", "content": text}], stop=list("aeiou \n"))
    whole = [one["id"] for one in kept.get("/v1/cache/entries")["entries"]]
    for name, row in list(kept.store.kept.items()):
        if name[0] == "answer" and name[2].hex() == whole[0]:
            kept.store.kept[name] = replace(row, text="forged")
    page = kept.get(f"/v1/cache/entries?limit={len(whole) - 2}")
    assert ([one["id"] for one in page["entries"]], page["more"]) == (whole[1:-1], True)


def test_entries_can_be_searched_paged_and_removed(kept: Kept) -> None:
    for text in ("the cat", "the dog", "a cat"):
        kept.chat(messages=[{"role": "user", "content": text}], stop=list("aeiou \n"))
    whole = kept.get("/v1/cache/entries")
    assert not whole["more"]
    questions = [one["question"] for one in whole["entries"]]
    paged = kept.get("/v1/cache/entries?limit=1")
    assert paged["more"] == (len(questions) > 1)
    rest = kept.get(f"/v1/cache/entries?before={paged['entries'][0]['id']}")
    assert [paged["entries"][0]["question"], *(one["question"] for one in rest["entries"])] == questions
    found = kept.get("/v1/cache/entries?search=cat")["entries"]
    assert [one["question"] for one in found] == [text for text in questions if "cat" in text]
    first = whole["entries"][0]["id"]
    assert httpx.delete(f"{kept.running.url}/v1/cache/entries/{first}").json() == {"removed": first}
    assert first not in json.dumps(kept.get("/v1/cache/entries"))
    for wrong in ("limit=0", "limit=x", "limit=9999999999999999999", "before=zz"):
        assert httpx.get(f"{kept.running.url}/v1/cache/entries?{wrong}").status_code in (400, 404)


def test_a_store_that_is_down_costs_no_answer(kept: Kept) -> None:
    kept.chat()
    kept.store.is_down = True
    assert kept.chat()["miaotui"]["path"] == "memory"
    assert kept.chat(messages=[{"role": "user", "content": "the dog"}])["miaotui"]["path"] == "model"
    assert httpx.get(kept.running.url + "/v1/cache/entries").status_code == 503
    assert kept.get("/v1/cache/stats")["rows"] is None


def test_tenants_share_no_answers_and_see_none_of_each_other_s(start: Any) -> None:
    keys = tuple(ApiKey(digest_of(name * 20), name, None, None) for name in ("alice", "bobby"))
    cache = AnswerCache([DictStore()], b"s" * 32)
    with start({"cache": cache}, keys=keys) as running:
        alice, bob = (Kept(running, DictStore(), name * 20) for name in ("alice", "bobby"))
        first = alice.chat()
        assert alice.chat()["miaotui"]["path"] == "memory"
        assert bob.chat()["miaotui"]["path"] == "model"
        identity = alice.chat()["miaotui"]["entry"]
        assert bob.get(f"/v1/cache/entries/{identity}")["error"]["code"] == "not_found"
        assert bob.post(f"/v1/cache/entries/{identity}/reject", {}).status_code == 404
        assert identity not in json.dumps(bob.get("/v1/cache/entries"))
        assert alice.chat()["choices"] == first["choices"]


def test_a_server_that_keeps_nothing_says_so(running: Running) -> None:
    assert httpx.get(running.url + "/v1/cache/stats").json() == {"enabled": False}
    assert httpx.get(running.url + "/v1/cache/entries").status_code == 404


def test_the_dashboard_shows_what_happened_within_the_last_minute(kept: Kept) -> None:
    kept.chat()
    kept.chat()
    shown = kept.get("/v1/dashboard")
    assert shown["requests"] >= 2
    assert shown["ttft_ms"]["p50"] <= shown["ttft_ms"]["p99"]
    assert shown["tokens_per_s"] > 0
    assert shown["kv"]["total"] > 0
    assert shown["cache"]["hits"]["memory"] == 1
    assert shown["memory_bytes"] > 1 << 20
