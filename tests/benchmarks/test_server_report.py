"""Servers are compared by what they gave in the same round, all tokens counted, with the best of the others."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import pytest

from common import ROOT
from server_peers import servers
from server_report import IN_PROCESS, OURS, OURS_INT8, Figures, beside_best, keep, table, write


def run(output: float, *, prompt: float | None = 100.0, requests_per_s: float = 2.0) -> dict[str, Any]:
    """One level of the load tool's report, in which a hundred prompt tokens were asked for."""
    spread = {"p50": 0.1, "p99": 0.2}
    return {
        "clients": 16,
        "output_tokens_per_s": output,
        "prompt_tokens_per_s": (prompt or 0) * requests_per_s,
        "requests_per_s": requests_per_s,
        "ttft_s": spread,
        "tpot_s": spread,
        "itl_s": spread,
        "tokens": {"prompt": prompt, "prompt_asked": 100, "output": 64.0},
        "client_cpu_share": 0.1,
        "num_requests": 4,
        "num_ok": 4,
    }


def measured(**rates: list[float]) -> Figures:
    figures: Figures = {}
    for server, of_rounds in rates.items():
        for rate in of_rounds:
            keep(figures, server.replace("_", " "), 64, [run(rate)])
    return figures


@pytest.mark.parametrize(("told", "total"), [(90.0, 230.0), (None, 250.0)])
def test_total_counts_prompts_as_told_or_else_as_asked(told: float | None, total: float) -> None:
    figures: Figures = {}
    keep(figures, OURS, 64, [run(50.0, prompt=told)])
    assert figures["64"]["16"][OURS][0]["total_tokens_per_s"] == total


def test_best_peer_is_somebody_else_and_ratios_are_of_the_same_round() -> None:
    figures = measured(miaotui=[30.0, 80.0], miaotui_int8=[40.0, 90.0], in_process=[90.0, 90.0], a=[10, 20], b=[1, 2])
    found = beside_best(figures["64"]["16"])["output_tokens_per_s"]
    assert found["best_peer"] == "a"
    assert found["ratios"] == {OURS: [3.0, 4.0], OURS_INT8: [4.0, 4.5]}


def test_each_rate_has_a_best_peer_of_its_own() -> None:
    figures: Figures = {}
    keep(figures, OURS, 64, [run(60.0, requests_per_s=2.0)])  # 260 in all
    keep(figures, "talkative", 64, [run(20.0, requests_per_s=0.1)])  # 30
    keep(figures, "reader", 64, [run(10.0, requests_per_s=1.2)])  # 130
    found = beside_best(figures["64"]["16"])
    assert found["output_tokens_per_s"] == {"best_peer": "talkative", "ratios": {OURS: [3.0]}}
    assert found["total_tokens_per_s"] == {"best_peer": "reader", "ratios": {OURS: [2.0]}}


def test_file_and_table_hold_total_and_both_ratios(tmp_path: Path) -> None:
    figures = measured(miaotui=[30.0], peer=[10.0])
    machine = {"cpu": "a", "tier": "b", "threads": 2, "date": "d", "commit": "c"}
    write({"machine": machine, "model": "m", "figures": figures}, tmp_path / "out.json")
    record = json.loads((tmp_path / "out.json").read_text())
    assert record["beside_best_peer"]["64"]["16"]["total_tokens_per_s"]["ratios"][OURS] == [230 / 210]
    row = next(line for line in (tmp_path / "out.md").read_text().splitlines() if "| miaotui |" in line)
    assert "| 30 (30–30) | 230 (230–230) |" in row
    assert "| 3.00 (3.00–3.00) | 1.10 (1.10–1.10) |" in row


def test_results_from_before_totals_still_make_a_table() -> None:
    record = json.loads((ROOT / "benchmarks" / "results" / "2026-11-22-servers.json").read_text())
    rows = table(record["figures"]).splitlines()
    assert len({row.count("|") for row in rows}) == 1
    assert any("| miaotui |" in row for row in rows)


def test_servers_are_taken_by_name_in_one_order() -> None:
    assert servers("vllm,in-process,miaotui") == [OURS, IN_PROCESS, "vllm"]


def test_unknown_server_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="no llamma here; there are miaotui, miaotui-int8, in-process"):
        servers("miaotui,llamma")
