"""Exact hits among many kept answers: in the process and over HTTP, from memory and from SQLite, beside long prompts.

usage: kept_answers.py [--rows N] [--probes N] [--file FILE.sqlite] [--out FILE.json] [MODEL]    (default: smollm2:135m)
200 questions are asked and their answers kept; then the store is filled up to N rows (a million; about ten minutes)
with answers to others. Hot: the 200 are asked again, after each was asked once. Cold: any of the N, each as likely,
with nothing in memory before. --file keeps the filled store for the next time.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import json
import random
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from answer_store import ROWS_AT_ONCE, WORDS, figures
from common import machine_facts, resolve, write_record
from miaotui import LLM, SamplingParams
from miaotui.answers.cache import AnswerCache, Found, opened
from miaotui.answers.control import CacheControl
from miaotui.answers.entry import generated
from miaotui.answers.question import Question
from miaotui.answers.secret import secret_of
from miaotui.answers.store import Filter
from miaotui.answers.stores import open_store
from server_latency import text_of
from server_peers import serving

STOP = [".", "\n"]
PARAMS = SamplingParams(temperature=0, max_tokens=64, stop=STOP)
Draw = Callable[[random.Random], str]
QUESTIONS = [f"What is {number} plus {number % 7}? Answer in one sentence." for number in range(200)]


def hot(rng: random.Random) -> str:
    """One of the few that were asked just now."""
    return rng.choice(QUESTIONS)


def text_at(number: int) -> str:
    """One of the questions that the store is filled with."""
    return " ".join(random.Random(number).choices(WORDS, k=12)) + f" {number}?"


def question_of(text: str, fingerprint: str) -> Question:
    """As the server makes it of a request."""
    return Question("", fingerprint, [{"role": "user", "content": text}], PARAMS)


def body_of(text: str, **more: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": text}]
    return {"messages": messages, "temperature": 0, "max_tokens": 64, "stop": STOP, "miaotui": True} | more


def ask(connection: http.client.HTTPConnection, body: dict[str, Any]) -> dict[str, Any]:
    connection.request("POST", "/v1/chat/completions", json.dumps(body), {"content-type": "application/json"})
    answer: dict[str, Any] = json.loads(connection.getresponse().read())
    return answer


def keeping(model: Path, home: Path, file: Path, memory: str) -> AbstractContextManager[int]:
    """A server that keeps answers in the file, and so much of them in memory."""
    kept = ("--cache", f"sqlite:{file}", "--cache-memory", memory, "--cache-store", "100GiB")
    return serving(model, home, *kept, "--context-length", "8192")


def over_http(port: int, probes: int, draw: Draw, *, beside: bool) -> dict[str, Any]:
    """Latencies of hits in seconds, with a prompt of about 4,000 tokens under way all the time if asked for."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    done = threading.Event()

    def read_long_prompts() -> None:
        other = http.client.HTTPConnection("127.0.0.1", port)
        for number in range(10**6):
            if done.is_set():
                return
            ask(other, body_of(text_of(3900, number), max_tokens=1, cache={"mode": "no-store"}))

    reader = threading.Thread(target=read_long_prompts)
    if beside:
        reader.start()
        time.sleep(0.5)
    rng, times_s, paths = random.Random(2 if beside else 1), [], {}  # what is cold must not come twice
    for _ in range(probes):
        asked = body_of(draw(rng))
        start_s = time.perf_counter()
        path = ask(connection, asked)["miaotui"]["path"]
        if path in ("memory", "store"):
            times_s.append(time.perf_counter() - start_s)
        paths[path] = paths.get(path, 0) + 1
    done.set()
    if beside:
        reader.join()
    return figures(times_s) | {"paths": paths}


