"""Tables of what server_peers.py measured.

usage: server_report.py RESULTS.json      (writes RESULTS.md beside it; server_peers.py --out does so itself)
"""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path
from typing import Any

from common import with_range, write_record

Rounds = list[dict[str, float]]
Figures = dict[str, dict[str, dict[str, Rounds]]]
"""{prompt tokens: {clients: {server: [figures of each round]}}}"""

OURS, OURS_INT8, IN_PROCESS = "miaotui", "miaotui int8", "in process"
RATES = {"output_tokens_per_s": "tokens/s", "total_tokens_per_s": "total tokens/s"}
"""Of answers; of answers and prompts together."""
TIMES = {
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
                "total_tokens_per_s": run["output_tokens_per_s"] + prompt_tokens_per_s(run),
                "ttft_p50_s": run["ttft_s"]["p50"],
                "ttft_p99_s": run["ttft_s"]["p99"],
                "tpot_p50_s": run["tpot_s"]["p50"],
                "itl_p99_s": run["itl_s"]["p99"],
                "output_tokens": run["tokens"]["output"],
                "client_cpu_share": run["client_cpu_share"],
                "num_failed": run["num_requests"] - run["num_ok"],
            }
        )


def prompt_tokens_per_s(run: dict[str, Any]) -> float:
    """As the server counts them; where it does not tell (llama-cpp-python's streams), as they were asked for."""
    told = run["tokens"]["prompt"]
    return float(run["requests_per_s"] * (run["tokens"]["prompt_asked"] if told is None else told))


def ratios(ours: Rounds, theirs: Rounds, name: str) -> list[float]:
    """How many times as much of one figure, round by round; results of before it was kept have none."""
    pairs = zip(ours, theirs, strict=False)  # a round under way has fewer
    return [own[name] / other[name] for own, other in pairs if name in own and other.get(name)]


def best_peer(by_server: dict[str, Rounds], name: str) -> str | None:
    """The server of somebody else with the highest median."""
    medians = {
        server: statistics.median(figures[name] for figures in rounds)
        for server, rounds in by_server.items()
        if server not in (OURS, OURS_INT8, IN_PROCESS) and name in rounds[0]
    }
    return max(medians, key=medians.__getitem__, default=None)


def beside_best(by_server: dict[str, Rounds]) -> dict[str, dict[str, dict[str, Any]]]:
    """For each rate the best peer, and each of our servers' ratios to it, round by round."""
    found = {}
    for name in RATES:
        peer = best_peer(by_server, name)
        if peer is not None:
            ours = {server: rounds for server, rounds in by_server.items() if server in (OURS, OURS_INT8)}
            times = {server: ratios(rounds, by_server[peer], name) for server, rounds in ours.items()}
            found[name] = {"best_peer": peer, "ratios": times}
    return found


def table(figures: Figures) -> str:
    """A Markdown row for each load and server: medians, ranges of the rates, ratios to miaotui and to the best peer."""
    heads = ["prompt", "clients", "server", *RATES.values(), *TIMES.values(), "× miaotui's tokens/s"]
    heads += [*(f"× best peer's {head}" for head in RATES.values()), "tokens an answer", "failed"]
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for prompt_tokens, by_clients in figures.items():
        for clients, by_server in by_clients.items():
            lines += (_row([prompt_tokens, clients, server], by_server) for server in by_server)
    return "\n".join(lines) + "\n"


def _row(names: list[str], by_server: dict[str, Rounds]) -> str:
    server, beside = names[-1], beside_best(by_server)
    rounds = by_server[server]
    cells = [with_range([one[name] for one in rounds], 0) if name in rounds[0] else "" for name in RATES]
    cells += [f"{_median(rounds, column) * 1e3:.1f} ms" for column in TIMES]
    of_ours = ratios(rounds, by_server.get(OURS, []), "output_tokens_per_s")
    cells.append(f"{statistics.median(of_ours):.2f}" if of_ours else "")
    for name in RATES:
        times = beside.get(name, {"ratios": {}})["ratios"].get(server)
        cells.append(with_range(times) if times else "")
    cells += [f"{_median(rounds, 'output_tokens'):.1f}", f"{sum(figures['num_failed'] for figures in rounds):.0f}"]
    return "| " + " | ".join(names + cells) + " |"


def _median(rounds: Rounds, name: str) -> float:
    return statistics.median(figures[name] for figures in rounds)


def write(record: dict[str, Any], path: Path) -> None:
    """Write the figures as JSON to `path`, with ratios to the best peer, and as a table beside it."""
    beside = {
        prompt_tokens: {clients: beside_best(by_server) for clients, by_server in by_clients.items()}
        for prompt_tokens, by_clients in record["figures"].items()
    }
    write_record(record | {"beside_best_peer": beside}, path)
    machine = record["machine"]
    facts = ", ".join(str(machine[name]) for name in ("cpu", "tier", "threads", "date", "commit"))
    head = f"{record['model']}; {facts} (threads before the date). Medians over rounds; ranges in brackets.\n\n"
    path.with_suffix(".md").write_text(head + table(record["figures"]))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    write(json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[1]))
