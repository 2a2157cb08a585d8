"""`miaotui bench serve` as a command: against scripted servers, and against the real one."""

from __future__ import annotations

import csv
import gzip
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from load.fake_server import GOOD, FakeServer, answering, raw, refuse, serving_aside
from miaotui.cli import main
from server.conftest import Running, running, start

__all__ = ["running", "start"]

QUICK = ("--requests", "4", "--prompt-tokens", "20", "--output-tokens", "3", "--seed", "1")


@pytest.fixture(autouse=True)
def _no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MIAOTUI_API_KEY", raising=False)


@pytest.fixture
def fake() -> Iterator[FakeServer]:
    with serving_aside(answering()) as server:
        yield server


def call(capfd: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str, str]:
    capfd.readouterr()
    code = main(["bench", "serve", *map(str, arguments)])
    captured = capfd.readouterr()
    return code, captured.out, captured.err


def call_json(capfd: pytest.CaptureFixture[str], *arguments: str | Path) -> Any:
    code, out, err = call(capfd, *arguments, "--json")
    assert code == 0, err
    return json.loads(out)


def chats(server: FakeServer) -> list[Any]:
    return [asked.json for asked in server.asked if asked.path.endswith("completions")]


def test_bench_of_a_model_and_of_a_server_each_have_their_help(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--help"]) == 0
    assert "miaotui bench serve URL" in capfd.readouterr().out
    code, out, _ = call(capfd, "--help")
    assert code == 0
    assert "usage: miaotui bench serve" in out
    assert "--clients" in out
    assert main(["bench", "./serve", "--threads", "0"]) == 2  # a model's path, for `bench` itself


def test_a_sweep_is_shown_as_text_json_html_and_svg(
    capfd: pytest.CaptureFixture[str], fake: FakeServer, tmp_path: Path
) -> None:
    load = (fake.url + "/v1/", *QUICK, "--clients", "1,3", "--slo", "ttft=60", "--warmup", "1")
    code, out, err = call(capfd, *load, "--report", tmp_path / "r.html")
    assert code == 0
    assert "1 client" in out
    assert "3 clients" in out
    assert "first token (TTFT)" in out
    assert "prompts had 7.0 tokens on average, 20.0 were asked for" in err
    assert "<table>" in (tmp_path / "r.html").read_text()
    report = call_json(capfd, *load, "--report", tmp_path / "r.svg")
    ElementTree.parse(tmp_path / "r.svg")
    assert [(run["num_ok"], run["clients"]) for run in report["runs"]] == [(4, 1), (4, 3)]
    assert all(run["goodput_per_s"] == run["requests_per_s"] > 0 for run in report["runs"])
    assert report["scale_source"] == "/tokenize"
    assert all(run["client_cpu_s"] > 0 for run in report["runs"])
    bodies = chats(fake)
    assert len(bodies) == 2 * (1 + 2 * 4)
    prompts = [body["messages"][0]["content"] for body in bodies[:9]]
    assert len(set(prompts)) == 9
    assert {len(prompt.split()) for prompt in prompts} == {20 - 3}
    assert {body["max_tokens"] for body in bodies} == {3}


def test_a_trace_is_replayed_with_its_lengths_and_what_is_cut_is_told(
    capfd: pytest.CaptureFixture[str], fake: FakeServer, tmp_path: Path
) -> None:
    rows = ["TIMESTAMP,ContextTokens,GeneratedTokens"]
    rows += [f"2023-11-16 18:15:{10 + second},{50 + second},{second + 1}" for second in range(5)]
    (tmp_path / "t.csv").write_text("\n".join(rows))
    trace = ("--trace", tmp_path / "t.csv", "--warmup", "0", "--max-prompt-tokens", "53")
    report = call_json(capfd, fake.url, *trace, "--rate-scale", "1000")
    (run,) = report["runs"]
    assert (run["arrivals"], run["rate"], run["num_ok"], run["num_capped"]) == ("trace", 1000, 5, 1)
    bodies = sorted(chats(fake), key=lambda body: body["max_tokens"])  # they may overtake each other
    assert [len(body["messages"][0]["content"].split()) + 3 for body in bodies] == [50, 51, 52, 53, 53]
    assert [body["max_tokens"] for body in bodies] == [1, 2, 3, 4, 5]
    assert "1 of 5 requests were shortened" in call(capfd, fake.url, *trace, "--clients", "2")[2]


def test_constant_arrivals_and_durations_bound_a_run(capfd: pytest.CaptureFixture[str], fake: FakeServer) -> None:
    load = (*QUICK[2:], "--rate", "100", "--arrivals", "constant", "--duration", "0.095")
    (run,) = call_json(capfd, fake.url, *load)["runs"]
    assert (run["label"], run["num_requests"]) == ("100 req/s constant", 10)


def test_options_reach_the_server(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "key").write_text("\nfrom-file\n")
    monkeypatch.setenv("MIAOTUI_API_KEY", "from-variable")
    with serving_aside(answering(_v1_completions=GOOD)) as server:
        call_json(capfd, server.url, *QUICK, "--endpoint", "completions", "--exact-output", "--model", "m")
        assert {asked.headers["authorization"] for asked in server.asked} == {"Bearer from-variable"}
        (body, *_) = chats(server)
        assert (body["ignore_eos"], body["min_tokens"], len(body["prompt"].split())) == (True, 3, 17)
        server.asked.clear()
        call_json(capfd, server.url, *QUICK, "--shared-prefix-tokens", "9", "--api-key-file", tmp_path / "key")
        assert {asked.headers["authorization"] for asked in server.asked} == {"Bearer from-file"}
        beginnings = {tuple(body["messages"][0]["content"].split()[:9]) for body in chats(server)}
        assert len(beginnings) == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("ftp://h",), "like http://"),
        (("h", "--clients", "1", "--rate", "1"), "choose one of"),
        (("h", "--clients", "0"), "--clients takes positive numbers"),
        (("h", "--clients", "1,two"), "--clients takes positive numbers"),
        (("h", "--rate", "nan"), "--rate takes positive numbers"),
        (("h", "--rate-scale", "2"), "add --trace"),
        (("h", "--arrivals", "constant"), "add --rate"),
        (("h", "--think", "1"), "add --clients"),
        (("h", "--think", "-1", "--clients", "1"), "--think must be at least 0"),
        (("h", "--duration", "0"), "--duration must be more than 0"),
        (("h", "--timeout", "nan"), "--timeout must be more than 0"),
        (("h", "--slo", "ttft"), "--slo is seconds"),
        (("h", "--report", "r.pdf"), ".html or .svg"),
        (("h", "--trace", "t", "--prompt-tokens", "3"), "brings its own lengths"),
        (("h", "--shape", "sharegpt", "--prompt-tokens", "3"), "are for fixed shapes"),
        (("h", "--requests", "0"), "at least 1"),
    ],
    ids=str,
)
def test_wrong_usage_exits_2_with_a_sentence(
    capfd: pytest.CaptureFixture[str], arguments: tuple[str, ...], said: str
) -> None:
    code, out, err = call(capfd, *arguments)
    assert (code, out) == (2, "")
    assert said in err
    assert err.count("\n") == 1


