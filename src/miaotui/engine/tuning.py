"""Choices that depend on the machine, made by measuring: threads, and from how many tokens on weights are unpacked.

None of them changes a result. They are measured once per machine, number of threads, instruction-set tier and model
shape, kept in `HOME/tuning`, and measured again when any of those changes or the file is damaged.
"""

from __future__ import annotations

import json
import math
import time
import zlib
from bisect import bisect_left
from contextlib import suppress
from dataclasses import asdict, dataclass
from itertools import accumulate
from operator import truediv
from pathlib import Path
from statistics import median

import numpy as np

from miaotui import __version__, _native
from miaotui.errors import ModelFileError
from miaotui.formats.spec import ModelSpec
from miaotui.graph.compile import CompiledProgram

VERSION = 2
MIN_WEIGHT_BYTES = 16 << 20
"""Smaller models are fast with any choice, and a measurement would be mostly noise."""

PANEL_TOKENS = (8, 16, 24, 32, 48, 64, 96)
NEVER = 1 << 20
DISPLACING_BYTES = 64 << 20
"""So many bytes of other weights leave nothing of a layer in the caches."""

WORTH_IT = 1.05
"""A choice must be so many times faster than the default to be taken: less is noise."""


@dataclass(frozen=True, slots=True)
class Tuning:
    """Choices, by the names of `_native.Program.tune`, and how many times faster than the defaults they were."""

    choices: dict[str, int]
    gains: dict[str, float]
    seconds: float

    @classmethod
    def from_json(cls, text: str) -> Tuning:
        """Raises ValueError for anything else than what `to_json` wrote."""
        row = json.loads(text)
        if not isinstance(row, dict) or row.get("version") != VERSION:
            raise ValueError("another version")
        choices, gains = row.get("choices"), row.get("gains")
        if not isinstance(choices, dict) or set(choices) != {"panel_tokens", "panel_blocks", *_THREADS}:
            raise ValueError("unknown choices")
        if any(type(value) is not int or not 1 <= value <= NEVER for value in choices.values()):
            raise ValueError("choices out of range")
        if not isinstance(gains, dict) or any(type(gain) is not float for gain in gains.values()):
            raise ValueError("gains that are no numbers")
        return cls(choices, gains, float(row.get("seconds", 0.0)))

    def to_json(self) -> str:
        """One JSON object."""
        return json.dumps({"version": VERSION, **asdict(self)}, indent=1) + "\n"


_THREADS = ("short_threads", "long_threads")


def tuning_file(home: Path, compiled: CompiledProgram, spec: ModelSpec) -> Path:
    """Where the choices for this machine and this shape of model are kept."""
    cpu = _native.cpu_info()
    shapes = sorted({(w.type.name, *w.shape) for node in compiled.graph.nodes for w in node.matrices})
    activations = sorted({v.dtype for node in compiled.graph.nodes for v in node.inputs})
    facts = (VERSION, __version__, cpu["model"], cpu["threads"], cpu["tier"], spec.num_layers, shapes, activations)
    return home / "tuning" / f"{spec.architecture}-{cpu['tier']}-{zlib.crc32(repr(facts).encode()):08x}.json"


def load(file: Path) -> Tuning | None:
    """What was chosen before; None if nothing was, or the file cannot be used."""
    try:
        return Tuning.from_json(file.read_text("utf-8"))
    except (OSError, ValueError, TypeError):
        return None


def kept(home: Path) -> dict[str, Tuning]:
    """All that was chosen on this machine, by file name."""
    found = {file.stem: load(file) for file in sorted((home / "tuning").glob("*.json"))}
    return {name: tuning for name, tuning in found.items() if tuning is not None}


def save(file: Path, tuning: Tuning) -> None:
    """Keep the choices; where nothing can be written, they are measured again next time."""
    from miaotui.formats.store_files import write_whole

    with suppress(OSError):
        write_whole(file, lambda out: out.write(tuning.to_json().encode()))


def apply(compiled: CompiledProgram, tuning: Tuning) -> bool:
    """Use the choices from the next step on; False if the program has no such choices."""
    try:
        compiled.program.tune(**tuning.choices)
    except ModelFileError:
        return False
    return True


def describe(tuning: Tuning) -> list[tuple[str, str]]:
    """Choices and gains as lines for people: (what, how)."""
    choices = tuning.choices
    gains = ", ".join(f"{name} {gain:.2f} times" for name, gain in tuning.gains.items())
    return [
        ("threads", f"{choices['short_threads']} for decoding, {choices['long_threads']} for reading prompts"),
        ("weights unpacked first", f"from {choices['panel_tokens']} tokens a step on"),
        ("blocks at a time", str(choices["panel_blocks"])),
        ("faster than the defaults", gains or "no: the defaults are the best here"),
    ]


