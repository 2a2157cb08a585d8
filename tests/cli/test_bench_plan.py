"""`miaotui bench plan` as a command: on a small trace, in simulated time and for real."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from miaotui.cli import main

POLICIES = 8


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    dice, now_ms = random.Random(1), 0.0
    lines = []
    for _ in range(40):
        now_ms += dice.expovariate(1 / 500)
        row = {"timestamp": now_ms, "input_length": dice.randint(5, 60), "output_length": dice.randint(2, 20)}
        lines.append(json.dumps(row))
    path = tmp_path / "trace.jsonl"
    path.write_text("\n".join(lines))
    return path


def call(capfd: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str, str]:
    code = main(["bench", "plan", *map(str, arguments)])
    captured = capfd.readouterr()
    return code, captured.out, captured.err


def test_a_replay_is_shown_as_text_json_html_and_svg(
    capfd: pytest.CaptureFixture[str], trace: Path, tmp_path: Path
) -> None:
    code, out, err = call(capfd, trace, "--load", "0.4,0.9", "--report", tmp_path / "r.html")
    assert code == 0, err
    for word in ("oracle", "always the model", "planner", "load 0.4", "load 0.9"):
        assert word in out
    assert err.count("of the best fixed path") == 2
    page = (tmp_path / "r.html").read_text()
    assert page.count("<table>") == 2
    assert "<svg" in page
    code, out, _ = call(capfd, trace, "--json", "--report", tmp_path / "r.svg", "--requests", "20")
    report = json.loads(out)
    assert [run["load"] for run in report["runs"]] == [0.3, 0.6, 0.8]
    assert all(run["questions"] == 20 and len(run["policies"]) == POLICIES for run in report["runs"])
    assert (tmp_path / "r.svg").read_text().startswith("<svg")


def test_a_seed_gives_the_same_figures_again(capfd: pytest.CaptureFixture[str], trace: Path) -> None:
    runs = [call(capfd, trace, "--json", "--seed", seed, "--load", "0.5")[1] for seed in ("4", "4", "5")]
    assert runs[0] == runs[1] != runs[2]


def test_prompts_give_their_categories_and_prices_their_file(
    capfd: pytest.CaptureFixture[str], trace: Path, tmp_path: Path
) -> None:
    prompts, prices = tmp_path / "prompts.jsonl", tmp_path / "prices.json"
    prompts.write_text('{"category": "extraction", "turns": ["Take out the names."]}\n\n')
    prices.write_text('{"prices_ms": [1, 1, 1, 1, 1, 1], "source": "made up"}')
    code, out, _ = call(capfd, trace, "--prompts", prompts, "--costs", prices, "--json", "--load", "0.5")
    report = json.loads(out)
    assert (code, report["prices"]) == (0, "made up")
    means = {row["name"]: row["mean_ms"] for row in report["runs"][0]["policies"]}
    assert means["always drafting"] < means["always the model"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--load", "0"), "--load takes shares"),
        (("--load", "much"), "--load takes shares"),
        (("--length-scale", "nan"), "--length-scale must be"),
        (("--length-scale", "1e308"), "--length-scale must be"),
        (("--repeated", "0.9", "--reworded", "0.9"), "together 1 at most"),
        (("--report", "r.png"), ".html or .svg"),
        (("--costs", "/nowhere/prices.json"), "cannot be read as prices"),
    ],
)
def test_wrong_arguments_are_named(
    capfd: pytest.CaptureFixture[str], trace: Path, arguments: tuple[str, ...], message: str
) -> None:
    code, _, err = call(capfd, trace, *arguments)
    assert code == 2
    assert message in err


def test_prompts_that_are_none_are_refused(capfd: pytest.CaptureFixture[str], trace: Path, tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.jsonl"
    for text, message in (('{"turns": []}', "line 1"), ("\n", "holds no prompts")):
        prompts.write_text(text)
        code, _, err = call(capfd, trace, "--prompts", prompts)
        assert code == 1
        assert message in err


def test_the_same_trace_is_asked_for_real(
    capfd: pytest.CaptureFixture[str], trace: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    prices = tmp_path / "prices.json"
    prices.write_text('{"prices_ms": [1, 0.1, 0.1, 0.1, 0.1, 0.1]}')
    arguments = ("--real", tiny_model, "--real-requests", "12", "--costs", prices, "--load", "0.9", "--json")
    code, out, err = call(capfd, trace, *arguments, "--repeated", "0.5", "--drafting", "lookup")
    assert code == 0, err
    real: dict[str, Any] = json.loads(out)["real"]
    assert real["num_requests"] == 12
    assert 0 < real["num_predicted"] <= 12
    assert real["num_predicted"] == len(real["pairs"]) == sum(count for count, _ in real["errors_by_path"].values())
    assert real["energy"] > 0
    assert real["energy_unit"] in ("J", "CPU-s")


def test_a_model_s_prices_are_measured_and_kept(
    capfd: pytest.CaptureFixture[str], trace: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("miaotui.cli.bench_plan_fit.ROUND_S", 0.2)
    monkeypatch.setattr("miaotui.cli.bench_plan_fit.PROMPT_TOKENS", (5, 20))
    monkeypatch.setattr("miaotui.cli.bench_plan_fit.OUTPUT_TOKENS", (2, 5))
    prices = tmp_path / "prices.json"
    code, out, err = call(capfd, trace, "--fit", tiny_model, "--costs", prices, "--json", "--load", "0.5")
    assert code == 0, err
    kept = json.loads(prices.read_text())
    assert len(kept["prices_ms"]) == 6
    assert min(kept["prices_ms"]) >= 0
    assert kept["source"] == json.loads(out)["prices"]
    again = call(capfd, trace, "--costs", prices, "--json", "--load", "0.5")[1]
    assert json.loads(again)["runs"] == json.loads(out)["runs"]
