"""The OpenAPI document is true of every route, and whatever is sent to any of them, the server never fails."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx2 as httpx
import hypothesis
import pytest
import schemathesis
from hypothesis import HealthCheck, given
from hypothesis import strategies as st
from schemathesis import GenerationMode

from answers.dict_store import DictStore
from miaotui.answers.cache import AnswerCache
from miaotui.answers.store import Store
from miaotui.answers.stores.sqlite import SqliteStore
from miaotui.server.app import ROUTES
from miaotui.server.keys import parse_keys
from miaotui.server.openapi import BODIES, HEADERS, document
from miaotui.server.settings import ServerSettings
from server.bodies import GOOD
from server.conftest import Running, serve
from server.conftest import tiny_model as tiny_model  # a fixture

SCHEMA = schemathesis.openapi.from_dict(document(ROUTES))
OPERATIONS = {(op.path, op.method): op for op in (found.ok() for found in SCHEMA.get_all_operations())}
POSTS = [path for method, path, _ in ROUTES if method == "POST"]
MOST_S = 30
KEY = {"authorization": "Bearer one"}
EXAMPLES = hypothesis.settings(deadline=None, suppress_health_check=list(HealthCheck), database=None, print_blob=False)

UNKNOWN = {
    "bare": {"/v1/embeddings", "/v1/cache/entries/{entry}/reject"},
    "whole": {"/v1/cache/entries/{entry}/reject"},
}
"""What has nothing to work with at each kind of server."""

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


@pytest.fixture(scope="module", params=["bare", "whole"])
def kind(request: pytest.FixtureRequest) -> str:
    """Of a server: it only writes, or it makes embeddings, too, has a database, and wants a key."""
    return str(request.param)


@pytest.fixture(scope="module")
def server(kind: str, tiny_model: Any, tiny_bert: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    settings, encoder = ServerSettings("tiny"), None
    store: Store = DictStore()
    if kind == "whole":
        settings = ServerSettings("tiny", embed_model_name="tiny-bert", keys=parse_keys(["one", "two"], "here"))
        store, encoder = SqliteStore(tmp_path_factory.mktemp("kept") / "answers.sqlite"), tiny_bert
    cache = AnswerCache([store], b"s" * 32)
    with serve(tiny_model, settings, cache=cache, encoder=encoder, context_length=64) as running:
        asked = GOOD["/v1/completions"] | {"temperature": 0}
        said = httpx.post(running.url + "/v1/completions", json=asked, headers=KEY | {"x-request-id": "r1"})
        assert said.status_code == 200, "it can be said what one thinks of it"
        yield running


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    with httpx.Client(timeout=MOST_S, headers=KEY) as client:
        yield client


def most_examples(kind: str, path: str, most: int) -> int:
    """Fewer where the other server, which answers the same, has had them all; more where only this one answers."""
    if kind == "bare":
        return most
    return 3 * most if path == "/v1/embeddings" else most // 3


def well(response: Any) -> bool:
    """An answer, or a refusal that says why in the form of its protocol."""
    if response.status_code >= 500:
        return False
    if response.status_code >= 400:
        return bool(json.loads(response.content)["error"]["message"])
    return True


def test_every_route_is_in_the_document_with_what_it_is_sent(server: Running, client: httpx.Client) -> None:
    shown = client.get(server.url + "/openapi.json").json()
    assert shown == document(ROUTES)
    assert shown["openapi"].startswith("3.1")
    for method, path, handler in ROUTES:
        operation = shown["paths"][path.replace("{name:path}", "{name}")][method.lower()]
        assert operation["summary"]
        assert operation["operationId"] == handler.__name__
        assert all(HEADERS.keys() == told["headers"].keys() for told in operation["responses"].values())
        assert ("requestBody" in operation) == (method == "POST"), f"{path}: name its struct in openapi.BODIES"
    assert set(BODIES) == set(POSTS)
    assert {"messages", "max_tokens", "temperature"} <= set(shown["components"]["schemas"]["ChatRequest"]["properties"])


def test_nothing_that_follows_or_breaks_the_document_makes_the_server_fail(
    server: Running, kind: str, report_faults: Callable[[str, int, int], None]
) -> None:
    counts = {"cases": 0, "failures": 0}

    def check(operation: Any, mode: GenerationMode) -> None:
        @given(case=operation.as_strategy(generation_mode=mode))
        @hypothesis.settings(EXAMPLES, max_examples=most_examples(kind, operation.path, 25))
        def one(case: Any) -> None:
            counts["cases"] += 1
            response = case.call(base_url=server.url, headers=KEY, timeout=MOST_S)
            counts["failures"] += not well(response)
            assert well(response), (response.status_code, response.text)
            assert response.status_code != 401

        one()

    for operation in OPERATIONS.values():
        for mode in GenerationMode:
            if mode.is_positive or operation.body or operation.path_parameters or operation.query:
                check(operation, mode)
    report_faults(f"requests from the OpenAPI document at a {kind} server", **rename(counts))


def rename(counts: dict[str, int]) -> dict[str, int]:
    return {"num_cases": counts["cases"], "num_failures": counts["failures"]}


@pytest.mark.parametrize("path", POSTS)
def test_no_value_of_any_field_makes_the_server_fail(
    server: Running, kind: str, client: httpx.Client, path: str, report_faults: Callable[[str, int, int], None]
) -> None:
    counts = {"cases": 0, "failures": 0}
    fields = BODIES[path].__struct_fields__
    answered = client.post(server.url + path, json=GOOD[path]).status_code == 200
    assert answered == (path not in UNKNOWN[kind]), "what is right but for odd values goes further than the door"

    @given(changes=st.dictionaries(st.sampled_from(fields), VALUES, min_size=1, max_size=2))
    @hypothesis.settings(EXAMPLES, max_examples=most_examples(kind, path, 60))
    def one(changes: dict[str, Any]) -> None:
        counts["cases"] += 1
        response = client.post(server.url + path, content=json.dumps(GOOD[path] | changes).encode())
        counts["failures"] += not well(response)
        assert well(response), (changes, response.text)

    one()
    report_faults(f"odd values of fields of {path} at a {kind} server", **rename(counts))


@pytest.mark.parametrize("path", POSTS)
@pytest.mark.parametrize(
    "body", [b"\0", b'{"\0": 1}', b'{"model": "\\u0000"}', b'{"model": "\\ud800"}', b"\xef\xbb\xbf{}", b'{"a": NaN}']
)
def test_odd_bytes_are_refused(server: Running, client: httpx.Client, path: str, body: bytes) -> None:
    response = client.post(server.url + path, content=body)
    assert 400 <= response.status_code < 500
    assert well(response)