def measure(compiled: CompiledProgram, spec: ModelSpec, kv_dtype: str, *, max_tokens: int, budget_s: float) -> Tuning:
    """Choose by running steps, for about `budget_s` seconds; what there is no time for keeps its default.

    Leaves the program with the choices in force. The steps' tokens are made up and nothing of them stays.
    """
    bench = _Bench(compiled, spec, kv_dtype, max_tokens, time.monotonic() + budget_s)
    start = time.monotonic()
    defaults = compiled.program.tuning
    choices, gains = dict(defaults), dict[str, float]()

    def choose(name: str, candidates: tuple[int, ...], tokens: int, label: str, *, whole: bool) -> None:
        """Take the fastest of a choice's candidates for a step of so many tokens, if it is worth it."""
        others = [c for c in candidates if c != choices[name]]
        times = bench.compare([choices, *({**choices, name: c} for c in others)], tokens, whole=whole)
        if times is None:
            return
        best = min(range(len(others)), key=lambda i: times[1 + i], default=None)
        if best is not None and times[0] > WORTH_IT * times[1 + best]:
            choices[name] = others[best]
            gains[label] = gains.get(label, 1.0) * times[0] / times[1 + best]

    threads = _fewer_threads(choices["short_threads"])
    choose("short_threads", threads, 1, "decode", whole=True)
    if max_tokens >= PANEL_TOKENS[-1]:
        _choose_panel_tokens(bench, choices, gains)
        large = min(max_tokens, 256)
        choose("panel_blocks", (1, 2), large, "prefill", whole=False)
        choose("long_threads", _fewer_threads(choices["long_threads"]), large, "prefill", whole=False)
    compiled.program.tune(**choices)
    return Tuning(choices, {k: round(v, 3) for k, v in gains.items()}, round(time.monotonic() - start, 2))


def _fewer_threads(most: int) -> tuple[int, ...]:
    return tuple(sorted({max(1, most >> shift) for shift in range(most.bit_length())}, reverse=True))


def _choose_panel_tokens(bench: _Bench, choices: dict[str, int], gains: dict[str, float]) -> None:
    """The number of tokens from which on unpacking first costs least over all sizes; one noisy size decides little."""
    ratios = []  # how many times slower unpacking is
    for tokens in PANEL_TOKENS:
        times = bench.compare([{**choices, "panel_tokens": NEVER}, {**choices, "panel_tokens": 1}], tokens, whole=False)
        if times is None:
            return  # no time left: the default stays
        ratios.append(math.log(times[1] / times[0]))
    regrets = {first: sum(r for n, r in zip(PANEL_TOKENS, ratios, strict=True) if n >= first) for first in PANEL_TOKENS}
    best = min(regrets, key=regrets.__getitem__)
    between = [n for n in PANEL_TOKENS if min(best, choices["panel_tokens"]) <= n < max(best, choices["panel_tokens"])]
    gain = math.exp((regrets[choices["panel_tokens"]] - regrets[best]) / len(between)) if between else 1.0
    if gain > WORTH_IT:
        choices["panel_tokens"] = best
        gains["small batches"] = gain


class _Bench:
    """Runs made-up steps of a program on KV pages of its own."""

    REPEATS = 5

    def __init__(
        self, compiled: CompiledProgram, spec: ModelSpec, kv_dtype: str, max_tokens: int, deadline_s: float
    ) -> None:
        self._program, self._deadline_s = compiled.program, deadline_s
        tokens = min(max_tokens, 256)
        blocks = -(-tokens // _native.KvPool.BLOCK_TOKENS)
        self._kv = _native.KvPool(spec.num_layers, spec.num_kv_heads, spec.head_dim, blocks, kv_dtype)
        self._ids = (np.arange(tokens, dtype=np.int32) * 7919 + 13) % spec.vocab_size
        self._positions = np.arange(tokens, dtype=np.int32)
        self._table = np.arange(blocks, dtype=np.int32).reshape(1, -1)
        nodes = compiled.graph.nodes
        self._two_layers = next((i for i, n in enumerate(nodes) if n.layer is not None and n.layer >= 2), len(nodes))
        num_bytes = list(accumulate(sum(w.nbytes for w in node.matrices) for node in nodes[self._two_layers :]))
        self._displacing = self._two_layers + bisect_left(num_bytes, DISPLACING_BYTES) + 1
        self._displacing = min(self._displacing, len(nodes))

    def compare(self, candidates: list[dict[str, int]], tokens: int, *, whole: bool) -> list[float] | None:
        """How many times as long a step takes with each of the candidates as with the first; None where time is up.

        Medians of what was measured within milliseconds, as the machine may be slower a moment later.

        It is the whole step, or its first two layers, whose weights later layers have driven out of the caches before:
        as in a whole step, they come from memory.
        """
        times: list[list[float]] = [[] for _ in candidates]
        for repeat in range(self.REPEATS + 1):  # the first warms up
            for taken, candidate in zip(times, candidates, strict=True):
                if time.monotonic() > self._deadline_s:
                    return None
                if not whole:
                    self._run(1, self._displacing)
                self._program.tune(**candidate)
                start = time.perf_counter()
                self._run(tokens, None if whole else self._two_layers)
                if repeat:
                    taken.append(time.perf_counter() - start)
        return [median(map(truediv, taken, times[0])) for taken in times]

    def _run(self, tokens: int, num_ops: int | None) -> None:
        self._program.run(
            self._kv,
            self._ids[:tokens],
            self._positions[:tokens],
            np.array([0, tokens], np.int32),
            self._table,
            np.array([tokens - 1], np.int32),
            num_ops,
        )
