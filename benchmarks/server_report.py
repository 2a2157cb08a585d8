"""Tables of what server_peers.py measured.

usage: server_report.py RESULTS.json      (writes RESULTS.md beside it; server_peers.py --out does so itself)
"""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path
from typing import Any

Figures = dict[str, dict[str, dict[str, list[dict[str, float]]]]]
"""{prompt tokens: {clients: {server: [figures of each round]}}}"""

OURS = "miaotui"
COLUMNS = {
    "output_tokens_per_s": "tokens/s",
    "ttft_p50_s": "first token p50",
    "ttft_p99_s": "p99",
    "tpot_p50_s": "a token p50",
    "itl_p99_s": "gap p99",
}


def keep(figures: Figures, server: str, prompt_tokens: int, runs: list[dict[str, Any]]) -> None:
    """Add one round's runs of one server."""
    for run in runs:
        by_server = figures.setdefault(str(prompt_tokens), {}).setdefault(str(run["clients"]), {})
        by_server.setdefault(server, []).append(
            {
                "output_tokens_per_s": run["output_tokens_per_s"],
                "ttft_p50_s": run["ttft_s"]["p50"],
                "ttft_p99_s": run["ttft_s"]["p99"],
                "tpot_p50_s": run["tpot_s"]["p50"],
                "itl_p99_s": run["itl_s"]["p99"],
                "output_tokens": run["tokens"]["output"],
                "client_cpu_share": run["client_cpu_share"],
                "num_failed": run["num_requests"] - run["num_ok"],
            }
        )


def table(figures: Figures) -> str:
    """A Markdown row for each load and server: medians, range of the rate, and how many times miaotui's it is."""
    heads = ["prompt", "clients", "server", *COLUMNS.values(), "× miaotui's tokens/s", "tokens an answer", "failed"]
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for prompt_tokens, by_clients in figures.items():
        for clients, by_server in by_clients.items():
            for server, rounds in by_server.items():
                lines.append(_row([prompt_tokens, clients, server], rounds, by_server.get(OURS, [])))
    return "\n".join(lines) + "\n"


def _row(names: list[str], rounds: list[dict[str, float]], ours: list[dict[str, float]]) -> str:
    rates = [figures["output_tokens_per_s"] for figures in rounds]
    cells = [f"{statistics.median(rates):.0f} ({min(rates):.0f}–{max(rates):.0f})"]
    cells += [f"{_median(rounds, column) * 1e3:.1f} ms" for column in list(COLUMNS)[1:]]
    pairs = zip(rates, (figures["output_tokens_per_s"] for figures in ours), strict=False)  # of the same rounds
    ratios = [theirs / own for theirs, own in pairs if own]
    cells.append(f"{statistics.median(ratios):.2f}" if ratios else "")
    cells += [f"{_median(rounds, 'output_tokens'):.1f}", f"{sum(figures['num_failed'] for figures in rounds):.0f}"]
    return "| " + " | ".join(names + cells) + " |"


def _median(rounds: list[dict[str, float]], name: str) -> float:
    return statistics.median(figures[name] for figures in rounds)


def write(record: dict[str, Any], path: Path) -> None:
    """Write the figures as JSON to `path`, and as a table beside it."""
    path.write_text(json.dumps(record, indent=1) + "\n")
    machine = record["machine"]
    facts = ", ".join(str(machine[name]) for name in ("cpu", "tier", "threads", "date", "commit"))
    head = f"{record['model']}; {facts} (threads before the date). Medians over rounds; ranges in brackets.\n\n"
    path.with_suffix(".md").write_text(head + table(record["figures"]))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    write(json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[1]))
