"""The OpenAPI document is true of every route, and whatever is sent to any of them, the server never fails."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx2 as httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode

from answers.dict_store import DictStore
from miaotui.answers.cache import AnswerCache
from miaotui.server.app import ROUTES
from miaotui.server.openapi import BODIES, document
from server.conftest import Running, serve
from server.conftest import tiny_model as tiny_model  # a fixture

SCHEMA = schemathesis.openapi.from_dict(document(ROUTES))
OPERATIONS = {(op.path, op.method): op for op in (found.ok() for found in SCHEMA.get_all_operations())}
POSTS = [path for method, path, _ in ROUTES if method == "POST"]
MOST_S = 30
EXAMPLES = settings(
    max_examples=25, deadline=None, suppress_health_check=list(HealthCheck), database=None, print_blob=False
)

GOOD: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 2},
    "/v1/completions": {"prompt": "hi", "max_tokens": 2},
    "/v1/messages": {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 2},
    "/v1/messages/count_tokens": {"messages": [{"role": "user", "content": "hi"}]},
    "/v1/responses": {"input": "hi", "max_output_tokens": 2},
    "/v1/embeddings": {"input": "hi"},
    "/v1/cache/entries/{entry}/reject": {"comment": "no"},
    "/v1/feedback": {"request_id": "r1", "rating": "up"},
    "/tokenize": {"prompt": "hi"},
    "/detokenize": {"tokens": [5, 6]},
}

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from([0, -1, 2**31, 2**63, 2**64, -(2**63), 10**400, 1e308, -1e308, 5e-324, 0.1]),
    st.integers(-3, 300),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=20),
    st.sampled_from(["\0", "a\0b", "\ud800", "\uffff", "{{ x }}", "<|im_end|>", "x" * 3000, "required", "none"]),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.sampled_from(["type", "role", "content", "text", "name", "function", "\0", ""]), inner),
    ),
    max_leaves=8,
)


@pytest.fixture(scope="module")
def server(tiny_model: Any) -> Iterator[Running]:
    from miaotui.server.settings import ServerSettings

    cache = AnswerCache([DictStore()], b"s" * 32)
    with serve(tiny_model, ServerSettings("tiny"), cache=cache, context_length=64) as running:
        yield running


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    with httpx.Client(timeout=MOST_S) as client:
        yield client


def well(response: Any) -> bool:
    """An answer, or a refusal that says why in the form of its protocol."""
    if response.status_code >= 500:
        return False
    if response.status_code >= 400 and response.status_code != 405:
        return bool(json.loads(response.content)["error"]["message"])
    return True


def test_every_route_is_in_the_document_with_what_it_is_sent(server: Running) -> None:
    shown = httpx.get(server.url + "/openapi.json").json()
    assert shown == document(ROUTES)
    assert shown["openapi"].startswith("3.1")
    for method, path, handler in ROUTES:
        operation = shown["paths"][path.replace("{name:path}", "{name}")][method.lower()]
        assert operation["summary"]
        assert operation["operationId"] == handler.__name__
        assert ("requestBody" in operation) == (method == "POST"), f"{path}: name its struct in openapi.BODIES"
    assert set(BODIES) == set(POSTS)
    assert {"messages", "max_tokens", "temperature"} <= set(shown["components"]["schemas"]["ChatRequest"]["properties"])


def test_nothing_that_follows_or_breaks_the_document_makes_the_server_fail(
    server: Running, report_faults: Callable[[str, int, int], None]
) -> None:
    counts = {"cases": 0, "failures": 0}

    def check(operation: Any, mode: GenerationMode) -> None:
        @given(case=operation.as_strategy(generation_mode=mode))
        @EXAMPLES
        def one(case: Any) -> None:
            counts["cases"] += 1
            response = case.call(base_url=server.url, timeout=MOST_S)
            counts["failures"] += response.status_code >= 500
            assert response.status_code < 500, response.text

        one()

    for operation in OPERATIONS.values():
        for mode in GenerationMode:
            if mode.is_positive or operation.body or operation.path_parameters:
                check(operation, mode)
    report_faults("requests from the OpenAPI document, answers of 500 or above", **rename(counts))


def rename(counts: dict[str, int]) -> dict[str, int]:
    return {"num_cases": counts["cases"], "num_failures": counts["failures"]}


@pytest.mark.parametrize("path", POSTS)
def test_no_value_of_any_field_makes_the_server_fail(
    server: Running, client: httpx.Client, path: str, report_faults: Callable[[str, int, int], None]
) -> None:
    counts = {"cases": 0, "failures": 0}
    fields = BODIES[path].__struct_fields__

    @given(changes=st.dictionaries(st.sampled_from(fields), VALUES, min_size=1, max_size=2))
    @settings(EXAMPLES, max_examples=60)
    def one(changes: dict[str, Any]) -> None:
        counts["cases"] += 1
        response = client.post(server.url + path, content=json.dumps(GOOD[path] | changes).encode())
        counts["failures"] += not well(response)
        assert well(response), (changes, response.text)

    one()
    report_faults(f"odd values of fields of {path}", **rename(counts))


@pytest.mark.parametrize("path", POSTS)
@pytest.mark.parametrize(
    "body", [b"\0", b'{"\0": 1}', b'{"model": "\\u0000"}', b'{"model": "\\ud800"}', b"\xef\xbb\xbf{}", b'{"a": NaN}']
)
def test_odd_bytes_are_refused(server: Running, client: httpx.Client, path: str, body: bytes) -> None:
    response = client.post(server.url + path, content=body)
    assert 400 <= response.status_code < 500
    assert well(response)