def test_problems_with_the_server_are_one_message(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, out, err = call(capfd, "http://127.0.0.1:1")
    assert (code, out) == (1, "")
    assert "start the server" in err
    assert "cannot read the trace" in call(capfd, "h", "--trace", tmp_path / "none")[2]
    with serving_aside(answering()) as server:
        code, _, err = call(capfd, server.url, "--model", "other")
        assert code == 1
        assert "it serves: m" in err
    with serving_aside(answering(refuse(400, "too long"))) as server:
        code, _, err = call(capfd, server.url, *QUICK)
        assert code == 1
        assert "no warm-up request was answered, the first for http_400: too long" in err


def test_it_exits_1_when_every_request_failed_and_0_when_one_did_not(capfd: pytest.CaptureFixture[str]) -> None:
    with serving_aside(answering(refuse(500, "out of luck"))) as server:
        code, out, err = call(capfd, server.url, *QUICK, "--warmup", "0", "--clients", "4")
        assert code == 1
        assert "4 × http_500: out of luck" in err
        assert "4 clients" in out
    with serving_aside(answering(refuse(500, "out of luck"), GOOD)) as server:
        assert call(capfd, server.url, *QUICK, "--warmup", "0")[0] == 0


def test_ctrl_c_prints_what_was_measured(tmp_path: Path) -> None:
    with serving_aside(answering(GOOD, GOOD, raw(b""))) as server:  # the third is never answered
        line = [sys.executable, "-m", "miaotui", "bench", "serve", server.url, *QUICK, "--warmup", "0", "--json"]
        process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        try:
            deadline = time.monotonic() + 60
            while len(chats(server)) < 3 and time.monotonic() < deadline:
                time.sleep(0.01)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()
            process.wait()
    assert process.returncode == 130
    assert "Traceback" not in err
    report = json.loads(out)
    assert report["is_whole"] is False
    assert report["runs"][0]["num_ok"] == 2


def test_without_the_extra_it_says_what_to_install(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.startswith(("aiohttp", "miaotui.load"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "aiohttp", None)
    code, _, err = call(capfd, "http://127.0.0.1:1")
    assert code == 2
    assert "pip install 'miaotui[bench]'" in err


def test_the_real_server_is_measured_token_by_token(capfd: pytest.CaptureFixture[str], running: Running) -> None:
    load = ("--requests", "6", "--prompt-tokens", "90", "--output-tokens", "20", "--exact-output", "--clients", "3")
    report = call_json(capfd, running.url, *load)
    (run,) = report["runs"]
    assert (report["model"], report["scale_source"]) == ("tiny", "/tokenize")
    assert (run["num_ok"], run["errors"]) == (6, {})
    assert run["tokens"]["counted_by"] == {"usage": 6}
    assert run["tokens"]["output"] == 20
    assert run["tokens"]["prompt"] == pytest.approx(90, rel=0.3)  # words of many tokens, in a vocabulary of bytes
    assert run["queue_s"]["count"] == 6
    assert 0 < run["ttft_s"]["p50"] <= run["e2e_s"]["p50"]
    text = call_json(capfd, running.url, *load, "--endpoint", "completions")["runs"][0]
    assert (text["num_ok"], text["tokens"]["output"]) == (6, 20)


def test_refusals_of_the_real_server_are_told(capfd: pytest.CaptureFixture[str], running: Running) -> None:
    load = ("--requests", "2", "--prompt-tokens", "500", "--warmup", "0")
    code, _, err = call(capfd, running.url, *load)
    assert code == 1
    assert "2 × http_400" in err


# The beginnings of real traces, whose files the test reads in its own way. Arrivals in seconds, lengths in tokens.
NUM_REPLAYED = 24
LENGTHS = {"--length-scale": 0.1, "--max-prompt-tokens": 200, "--max-output-tokens": 15}


def azure_rows(folder: Path) -> tuple[Path, list[tuple[float, int, int]]]:
    path = folder / "azure_conv_trace.csv"
    with path.open(newline="") as file:
        rows = [row for row, _ in zip(csv.DictReader(file), range(NUM_REPLAYED), strict=False)]
    times = [datetime.fromisoformat(row["TIMESTAMP"]).timestamp() for row in rows]
    lengths = [(int(row["ContextTokens"]), int(row["GeneratedTokens"])) for row in rows]
    return path, [(at - times[0], *pair) for at, pair in zip(times, lengths, strict=True)]


def mooncake_rows(folder: Path) -> tuple[Path, list[tuple[float, int, int]]]:
    path = folder / "mooncake_conversation.jsonl.gz"
    with gzip.open(path, "rt") as file:
        rows = [json.loads(line) for line, _ in zip(file, range(NUM_REPLAYED), strict=False)]
    first_ms = rows[0]["timestamp"]
    return path, [((row["timestamp"] - first_ms) / 1e3, row["input_length"], row["output_length"]) for row in rows]


@pytest.mark.parametrize(
    ("read", "name", "rate_scale"),
    [(azure_rows, "Azure", 20), (mooncake_rows, "Mooncake", 5)],
    ids=["azure", "mooncake"],
)
def test_real_traces_are_replayed_as_they_were_recorded(
    capfd: pytest.CaptureFixture[str], data_dir: Path, start: Any, read: Any, name: str, rate_scale: int
) -> None:
    path, rows = read(data_dir)
    load = ["--trace", path, "--requests", NUM_REPLAYED, "--rate-scale", rate_scale, "--seed", 1, "--warmup", 0]
    load += [part for pair in LENGTHS.items() for part in pair]
    with start({"context_length": 1000}) as server:
        report = call_json(capfd, server.url, *map(str, load), "--exact-output", "--slo", "e2e=1000")
    (run,) = report["runs"]
    assert report["demand"] == f"{name} trace {path.name}"
    assert (run["label"], run["num_ok"], run["errors"]) == (f"trace × {rate_scale}", NUM_REPLAYED, {})
    scaled = [(max(1, round(prompt * 0.1)), max(1, round(output * 0.1))) for _, prompt, output in rows]
    asked = [(min(prompt, 200), min(output, 15)) for prompt, output in scaled]
    assert run["num_capped"] == sum(fitted != shape for fitted, shape in zip(asked, scaled, strict=True)) > 0
    tokens = run["tokens"]
    assert tokens["output_total"] == sum(output for _, output in asked)
    assert tokens["prompt_asked"] == pytest.approx(sum(prompt for prompt, _ in asked) / NUM_REPLAYED)
    assert tokens["prompt"] == pytest.approx(tokens["prompt_asked"], rel=0.2)  # words of several tokens
    # Mooncake's conversations begin with the same block, which is found again; Azure's trace knows of no such thing.
    assert (tokens["cached"] > 16) == (name == "Mooncake"), tokens["cached"]
    due_s = [due for due, _ in run["curves"]["latency"]]
    assert [at - due_s[0] for at in due_s] == pytest.approx([at / rate_scale for at, _, _ in rows], abs=1e-6)
    assert run["elapsed_s"] > due_s[-1]
    assert run["goodput_per_s"] == run["requests_per_s"] == pytest.approx(NUM_REPLAYED / run["elapsed_s"])
