"""`miaotui bench --ops`: where the time of a step goes, by kind of operator, beside what the machine allows.

The roofline (Williams, Waterman and Patterson 2009) of an operator is the least time its arithmetic takes at the
measured ceiling, or its weights and KV pages take to be read, whichever is longer. Activations stay in the caches.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from miaotui.cli.output import print_table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from miaotui.engine.llm import LLM
    from miaotui.graph.cost import Workload
    from miaotui.graph.nodes import Node


_NUMBER = re.compile(r"\b\d+\.")  # of a layer or a value, in a node's label


@dataclass(frozen=True, slots=True)
class OpTime:
    """All operators of one kind and name in one step; seconds of a step, operations and bytes of a step."""

    kind: str
    name: str
    count: int
    seconds: float
    operations: float
    bytes: float
    ceiling_s: float


def prefill_ops(llm: LLM, prompt: Sequence[int], repeats: int, ceilings: Mapping[str, float]) -> list[OpTime]:
    """Operators of the steps that read a prompt, in the fastest of `repeats` runs."""
    from miaotui.cli.workload import prefill_work

    runs = []
    for _ in range(repeats):
        _profile(llm)
        llm.generate(prompt, max_tokens=1, temperature=0.0)
        runs.append(_op_times(llm))
    return _by_name(llm, min(runs, key=sum), prefill_work(len(prompt), llm.loaded.kv_dtype), ceilings)


def decode_ops(
    llm: LLM, prompt: Sequence[int], num_tokens: int, repeats: int, ceilings: Mapping[str, float]
) -> list[OpTime]:
    """Operators of a step that decodes one token, the mean of `num_tokens` - 1 of them in the fastest of some runs."""
    from miaotui.cli.workload import decode_work

    runs = []
    for _ in range(repeats):
        with llm.stream(prompt, max_tokens=num_tokens, temperature=0.0, ignore_eos=True) as stream:
            next(stream)
            _profile(llm)
            steps = sum(len(delta.token_ids) for delta in stream)
        runs.append([seconds / max(steps, 1) for seconds in _op_times(llm)])
    return _by_name(llm, min(runs, key=sum), decode_work(len(prompt) + num_tokens / 2, llm.loaded.kv_dtype), ceilings)


def op_report(ops: Sequence[OpTime]) -> list[dict[str, Any]]:
    """For JSON: each with its share of the step, rates, and the part of its roofline that it reaches."""
    total = sum(op.seconds for op in ops)
    return [
        asdict(op)
        | {
            "share": op.seconds / total,
            "gops": op.operations / op.seconds / 1e9,
            "gb_per_s": op.bytes / op.seconds / 1e9,
            "of_roofline": op.ceiling_s / op.seconds,
        }
        for op in ops
    ]


def print_ops(title: str, ops: Sequence[OpTime]) -> None:
    """A table for people, the longest first."""
    rows = [
        (
            op["kind"],
            op["name"],
            str(op["count"]),
            f"{op['seconds'] * 1e3:.3f}",
            f"{op['share']:.1%}",
            f"{op['gops']:.1f}",
            f"{op['gb_per_s']:.1f}",
            f"{op['of_roofline']:.0%}",
        )
        for op in op_report(ops)
    ]
    seconds, ceiling = sum(op.seconds for op in ops), sum(op.ceiling_s for op in ops)
    print(f"\n{title}: {seconds * 1e3:.2f} ms in operators, {ceiling / seconds:.0%} of the roofline")
    print_table(("operator", "", "times", "ms", "share", "GOPS", "GB/s", "of roofline"), rows)


def _profile(llm: LLM) -> None:
    llm.loaded.compiled.program.profile(True)


def _op_times(llm: LLM) -> list[float]:
    program = llm.loaded.compiled.program
    times = program.op_times()
    program.profile(False)
    return times


def _by_name(llm: LLM, times: list[float], work: Workload, ceilings: Mapping[str, float]) -> list[OpTime]:
    groups: dict[tuple[str, str], list[tuple[Node, float]]] = {}
    for node, seconds in zip(llm.loaded.compiled.graph.nodes, times, strict=True):
        name = _NUMBER.sub("", node.label)
        groups.setdefault((node.kind, name), []).append((node, seconds))
    ops = [_op_time(*key, members, work, ceilings) for key, members in groups.items()]
    return sorted(ops, key=lambda op: -op.seconds)


def _op_time(
    kind: str,
    name: str,
    members: list[tuple[Node, float]],
    work: Workload,
    ceilings: Mapping[str, float],
) -> OpTime:
    from miaotui.cli.workload import operations

    done = moved = ceiling_s = 0.0
    for node, _ in members:
        node_operations, integer, node_bytes = operations(node, work)
        arithmetic_s = node_operations / (ceilings["int8_gops" if integer else "f32_gflops"] * 1e9)
        ceiling_s += max(arithmetic_s, node_bytes / (ceilings["read_gb_per_s"] * 1e9))
        done, moved = done + node_operations, moved + node_bytes
    seconds = max(sum(seconds for _, seconds in members), 1e-9)
    return OpTime(kind, name, len(members), seconds, done, moved, ceiling_s)