async def in_process(
    fingerprint: str, home: Path, file: Path, texts: list[str], warm: list[str], memory: int
) -> dict[str, Any]:
    """Latencies of `AnswerCache.look_up` for texts, once the warm ones were asked."""
    stores = [open_store("memory:", max_bytes=memory), open_store(f"sqlite:{file}")]
    cache = AnswerCache(stores, secret_of(None, home))
    times_s: list[float] = []
    paths: dict[str, int] = {}
    async with opened(cache):
        for number, text in enumerate([*warm, *texts]):
            start_s = time.perf_counter()
            found = await cache.look_up(question_of(text, fingerprint), CacheControl())
            if number >= len(warm):
                path = found.path if isinstance(found, Found) else "none"
                times_s.append(time.perf_counter() - start_s)
                paths[path] = paths.get(path, 0) + 1
    return figures(times_s) | {"paths": paths}


async def all_in_process(fingerprint: str, home: Path, file: Path, probes: int, any_row: Draw) -> dict[str, Any]:
    """Hot questions with and without memory, and cold ones."""
    rng = random.Random(1)
    few, many = [hot(rng) for _ in range(probes)], [any_row(rng) for _ in range(probes)]
    return {
        "in process, hot, from SQLite": await in_process(fingerprint, home, file, few, QUESTIONS, 1),
        "in process, hot, from memory": await in_process(fingerprint, home, file, few, QUESTIONS, 64 << 20),
        "in process, cold, from SQLite": await in_process(fingerprint, home, file, many, [], 64 << 20),
    }


async def fill_up(file: Path, home: Path, fingerprint: str, num_rows: int) -> int:
    """Keep an answer to each of `text_at(0)` to `text_at(num_rows - 1)`; how many answers there are."""
    store, secret = open_store(f"sqlite:{file}"), secret_of(None, home)
    await store.open()
    held = (await store.count(Filter("answer", model=fingerprint))).num_rows
    for first in range(0, num_rows if held < num_rows else 0, ROWS_AT_ONCE):
        rows = []
        for number in range(first, min(first + ROWS_AT_ONCE, num_rows)):
            answer = " ".join(random.Random(-number).choices(WORDS, k=120))
            entry = generated(question_of(text_at(number), fingerprint), answer, output_tokens=60, cost_s=1.0)
            rows.append(entry.row().sealed(secret))
        await store.put(rows)
    held = (await store.count(Filter("answer"))).num_rows
    await store.close()
    return held


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="smollm2:135m")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--probes", type=int, default=2000)
    parser.add_argument("--file", type=Path)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    model = resolve(arguments.model)
    with LLM(model, context_length=8192) as llm:
        fingerprint = llm.fingerprint()

    def any_row(rng: random.Random) -> str:
        return text_at(rng.randrange(arguments.rows))

    with tempfile.TemporaryDirectory() as folder:
        file = arguments.file or Path(folder) / "answers.sqlite"
        home = file.parent
        with keeping(model, home, file, "64MiB") as port:
            connection = http.client.HTTPConnection("127.0.0.1", port)
            for text in QUESTIONS:
                ask(connection, body_of(text))
        num_rows = asyncio.run(fill_up(file, home, fingerprint, arguments.rows))
        record: dict[str, Any] = {"machine": machine_facts(), "rows": num_rows}
        record |= asyncio.run(all_in_process(fingerprint, home, file, arguments.probes, any_row))
        for name, memory, draw in (
            ("hot, from SQLite", "1", hot),
            ("hot, from memory", "64MiB", hot),
            ("cold, from SQLite", "64MiB", any_row),
        ):
            with keeping(model, home, file, memory) as port:
                if draw is hot:
                    over_http(port, len(QUESTIONS) * 5, hot, beside=False)
                for beside in (False, True):
                    where = f"over HTTP, {name}" + (", beside long prompts" if beside else "")
                    record[where] = over_http(port, arguments.probes, draw, beside=beside)
    print(json.dumps(record, indent=1))
    if arguments.out:
        write_record(record, arguments.out)


if __name__ == "__main__":
    main()
