"""Requests and tokens per minute and key: what is left is said, more is refused, and waiting helps."""

from __future__ import annotations

import re
from typing import Any

import anthropic
import httpx2 as httpx
import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st

from miaotui.errors import RateLimitError
from miaotui.server.keys import parse_keys
from miaotui.server.rate_limits import RateLimits
from miaotui.server.settings import ServerSettings

KEYS = parse_keys(["one rpm=2", "two tpm=10", "three"], "here")
CHAT: dict[str, Any] = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 3}


def limits_at(now: list[float], **changes: Any) -> RateLimits:
    return RateLimits(ServerSettings("m", keys=KEYS, **changes), lambda: now[0])


def refusal_of(limits: RateLimits, tenant: str) -> RateLimitError | None:
    try:
        limits.admit(tenant)
    except RateLimitError as error:
        return error
    return None


def test_a_key_has_its_own_requests_and_gets_them_back_over_a_minute() -> None:
    now = [0.0]
    limits = limits_at(now)
    one, _, three = (key.tenant for key in KEYS)
    limits.admit(one)
    limits.admit(one)
    with pytest.raises(RateLimitError) as caught:
        limits.admit(one)
    assert (caught.value.what, caught.value.retry_after_s) == ("requests", 30)
    for _ in range(100):
        limits.admit(three)
    now[0] = 30.0
    limits.admit(one)
    with pytest.raises(RateLimitError):
        limits.admit(one)


def test_tokens_are_charged_afterwards_and_paid_off() -> None:
    now = [0.0]
    limits = limits_at(now)
    two = KEYS[1].tenant
    limits.admit(two)
    limits.spend(two, 14)
    with pytest.raises(RateLimitError) as caught:
        limits.admit(two)
    assert caught.value.what == "tokens"
    assert caught.value.retry_after_s == 30  # 4 owed and 1 to go on with, at 10 a minute
    now[0] += caught.value.retry_after_s
    limits.admit(two)


def test_the_servers_limits_are_for_keys_without_their_own_and_for_everybody_without_keys() -> None:
    limits = limits_at([0.0], rate_limit_requests=1)
    limits.admit(KEYS[2].tenant)
    with pytest.raises(RateLimitError):
        limits.admit(KEYS[2].tenant)
    limits.admit(KEYS[0].tenant)
    limits.admit(KEYS[0].tenant)
    open_to_all = RateLimits(ServerSettings("m", rate_limit_requests=1), lambda: 0.0)
    open_to_all.admit("")
    with pytest.raises(RateLimitError):
        open_to_all.admit("")


@given(st.lists(st.tuples(st.floats(0, 100), st.integers(0, 10**6)), max_size=40), st.integers(1, 10**5))
def test_retry_after_is_a_whole_second_up_to_a_minute(steps: list[tuple[float, int]], per_min: int) -> None:
    now = [0.0]
    limits = limits_at(now, rate_limit_requests=per_min, rate_limit_tokens=per_min)
    tenant = KEYS[2].tenant
    for pause_s, spent in steps:
        now[0] += pause_s
        refusal = refusal_of(limits, tenant)
        assert refusal is None or refusal.retry_after_s in range(1, 61)
        limits.spend(tenant, spent)
        for name, value in limits.headers(tenant):
            form = r"(\d+m)?\d+m?s" if b"reset" in name else r"\d+"
            assert re.fullmatch(form, value.decode())


def test_clients_see_what_is_left_and_their_own_kind_of_refusal(start: Any) -> None:
    keys = parse_keys(["one rpm=2", "two tpm=5"], "here")
    with start(keys=keys) as running:
        url, headers = running.url + "/v1/chat/completions", {"authorization": "Bearer one"}
        first = httpx.post(url, json=CHAT, headers=headers)
        assert first.status_code == 200
        assert first.headers["x-ratelimit-limit-requests"] == "2"
        assert first.headers["x-ratelimit-remaining-requests"] == "1"
        assert re.fullmatch(r"\d+s", first.headers["x-ratelimit-reset-requests"])
        assert "x-ratelimit-limit-tokens" not in first.headers
        assert httpx.get(running.url + "/v1/models", headers=headers).status_code == 200
        with openai.OpenAI(base_url=running.url + "/v1", api_key="one", max_retries=0) as client:
            client.chat.completions.create(model="tiny", **CHAT)
            with pytest.raises(openai.RateLimitError) as refused:
                client.chat.completions.create(model="tiny", **CHAT)
        assert refused.value.code == "rate_limit_exceeded"
        assert 1 <= int(refused.value.response.headers["retry-after"]) <= 60
        assert refused.value.response.headers["x-ratelimit-remaining-requests"] == "0"
        with anthropic.Anthropic(base_url=running.url, api_key="two", max_retries=0) as claude:
            claude.messages.create(model="tiny", **CHAT)
            with pytest.raises(anthropic.RateLimitError) as late:
                claude.messages.create(model="tiny", **CHAT)
        assert late.value.body["error"]["type"] == "rate_limit_error"  # type: ignore[index]
        running.until(lambda: True)
        counted = httpx.get(running.url + "/metrics", headers=headers).text
        assert 'miaotui_rejected_total{reason="requests"} 1.0' in counted
        assert 'miaotui_rejected_total{reason="tokens"} 1.0' in counted
