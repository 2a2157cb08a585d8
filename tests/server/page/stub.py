"""A server that says what a test wants it to: the page's real files, and an API of the same shape as the real one.

Answers come in pieces that a test can hold back, so that nothing depends on how fast anything is.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from miaotui.server import page

STARTED_S = 1_790_000_000.0
GUARDS = dict.fromkeys(("units", "names", "negation", "order"), "passed")
COST_MS = 1234.5


@dataclass
class Stub:
    """What the server answers, what it was asked, and what it keeps.

    answers: by question; others are repeated. near: from a question to the one it is taken for. pieces: an answer is
    cut into so many. held: clear it, and answers stop before their last piece until it is set. gone: set when a client
    left while one was held. fails: statuses and
    messages with which the next requests under a path are refused. decisions: by request id.
    """

    url: str = ""
    answers: dict[str, str] = field(default_factory=dict)
    near: dict[str, str] = field(default_factory=dict)
    reasoning: str = ""
    finish: str = "stop"
    breaks: str = ""
    pieces: int = 6
    held: threading.Event = field(default_factory=threading.Event)
    gone: threading.Event = field(default_factory=threading.Event)
    fails: dict[str, tuple[int, str] | tuple[int, str, str]] = field(default_factory=dict)
    key: str = ""
    model: str = "stub-135m"
    others: list[str] = field(default_factory=list)
    kept: dict[str, dict[str, Any]] = field(default_factory=dict)
    asked: list[tuple[str, str, Any]] = field(default_factory=list)
    decisions: dict[str, dict[str, Any]] = field(default_factory=dict)
    hits: dict[str, int] = field(default_factory=lambda: dict.fromkeys(("memory", "store", "near", "curated"), 0))
    misses: int = 0
    load: dict[str, Any] = field(default_factory=dict)

    def bodies(self, path: str) -> list[Any]:
        """What was sent to a path."""
        return [body for _, where, body in self.asked if where == path]

    def keep(self, question: str, answer: str, **more: Any) -> str:
        """Keep an answer; its id."""
        name = hashlib.sha256(question.encode("utf-8", "replace")).hexdigest()
        entry = {"id": name, "question": question, "answer": answer, "origin": "generated", "model": "0a1b2c3d4e5f"}
        entry |= {"created": STARTED_S + len(self.kept), "expires": None, "tags": []}
        self.kept[name] = entry | more
        return name

    def stats(self) -> dict[str, Any]:
        return {
            "enabled": True,
            "hits": self.hits,
            "misses": self.misses,
            "near_refused": 3,
            "bypassed": 0,
            "errors": 0,
            "saved_s": sum(self.hits.values()) * COST_MS / 1000,
            "rows": len(self.kept),
            "bytes": 4096 * len(self.kept),
        }

    # Routes.

    async def chat(self, request: Request) -> Response:
        body = await request.json()
        number = len(self.bodies("/v1/chat/completions"))
        question = body["messages"][-1]["content"]
        receipt, text = self._receipt(question, body)
        request_id = f"request-{number}"
        self.decisions[request_id] = {
            "path": receipt["path"],
            "why": receipt["why"],
            "question": question,
            "candidates": [{"question": receipt["matched"], "similarity": 0.93, "guards": GUARDS}],
            "times_s": {"look_up": 0.0004},
        }
        events = self._events(text, receipt)
        return StreamingResponse(events, headers={"x-miaotui-receipt": request_id}, media_type="text/event-stream")

    def _receipt(self, question: str, body: dict[str, Any]) -> tuple[dict[str, Any], str]:
        cache = body.get("cache") or {}
        mode, wants_near = cache.get("mode", "default"), cache.get("near") is not False
        matched = self.near.get(question) if wants_near else None
        asked = question if len(body["messages"]) == 1 else json.dumps(body["messages"])
        entry = next((e for e in self.kept.values() if mode == "default" and e["question"] == (matched or asked)), None)
        if entry is None:
            self.misses += 1
            text = self.answers.get(question, f"You said: {question}")
            if self.finish == "stop" and mode != "no-store":
                self.keep(asked, text)
            return self._receipt_of(
                "model", "nothing like it is kept", cached_tokens=12, prefill_ms=80.0, decode_ms=400.0
            ), text
        path = "near" if matched else "curated" if entry["origin"] == "curated" else "store"
        self.hits[path] += 1
        more = {"matched": matched, "similarity": 0.9312, "guards": GUARDS} if matched else {}
        return self._receipt_of(path, f"the {path} had it", entry=entry["id"], saved_ms=COST_MS, **more), entry[
            "answer"
        ]

    @staticmethod
    def _receipt_of(path: str, why: str, **more: Any) -> dict[str, Any]:
        empty = {"saved_ms": 0, "entry": None, "matched": None, "similarity": None, "guards": {}, "cached_tokens": 0}
        return empty | {"path": path, "why": why, "queue_ms": 1.0, "prefill_ms": 0.4, "decode_ms": 0.0} | more

    async def _events(self, text: str, receipt: dict[str, Any]) -> AsyncIterator[bytes]:
        yield b": still reading the prompt\n\n"
        yield self._chunk({"role": "assistant", "content": ""})
        if self.reasoning:
            yield self._chunk({"content": None, "reasoning_content": self.reasoning})
        size = max(1, -(-len(text) // self.pieces)) if receipt["path"] == "model" else len(text)
        parts = [text[start : start + size] for start in range(0, len(text), size)]
        for index, part in enumerate(parts):
            if index and index == len(parts) - 1:
                await self._hold()
            yield self._chunk({"content": part})
        if self.breaks == "error":
            yield b'data: {"error": {"message": "the engine has stopped"}}\n\n'
            return
        if self.breaks == "cut":
            return
        yield self._chunk({"content": ""}, self.finish)
        usage = {"prompt_tokens": 12, "completion_tokens": len(parts), "total_tokens": 12 + len(parts)}
        last = {"model": self.model, "choices": [], "usage": usage, "miaotui": receipt}
        yield f"data: {json.dumps(last)}\r\n\r\n".encode()
        yield b"data: [DONE]\n\n"

    async def _hold(self) -> None:
        """Wait until the rest may be said, or the client goes away, upon which Starlette cancels this."""
        try:
            while not self.held.is_set():
                await asyncio.sleep(0.005)
        except asyncio.CancelledError:
            self.gone.set()
            raise

    def _chunk(self, delta: dict[str, Any], finish: str | None = None) -> bytes:
        body = {"model": self.model, "usage": None, "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}
        return f"data: {json.dumps(body)}\n\n".encode()

    async def models(self, request: Request) -> Response:
        writers = [{"id": name, "max_model_len": 2048, "task": "generate"} for name in (self.model, *self.others)]
        return JSONResponse({"data": [*writers, {"id": "minilm", "max_model_len": 256, "task": "embed"}]})

    async def entries(self, request: Request) -> Response:
        asked = request.query_params
        words = asked.get("search", "").lower().split()
        newest = sorted(self.kept.values(), key=lambda entry: -entry["created"])
        found = [e for e in newest if all(w in (e["question"] + e["answer"]).lower() for w in words)]
        names = [entry["id"] for entry in found]
        first = names.index(asked["before"]) + 1 if "before" in asked else 0
        limit = int(asked["limit"])
        return JSONResponse({"entries": found[first : first + limit], "more": len(found) > first + limit})

    async def entry(self, request: Request) -> Response:
        name = request.path_params["entry"]
        if self.kept.pop(name, None) is None:
            return refusal(404, "no answer of that id is kept.")
        return JSONResponse({"rejected" if request.method == "POST" else "removed": name})

    async def why(self, request: Request) -> Response:
        found = self.decisions.get(request.path_params["request_id"])
        return refusal(404, "no request of that id is known.") if found is None else JSONResponse(found)

    async def feedback(self, request: Request) -> Response:
        said = await request.json()
        if said["request_id"] not in self.decisions:
            return refusal(404, "request_id: no request of that id is known.", "unknown_request")
        if said["rating"] == "down":
            question = self.decisions[said["request_id"]]["question"]
            self.kept = {name: entry for name, entry in self.kept.items() if entry["question"] != question}
            self.near.pop(question, None)
        return JSONResponse({"kept": said["request_id"]})

    async def cache_stats(self, request: Request) -> Response:
        return JSONResponse(self.stats())

    async def dashboard(self, request: Request) -> Response:
        quantiles = {"p50": 210.0, "p95": 480.0, "p99": 900.0}
        body = {
            "model": self.model,
            "uptime_s": 4321.0,
            "running": 3,
            "waiting": 1,
            "kv": {"used": 300, "total": 1000},
            "memory_bytes": 412 << 20,
            "ttft_ms": quantiles,
            "itl_ms": {"p50": 18.0, "p95": 25.0, "p99": 61.0},
            "tokens_per_s": 152.5,
            "requests": 42,
            "cache": self.stats(),
            "energy": None,
        }
        return JSONResponse(body | self.load)

    def app(self) -> Any:
        """The application."""
        inner = Starlette(
            routes=[
                Route("/", page.front_page),
                Route("/page/{name:path}", page.page_file),
                Route("/health", lambda request: JSONResponse({"status": "ok"})),
                Route("/v1/models", self.models),
                Route("/v1/chat/completions", self.chat, methods=["POST"]),
                Route("/v1/cache/stats", self.cache_stats),
                Route("/v1/cache/entries", self.entries),
                Route("/v1/cache/entries/{entry}", self.entry, methods=["DELETE"]),
                Route("/v1/cache/entries/{entry}/reject", self.entry, methods=["POST"]),
                Route("/v1/cache/why/{request_id}", self.why),
                Route("/v1/feedback", self.feedback, methods=["POST"]),
                Route("/v1/dashboard", self.dashboard),
            ]
        )

        async def noting(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] != "http" or not scope["path"].startswith("/v1/"):
                await inner(scope, receive, send)
                return
            request = Request(scope, receive)
            body = await request.body()
            path = scope["path"]
            self.asked.append((scope["method"], path, json.loads(body) if body else None))

            sent = False

            async def again() -> Any:  # the body was read already
                nonlocal sent
                if sent:
                    return await receive()
                sent = True
                return {"type": "http.request", "body": body, "more_body": False}

            fails = next((fail for start, fail in self.fails.items() if path.startswith(start)), None)
            if fails is None and self.key and request.headers.get("authorization") != f"Bearer {self.key}":
                fails = (401, "the API key is missing.", "invalid_api_key")
            await (inner if fails is None else refusal(*fails))(scope, again, send)

        return noting


def refusal(status: int, message: str, code: str | None = None) -> Response:
    """An error as the real server words it."""
    headers = {"retry-after": "7"} if status == 429 else None
    return JSONResponse({"error": {"message": message, "code": code}}, status, headers)


@contextmanager
def serve_stub() -> Iterator[Stub]:
    """A stub that listens."""
    stub = Stub()
    stub.held.set()
    server = uvicorn.Server(uvicorn.Config(stub.app(), port=0, log_config=None, lifespan="off"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            thread.join(0.01)
        stub.url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
        yield stub
    finally:
        stub.held.set()
        server.should_exit = True
        thread.join(30)
