"""Exact hits among many kept answers: in the process and over HTTP, from memory and from SQLite, beside long prompts.

usage: kept_answers.py [--rows N] [--probes N] [--file FILE.sqlite] [--out FILE.json] [MODEL]    (default: smollm2:135m)
Some questions are asked once and their answers kept; then the store is filled up to N rows (a million; about ten
minutes) and the same questions are asked again. --file keeps the filled store for the next time.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from answer_store import figures, fill
from common import machine_facts, resolve
from miaotui import LLM, SamplingParams
from miaotui.answers.cache import AnswerCache, Found
from miaotui.answers.control import CacheControl
from miaotui.answers.question import Question
from miaotui.answers.secret import secret_of
from miaotui.answers.store import Filter
from miaotui.answers.stores import open_store
from server_latency import text_of
from server_peers import answers, free_port

STOP = [".", "\n"]
QUESTIONS = [f"What is {number} plus {number % 7}? Answer in one sentence." for number in range(200)]


def body_of(text: str, **more: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": text}]
    return {"messages": messages, "temperature": 0, "max_tokens": 64, "stop": STOP, "miaotui": True} | more


def ask(connection: http.client.HTTPConnection, body: dict[str, Any]) -> dict[str, Any]:
    connection.request("POST", "/v1/chat/completions", json.dumps(body), {"content-type": "application/json"})
    answer: dict[str, Any] = json.loads(connection.getresponse().read())
    return answer


@contextmanager
def serving(model: Path, home: Path, file: Path, memory: str) -> Iterator[int]:
    port = free_port()
    line = [sys.executable, "-m", "miaotui", "serve", str(model), "--port", str(port), "--log-format", "none"]
    line += ["--cache", f"sqlite:{file}", "--cache-memory", memory, "--cache-store", "100GiB"]
    line += ["--context-length", "8192"]
    process = subprocess.Popen(line, stderr=subprocess.DEVNULL, env={**os.environ, "MIAOTUI_HOME": str(home)})
    try:
        while not answers(f"http://127.0.0.1:{port}"):
            time.sleep(0.02)
        yield port
    finally:
        process.terminate()
        process.wait()


def over_http(port: int, probes: int, *, beside: bool) -> dict[str, Any]:
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
    rng, times_s, paths = random.Random(1), [], {}
    for _ in range(probes):
        asked = body_of(rng.choice(QUESTIONS))
        start_s = time.perf_counter()
        path = ask(connection, asked)["miaotui"]["path"]
        if path in ("memory", "store"):
            times_s.append(time.perf_counter() - start_s)
        paths[path] = paths.get(path, 0) + 1
    done.set()
    if beside:
        reader.join()
    return figures(times_s) | {"paths": paths}


async def in_process(model: Path, home: Path, file: Path, probes: int) -> dict[str, Any]:
    """Latencies of `AnswerCache.look_up`: with nothing in memory, and with everything there."""
    with LLM(model, context_length=8192) as llm:
        fingerprint = llm.fingerprint()
    params = SamplingParams(temperature=0, max_tokens=64, stop=STOP)
    results: dict[str, Any] = {}
    for name, memory_bytes in (("from SQLite", 1), ("from memory", 64 << 20)):
        stores = [open_store("memory:", max_bytes=memory_bytes), open_store(f"sqlite:{file}")]
        cache = AnswerCache(stores, secret_of(None, home))
        await cache.open()
        rng, times_s, paths = random.Random(1), [], {}
        for number in range(probes + len(QUESTIONS)):
            text = QUESTIONS[number] if number < len(QUESTIONS) else rng.choice(QUESTIONS)
            start_s = time.perf_counter()
            question = Question("", fingerprint, [{"role": "user", "content": text}], params)
            found = await cache.look_up(question, CacheControl())
            if isinstance(found, Found) and number >= len(QUESTIONS):  # the first round fills the memory
                times_s.append(time.perf_counter() - start_s)
                paths[found.path] = paths.get(found.path, 0) + 1
        await cache.close()
        results[f"in process, {name}"] = figures(times_s) | {"paths": paths}
    return results


async def fill_up(file: Path, num_rows: int) -> int:
    """How many answers the store holds, at least so many."""
    store = open_store(f"sqlite:{file}")
    await store.open()
    held = (await store.count(Filter("answer"))).num_rows
    if held < num_rows:
        await fill(store, num_rows)
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
    with tempfile.TemporaryDirectory() as folder:
        file = arguments.file or Path(folder) / "answers.sqlite"
        home = file.parent
        with serving(model, home, file, "64MiB") as port:
            connection = http.client.HTTPConnection("127.0.0.1", port)
            for text in QUESTIONS:
                ask(connection, body_of(text))
        record: dict[str, Any] = {"machine": machine_facts(), "rows": asyncio.run(fill_up(file, arguments.rows))}
        record |= asyncio.run(in_process(model, home, file, arguments.probes))
        for name, memory in (("SQLite", "1"), ("memory", "64MiB")):
            with serving(model, home, file, memory) as port:
                over_http(port, len(QUESTIONS) * 5, beside=False)
                for beside in (False, True):
                    where = f"over HTTP, from {name}" + (", beside long prompts" if beside else "")
                    record[where] = over_http(port, arguments.probes, beside=beside)
    text = json.dumps(record, indent=1)
    print(text)
    if arguments.out:
        arguments.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
