"""Requests are planned as they come, told what was chosen, and refused at once where a deadline cannot be met."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from answers.dict_store import DictStore
from miaotui.adaptive import AdaptiveDrafter
from miaotui.adaptive.planner import Planner
from miaotui.adaptive.typical import Typical
from miaotui.answers.cache import AnswerCache
from miaotui.answers.control import CacheControl
from miaotui.core import Plan, Receipt, SamplingParams
from miaotui.engine.prospect import Admission, Load, Prospect
from miaotui.server import planning
from miaotui.server.asking import Ask
from miaotui.server.keys import ApiKey, digest_of
from miaotui.server.planning import Planning
from miaotui.server.settings import ServerSettings
from server.conftest import Running, serve

BODY: dict[str, Any] = {
    "messages": [{"role": "user", "content": "the cat"}],
    "temperature": 0,
    "max_tokens": 12,
    "miaotui": True,
}
FILLED = BODY | {"ignore_eos": True}
KEYS = ("one-key-of-a-tenant", "other-key-of-another")


@pytest.fixture(scope="module")
def server(tiny_model: Path) -> Iterator[Running]:
    keys = tuple(ApiKey(digest_of(key)) for key in KEYS)
    cache = AnswerCache([DictStore()], b"s" * 32)
    settings = ServerSettings("tiny", keys=keys, planning="adaptive")
    with serve(tiny_model, settings, cache=cache, context_length=1000, drafter=AdaptiveDrafter()) as running:
        yield running


def post(running: Running, body: dict[str, Any], *, path: str = "chat/completions", key: str = KEYS[0]) -> Any:
    headers = {"authorization": f"Bearer {key}"}
    return httpx.post(f"{running.url}/v1/{path}", json=body, headers=headers, timeout=60)


def samples(running: Running) -> Any:
    """What is counted, as a function of name and label values."""
    ledger: Any = running.llm.watcher
    families = text_string_to_metric_families(ledger.metrics.text().decode())
    values = {(one.name, *one.labels.values()): one.value for family in families for one in family.samples}
    return lambda name, *labels: values.get((f"miaotui_{name}", *labels), 0.0)


def planner_of(running: Running) -> Planner:
    planner: Planner = running.llm.watcher._planner  # type: ignore[attr-defined]
    return planner


def test_a_receipt_tells_what_was_chosen_expected_and_took(server: Running) -> None:
    reply = post(server, FILLED)
    plan = reply.json()["miaotui"]["plan"]
    assert plan["path"] in ("drafted", "model", "prefix")
    assert plan["predicted_ms"] > 0
    assert plan["actual_ms"] > 0
    paths = [one["path"] for one in plan["candidates"]]
    assert {"kept", "drafted"} <= set(paths)
    tried = plan["candidates"][paths.index("kept")]
    assert tried["refused"] == "tried in vain"


def test_what_a_plan_says_is_free_of_words(server: Running) -> None:
    secret = "zebra-crossing"
    post(server, FILLED | {"messages": [{"role": "user", "content": secret}]}, key=KEYS[1])
    plan = post(server, FILLED).json()["miaotui"]["plan"]
    said = json.dumps(plan)
    assert secret not in said
    assert "the cat" not in said


@pytest.mark.parametrize(
    ("path", "extra"),
    [
        ("chat/completions", {}),
        ("completions", {"prompt": "the cat"}),
        ("responses", {"input": "the cat", "max_output_tokens": 500}),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_a_deadline_that_cannot_be_met_is_refused_at_once(
    server: Running, path: str, extra: dict[str, Any], *, stream: bool
) -> None:
    before = samples(server)("finished_total", "length")
    body = FILLED | extra | {"deadline_ms": 0.001, "stream": stream, "max_tokens": 500}
    reply = post(server, body, path=path)
    error = reply.json()["error"]
    assert reply.status_code == 422
    assert (error["code"], error["param"], error["deadline_ms"]) == ("deadline_cannot_be_met", "deadline_ms", 0.001)
    assert error["predicted_ms"] > error["deadline_ms"]
    assert error["fits_max_tokens"] == 0
    assert "kept answer" in error["message"]
    assert samples(server)("finished_total", "length") == before, "nothing was computed"


@pytest.mark.parametrize("stream", [False, True])
def test_anthropic_s_clients_are_told_of_a_deadline_in_their_form(server: Running, *, stream: bool) -> None:
    reply = post(server, BODY | {"deadline_ms": 0.001, "stream": stream, "max_tokens": 500}, path="messages")
    assert reply.status_code == 422
    assert reply.json()["type"] == "error"
    assert reply.json()["error"]["type"] == "invalid_request_error"
    assert reply.json()["error"]["fits_max_tokens"] == 0


def test_a_deadline_is_refused_with_what_would_fit(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planner_of(server).costs.steps, "ms_of", lambda *work: 100.0)
    error = post(server, FILLED | {"deadline_ms": 5000, "max_tokens": 500}).json()["error"]
    assert 0 < error["fits_max_tokens"] < 100
    assert f"max_tokens of {error['fits_max_tokens']} would fit" in error["message"]


def test_a_kept_answer_is_given_whatever_computing_it_would_take(
    server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = BODY | {"messages": [{"role": "user", "content": "kept for a deadline"}], "stop": ["a", "e", "t", " "]}
    body |= {"max_tokens": 400}
    assert post(server, body).json()["miaotui"]["path"] == "model"
    assert post(server, body).json()["miaotui"]["path"] == "memory", "it ended by itself, so it is kept"
    monkeypatch.setattr(planner_of(server).costs.steps, "ms_of", lambda *work: 1e6)
    again = post(server, body | {"deadline_ms": 2000})
    assert again.status_code == 200
    plan = again.json()["miaotui"]["plan"]
    assert plan["path"] == "kept"
    assert plan["predicted_ms"] < 2000
    assert post(server, body | {"deadline_ms": 2000}, key=KEYS[1]).status_code == 422, "it is another tenant's"


def test_a_deadline_that_runs_out_on_the_way_gives_what_there_is(
    server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planner_of(server).costs.steps, "ms_of", lambda *work: 1e-6)
    post(server, FILLED)  # what is made ready for the first request takes longer than that
    body = FILLED | {"deadline_ms": 30, "max_tokens": 900}
    choice = post(server, body).json()["choices"][0]
    assert choice["finish_reason"] == "length", "a word that every client knows"
    counted = samples(server)
    assert counted("deadlines_total", "cut") >= 1
    assert counted("finished_total", "deadline") >= 1


def test_every_protocol_tells_of_an_answer_that_its_deadline_ended(
    server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    def at_once(plan: Plan, deadline_s: float | None = None, **more: Any) -> Admission:
        return Admission(plan, None if deadline_s is None else 0.0, **more)

    monkeypatch.setattr(planning, "Admission", at_once)
    asked = BODY | {"deadline_ms": 1e6}
    response = post(server, asked | {"input": "the cat"}, path="responses").json()
    assert response["status"] == "incomplete"
    assert response["incomplete_details"] == {"reason": "max_output_tokens"}
    assert post(server, asked, path="messages").json()["stop_reason"] == "max_tokens"
    assert post(server, asked).json()["choices"][0]["finish_reason"] == "length"


def test_requests_without_a_deadline_are_never_refused(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planner_of(server).costs.steps, "ms_of", lambda *work: 1e9)
    assert post(server, FILLED).status_code == 200


@pytest.mark.parametrize("value", [0, -1, 1e12, "soon", True])
def test_what_is_no_deadline_is_refused_by_name(server: Running, value: object) -> None:
    reply = post(server, FILLED | {"deadline_ms": value})
    assert reply.status_code == 400
    assert reply.json()["error"]["param"] == "deadline_ms"


def test_the_plan_of_a_request_is_told_to_who_asks_why(server: Running) -> None:
    reply = post(server, FILLED)
    name = reply.headers["x-request-id"]
    told = httpx.get(f"{server.url}/v1/cache/why/{name}", headers={"authorization": f"Bearer {KEYS[0]}"}).json()
    assert told["plan"]["path"] == reply.json()["miaotui"]["plan"]["path"]
    assert told["plan"]["actual_ms"] > 0
    other = httpx.get(f"{server.url}/v1/cache/why/{name}", headers={"authorization": f"Bearer {KEYS[1]}"})
    assert other.status_code == 404


def test_paths_errors_and_deadlines_are_counted(server: Running) -> None:
    before = samples(server)
    post(server, FILLED | {"deadline_ms": 1e6})
    post(server, FILLED | {"deadline_ms": 0.001})
    after = samples(server)

    def gained(name: str, *labels: str) -> float:
        return after(name, *labels) - before(name, *labels)

    assert sum(gained("planned_total", path) for path in ("drafted", "prefix", "model")) == 1
    assert gained("plan_error_ratio_count") == 1
    assert (gained("deadlines_total", "met"), gained("deadlines_total", "refused")) == (1, 1)


LOAD = Load()


def ask(text: str = "a question", *, mode: Any = "default", near: bool | None = None, **more: Any) -> Ask:
    control = CacheControl(mode, near=near)
    params = SamplingParams(temperature=0, max_tokens=20)
    return Ask([{"role": "user", "content": text}], params, "tenant", "r", control=control, **more)


@pytest.mark.parametrize(
    ("asked", "is_kept", "paths"),
    [
        (ask(), True, {"near", "kept", "model"}),
        (ask(near=False), True, {"kept", "model"}),
        (ask(mode="no-store"), True, {"model"}),
        (ask(mode="refresh"), True, {"model"}),
        (ask(), False, {"model"}),
    ],
)
def test_no_path_is_considered_that_a_request_forbids(asked: Ask, paths: set[str], *, is_kept: bool) -> None:
    planning = Planning(Planner(), 1000, near_quality=0.99)
    looking = planning.look(asked, LOAD, is_kept=is_kept)
    assert {one.path for one in looking.plan.candidates} == paths


def test_near_answers_are_not_considered_where_none_are_given() -> None:
    looking = Planning(Planner(), 1000).look(ask(), LOAD, is_kept=True)
    assert {one.path for one in looking.plan.candidates} == {"kept", "model"}
    assert looking.control is not None
    assert looking.control.near is False


def test_a_fixed_server_looks_everywhere_and_drafts_as_it_is_set_up() -> None:
    planning = Planning(Planner(adaptive=False), 1000, near_quality=0.99)
    for _ in range(300):
        planning.planner.looked("tenant", 5.0, exact=False, near=False)
    looking = planning.look(ask(), LOAD, is_kept=True)
    assert looking.control == ask().control
    admission = planning.admit(ask())(Prospect(10, 0, 20, LOAD, can_draft=True))
    assert admission.may_draft
    assert admission.deadline_s is None


def test_people_s_own_answers_are_found_however_rarely_anything_was() -> None:
    planning = Planning(Planner(), 1000, near_quality=0.99)
    for _ in range(300):
        planning.planner.looked("tenant", 5.0, exact=False)
    looking = planning.look(ask(), LOAD, is_kept=True)
    assert looking.plan.path == "model"
    assert looking.control == ask(near=False).control


def test_lengths_of_texts_in_tokens_are_learned() -> None:
    planning = Planning(Planner(), 1000)
    assert isinstance(planning._characters_per_token, Typical)
    for _ in range(9):
        planning.admit(ask("x" * 99))(Prospect(33, 0, 20, LOAD))
    assert planning.prospect(ask("x" * 300), LOAD).num_prompt_tokens == pytest.approx(100, abs=5)
    tokens = Ask(list(range(5, 45)), SamplingParams(), "", "")
    assert planning.prospect(tokens, LOAD).num_prompt_tokens == 40


def test_a_receipt_without_a_plan_says_so() -> None:
    receipt = Receipt("model", "", 1, 0, 1, 0.1, 0.2, 0.3, 0)
    assert receipt.planned is None
    assert receipt.whole_s == pytest.approx(0.6)
    plan = Plan("model", 500.0, "the only path that was open")
    told = Receipt("model", "", 1, 0, 1, 0.1, 0.2, 0.3, 0, plan=plan).planned
    assert told is not None
    assert (told["predicted_ms"], told["actual_ms"]) == (500.0, 600.0)


def test_a_refusal_is_told_to_who_asks_why(server: Running) -> None:
    reply = post(server, FILLED | {"deadline_ms": 0.001})
    name, headers = reply.headers["x-request-id"], {"authorization": f"Bearer {KEYS[0]}"}
    told = httpx.get(f"{server.url}/v1/cache/why/{name}", headers=headers).json()
    assert told["why"].startswith("refused: deadline_ms: the answer would take about")
