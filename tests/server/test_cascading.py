"""A small model before the served one: who answers what, what it is told of, and that nobody else's request changes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import httpx2 as httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from answers.dict_store import DictStore
from engine.tiny_model import write_tiny_model
from miaotui import LLM
from miaotui.adaptive.cascade import Asking, Gate, digests
from miaotui.adaptive.cascade.asking import answers, prompt_for
from miaotui.adaptive.drafters.given import GivenDrafter
from miaotui.answers.cache import AnswerCache
from miaotui.core import Receipt
from miaotui.engine.prospect import Load, Prospect
from miaotui.errors import GateError, MiaotuiError, OverloadedError
from miaotui.server import planning
from miaotui.server.answers import Service
from miaotui.server.asking import Ask
from miaotui.server.cascading import Cascading
from miaotui.server.keys import ApiKey, digest_of
from miaotui.server.planning import SmallCosts
from miaotui.server.settings import ServerSettings
from miaotui.server.supervisor import Supervisor
from server.conftest import Running, serve

WRITTEN = Asking(max_tokens=12)
TOLD = Asking("Go on.", max_tokens=12)
CHOSEN = Asking(choices=("yes", "no"))
TEXTS = ["the cat", "and the dog in the house", "in the end", "the the the", "and"]
ALWAYS, NEVER = -1e6, 1e6
KEYS = ("a-key-of-somebody", "a-key-of-somebody-strict")


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("cascading")
    return write_tiny_model(folder / "small.gguf", seed=1), write_tiny_model(folder / "large.gguf", seed=2)


def said_by(path: Path, asking: Asking = WRITTEN) -> list[str]:
    with LLM(path) as llm:
        return [one.text for one in answers(llm, asking, [prompt_for(llm, asking, text) for text in TEXTS])]


def gate_for(paths: tuple[Path, Path], threshold: float | None, asking: Asking = WRITTEN, **more: Any) -> Gate:
    with LLM(paths[0]) as small, LLM(paths[1]) as large:
        return Gate("margin", threshold, digests([small, large]), asking, 0.95, 0.9, **more)


def running(paths: tuple[Path, Path], gate: Gate, settings: ServerSettings | None = None, **options: Any) -> Any:
    chosen = settings or ServerSettings("tiny")
    return serve(
        paths[1], chosen, first=(paths[0], gate), **{"drafter": GivenDrafter(), "context_length": 600, **options}
    )


def body(text: str, **more: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": text}]
    return {"messages": messages, "temperature": 0, "max_tokens": 12, "miaotui": True} | more


def post(server: Running, asked: dict[str, Any], key: str = "", path: str = "chat/completions") -> dict[str, Any]:
    headers = {"authorization": f"Bearer {key}"} if key else {}
    reply = httpx.post(f"{server.url}/v1/{path}", json=asked, headers=headers, timeout=60)
    assert reply.status_code == 200, reply.text
    answer: dict[str, Any] = reply.json()
    return answer


def text_of(reply: dict[str, Any]) -> str:
    content: str = reply["choices"][0]["message"]["content"]
    return content


def outcomes(server: Running) -> dict[str, float]:
    ledger: Any = server.llm.watcher
    families = text_string_to_metric_families(ledger.metrics.text().decode())
    return {
        one.labels["outcome"]: one.value
        for family in families
        for one in family.samples
        if one.name == "miaotui_cascaded_total"
    }


@pytest.fixture(scope="module")
def eager(paths: tuple[Path, Path]) -> Iterator[Running]:
    """Where the small model is always sure enough."""
    cache = AnswerCache([DictStore()], b"s" * 32)
    keys = (ApiKey(digest_of(KEYS[0])), ApiKey(digest_of(KEYS[1]), quality_floor=0.99))
    with running(paths, gate_for(paths, ALWAYS), ServerSettings("tiny", keys=keys), cache=cache) as server:
        yield server


@pytest.fixture(scope="module")
def doubting(paths: tuple[Path, Path]) -> Iterator[Running]:
    """Where it never is."""
    with running(paths, gate_for(paths, NEVER)) as server:
        yield server


def test_what_the_small_model_is_sure_of_is_its_answer(eager: Running, paths: tuple[Path, Path]) -> None:
    for text, wanted in zip(TEXTS, said_by(paths[0]), strict=True):
        reply = post(eager, body(text), KEYS[0])
        assert text_of(reply) == wanted
        receipt = reply["miaotui"]
        assert receipt["path"] == "cascade"
        assert "was sure enough (margin" in receipt["why"]
        assert [one["signal"] for one in receipt["stages"]] == ["margin"]
        assert receipt["plan"]["path"] == "cascade"
        assert receipt["plan"]["predicted_ms"] > 0
        assert {one["path"] for one in receipt["plan"]["candidates"]} >= {"cascade", "model"}


def test_what_it_is_not_sure_of_is_answered_as_if_it_had_not_been_asked(
    doubting: Running, paths: tuple[Path, Path]
) -> None:
    for text, wanted in zip(TEXTS, said_by(paths[1]), strict=True):
        reply = post(doubting, body(text))
        assert text_of(reply) == wanted
        receipt = reply["miaotui"]
        assert receipt["path"] == "cascade"
        assert "was not sure enough (margin" in receipt["why"]
        first, last = receipt["stages"]
        assert (first["signal"], last["signal"]) == ("margin", None)
        tried = {one["path"]: one["refused"] for one in receipt["plan"]["candidates"]}
        assert tried["cascade"] == "tried: not sure enough"
        assert receipt["plan"]["actual_ms"] >= (first["seconds"] + last["seconds"]) * 1e3 - 1


def test_streams_say_the_same(eager: Running, doubting: Running, paths: tuple[Path, Path]) -> None:
    for server, key, wanted in ((eager, KEYS[0], said_by(paths[0])[0]), (doubting, "", said_by(paths[1])[0])):
        asked = body(TEXTS[0], stream=True)
        headers = {"authorization": f"Bearer {key}"} if key else {}
        said = ""
        with httpx.stream("POST", f"{server.url}/v1/chat/completions", json=asked, headers=headers) as reply:
            for line in reply.iter_lines():
                if line.startswith("data: {"):
                    choices = json.loads(line[6:])["choices"]
                    said += choices[0]["delta"].get("content") or "" if choices else ""
        assert said == wanted


@pytest.mark.parametrize(
    "more",
    [
        {"temperature": 0.7, "seed": 1},
        {"max_tokens": 11},
        {"stop": ["x"]},
        {"presence_penalty": 0.5},
        {"logprobs": True},
        {"n": 2},
        {"ignore_eos": True},
        {"guided_choice": ["yes", "no"]},
        {"guided_regex": "[a-z]+"},
        {"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "the cat"}]},
        {"messages": [{"role": "assistant", "content": "the cat"}]},
        {"messages": [{"role": "user", "content": "the cat", "name": "Ann"}]},
        {"tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]},
        {"chat_template_kwargs": {"x": 1}},
    ],
)
def test_what_the_gate_was_not_calibrated_for_is_the_models(eager: Running, more: dict[str, Any]) -> None:
    before = outcomes(eager)
    reply = post(eager, body("the cat") | more, KEYS[0])
    assert reply["miaotui"]["path"] != "cascade"
    assert outcomes(eager) == before


def test_other_limits_that_cut_nothing_do_not_matter(eager: Running, paths: tuple[Path, Path]) -> None:
    """The tiny model never ends by itself: with another limit its answer would go on."""
    reply = post(eager, body("the cat", max_tokens=40, cache={"mode": "no-store"}), KEYS[0])
    assert len(reply["miaotui"]["stages"]) == 2
    assert reply["usage"]["completion_tokens"] > 12


def test_a_key_with_a_floor_above_the_gates_has_the_model_answer(eager: Running, paths: tuple[Path, Path]) -> None:
    reply = post(eager, body("the cat"), KEYS[1])
    assert text_of(reply) == said_by(paths[1])[0]
    assert reply["miaotui"]["path"] == "model"
    refused = {one["path"]: one["refused"] for one in reply["miaotui"]["plan"]["candidates"]}
    assert "quality floor of 0.99" in refused["cascade"]


def test_answers_of_the_small_model_are_not_kept(paths: tuple[Path, Path]) -> None:
    for threshold, wanted in ((ALWAYS, ["cascade", "cascade"]), (NEVER, ["cascade", "memory"])):
        cache = AnswerCache([DictStore()], b"s" * 32)
        with running(paths, gate_for(paths, threshold, CHOSEN), cache=cache) as server:
            asked = body("the cat", guided_choice=["yes", "no"])
            assert [post(server, asked)["miaotui"]["path"] for _ in range(2)] == wanted


def test_choices_are_given_as_the_gate_was_calibrated(paths: tuple[Path, Path]) -> None:
    gate = gate_for(paths, ALWAYS, CHOSEN)
    with running(paths, gate) as server:
        for text, wanted in zip(TEXTS, said_by(paths[0], CHOSEN), strict=True):
            reply = post(server, body(text, guided_choice=["yes", "no"]))
            assert text_of(reply) == wanted
            assert reply["miaotui"]["path"] == "cascade"
            assert reply["choices"][0]["finish_reason"] == "stop"
        for more in ({"guided_choice": ["no", "yes"]}, {"guided_choice": ["yes", "not"]}, {}):
            assert post(server, body("the cat", **more))["miaotui"]["path"] != "cascade"


def test_only_texts_behind_the_gates_instruction_are_asked(paths: tuple[Path, Path]) -> None:
    with running(paths, gate_for(paths, ALWAYS, TOLD)) as server:
        for text, wanted in zip(TEXTS, said_by(paths[0], TOLD), strict=True):
            assert text_of(post(server, body(f"Go on.\n\n{text}"))) == wanted
        parts = [{"role": "user", "content": [{"type": "text", "text": "Go on.\n\nthe cat"}]}]
        assert post(server, body("") | {"messages": parts})["miaotui"]["path"] == "cascade"
        assert post(server, body("the cat"))["miaotui"]["path"] != "cascade"


def test_what_the_small_model_cannot_read_is_the_models(eager: Running) -> None:
    text = " ".join(["the cat"] * 40)  # more than its context, and not more than the other one's
    before = outcomes(eager)
    reply = post(eager, body(text), KEYS[0])
    assert reply["miaotui"]["path"] == "model"
    assert outcomes(eager)["failed"] == before["failed"] + 1


def test_the_small_answer_is_a_draft_for_the_same_request(
    paths: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[tuple[Any, ...]] = []
    monkeypatch.setattr(GivenDrafter, "give", lambda self, *arguments: given.append(arguments))
    with running(paths, gate_for(paths, NEVER), ServerSettings("tiny", keys=(ApiKey(digest_of(KEYS[0])),))) as server:
        post(server, body("the cat"), KEYS[0])
        with LLM(paths[1]) as llm:
            prompt = prompt_for(llm, WRITTEN, "the cat").ids
        ((ids, tokens, tenant),) = given
        assert ids == prompt
        assert len(tokens) == 12
        assert tenant == digest_of(KEYS[0]).hex()[:16]
        post(server, body("the dog", drafting=False), KEYS[0])
        assert len(given) == 1


def test_chances_are_learned_by_tenant_and_the_small_model_is_left_out_where_it_seldom_does(
    paths: tuple[Path, Path],
) -> None:
    settings = ServerSettings("tiny", planning="adaptive")
    with running(paths, gate_for(paths, NEVER), settings) as server:
        ledger: Any = server.llm.watcher
        planner = ledger._planner
        for _ in range(200):
            planner.cascaded("", sufficed=False)
        plans = [post(server, body(f"the {number}"))["miaotui"] for number in range(20)]
        asked = [one for one in plans if one["path"] == "cascade"]
        assert len(asked) < len(plans) / 2, "now and then it is tried again"
        assert planner.chances.of("cascade", "somebody else") == 0.5


def test_the_decision_tells_of_both(paths: tuple[Path, Path]) -> None:
    cache = AnswerCache([DictStore()], b"s" * 32)
    with running(paths, gate_for(paths, NEVER), cache=cache) as server:
        reply = httpx.post(f"{server.url}/v1/chat/completions", json=body("the cat"), timeout=60)
        told = httpx.get(f"{server.url}/v1/cache/why/{reply.headers['x-request-id']}").json()
        assert told["path"] == "cascade"
        assert "was not sure enough" in told["why"]
        assert told["plan"]["path"] in ("model", "prefix", "drafted")


def test_a_gate_that_nothing_passes_or_that_is_for_others_is_refused(paths: tuple[Path, Path]) -> None:
    useless = gate_for(paths, None)
    wrong = gate_for((paths[1], paths[0]), 1.0)

    with LLM(paths[0]) as small, LLM(paths[1]) as large:
        holders: list[Any] = [SimpleNamespace(llm=small), SimpleNamespace(llm=large)]
        for gate, message in ((useless, "lets no answer"), (wrong, "another model")):
            with pytest.raises(GateError, match=message):
                Cascading(holders[0], holders[1], gate, Mock(), Mock(), Mock())


@pytest.mark.parametrize("error", [MiaotuiError("broken"), KeyError("broken")])
def test_errors_of_the_small_model_are_nobodys(
    eager: Running, paths: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    async def broken(*_: Any, **__: Any) -> Any:
        raise error

    monkeypatch.setattr(Cascading, "_done", broken)
    before = outcomes(eager)["failed"]
    assert text_of(post(eager, body("the cat", cache={"mode": "no-store"}), KEYS[0])) == said_by(paths[1])[0]
    assert outcomes(eager)["failed"] == before + 1


def test_what_comes_too_late_is_not_given(eager: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Ask, "ends_s", 0.0)
    monkeypatch.setattr(planning, "_left_ms", lambda ask: None)  # or it would not be asked at all
    before = outcomes(eager)["failed"]
    assert post(eager, body("the cat"), KEYS[0])["miaotui"]["path"] == "model"
    assert outcomes(eager)["failed"] == before + 1


def test_who_would_find_no_room_is_told_before_anything_is_asked(
    eager: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OverloadedError("full")

    monkeypatch.setattr(eager.llm, "check_room", full)
    before = outcomes(eager)
    headers = {"authorization": f"Bearer {KEYS[0]}"}
    reply = httpx.post(f"{eager.url}/v1/chat/completions", json=body("the cat"), headers=headers, timeout=60)
    assert reply.status_code == 429
    assert outcomes(eager) == before


def test_what_the_small_model_said_in_vain_is_charged_too(doubting: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    charged: list[int] = []
    monkeypatch.setattr(doubting.llm.watcher, "_spend", lambda tenant, tokens: charged.append(tokens))
    post(doubting, body("the cat"))
    assert len(charged) == 2
    assert charged[0] == charged[1], "both read the same prompt and wrote as much"


def test_what_a_small_model_takes_is_learned_once_however_many_are_under_way() -> None:
    costs = SmallCosts()
    prospect = Prospect(20, 0, 10, Load())
    forecasts = [costs.forecast(prospect, "") for _ in range(16)]
    receipt = Receipt("model", "", 20, 0, 10, 0.0, 0.1, 0.1, 0)
    for forecast in forecasts:
        costs.observe(forecast, 2 * forecast.answer_ms / 1e3, receipt, "", 10)
    again = costs.forecast(prospect, "")
    assert again.ms == pytest.approx(2 * again.answer_ms)


def test_only_a_hung_small_model_is_a_problem_of_the_server() -> None:
    service = object.__new__(Service)
    service.embedder = None
    served: Any = SimpleNamespace(problem=lambda: None, is_hung=False)
    cases: tuple[tuple[Any, str | None], ...] = (
        (SimpleNamespace(problem=lambda: "is being started anew", is_hung=False), None),
        (SimpleNamespace(problem=lambda: "a step hangs", is_hung=True), "a step of the small model hangs"),
    )
    for small, wanted in cases:
        service.supervisors = [served, small]
        assert service.problem() == wanted


def test_an_engine_is_started_anew_only_when_its_turn_can_come() -> None:
    started: list[str] = []
    own: Any = SimpleNamespace(has_ended=True, is_alive=False, restart=lambda: started.append("own"))
    other: Any = SimpleNamespace(has_ended=False, is_alive=False)  # given up, with a step that has not ended
    metrics: Any = SimpleNamespace(restarts=SimpleNamespace(inc=lambda: None))
    watcher = Supervisor(own, ServerSettings("tiny"), metrics, beside=[other])
    asyncio.run(watcher._look())
    assert not started
    other.has_ended = True
    asyncio.run(watcher._look())
    assert started == ["own"]


def test_given_answers_do_not_outlive_their_requests() -> None:
    drafter = GivenDrafter()
    request = SimpleNamespace(tenant="t", prompt_token_ids=(1, 2), keep=True)
    sequence = Mock(request=request, finish_reason="cancelled", num_output_tokens=0)
    drafter.give([1, 2], [3], "t")
    drafter.give([1, 2], [4], "other")
    drafter.ended(sequence)
    assert list(drafter._given) == [("other", (1, 2))]
