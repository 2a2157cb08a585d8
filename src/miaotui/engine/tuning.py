"""Choices that depend on the machine, made by measuring: threads, and from how many tokens on weights are unpacked.

None of them changes a result. They are measured once per machine, number of threads, instruction-set tier, model
shape and size of step, kept in `HOME/tuning`, and measured again when any of those changes or the file is damaged. What
one start has no time for, the next ones measure.
"""

from __future__ import annotations

import json
import math
import time
import zlib
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from itertools import accumulate
from operator import truediv
from pathlib import Path
from statistics import median

import numpy as np

from miaotui import __version__, _native
from miaotui.errors import ModelFileError
from miaotui.formats.spec import ModelSpec
from miaotui.graph.compile import CompiledProgram

VERSION = 5
"""Of the file and of the way of measuring: choices made in another way are made again."""
MIN_WEIGHT_BYTES = 16 << 20
"""Smaller models are fast with any choice, and a measurement would be mostly noise."""

PANEL_TOKENS = (8, 16, 32, 48, 64, 96, 160, 256)
NEVER = 1 << 20
"""Where unpacking first pays with no number of tokens: the scales of Q4_1 are cheap to read each time."""
DISPLACING_BYTES = 64 << 20
"""So many bytes of other weights leave nothing of a layer in the caches."""

WORTH_IT = 1.05
"""A choice must be so many times faster than the default, twice, to be taken: less is noise."""

LONG_STEP_TOKENS = 128
"""Steps of so many tokens use `long_threads` (the native core's kLongStepTokens)."""

UNCROWDED = 0.9
"""Share of the processor time that the threads must have had for a measurement to count."""

ENOUGH_S = 0.05
"""Less processor time than this says nothing about other processes."""

_MAX_FILE_BYTES = 1 << 16
_CHOICES = ("short_threads", "panel_tokens", "panel_blocks", "long_threads")
_GAINS = ("decode", "small batches", "prefill")


@dataclass(frozen=True, slots=True)
class Tuning:
    """Choices, by the names of `_native.Program.tune`, and how many times faster than the defaults they were.

    model, machine: what they were made for, for people. measured: names of the choices that there was time for.
    """

    model: str
    machine: str
    choices: dict[str, int]
    gains: dict[str, float]
    measured: list[str]
    seconds: float

    @classmethod
    def from_json(cls, text: str) -> Tuning:
        """Raises ValueError for anything else than what `to_json` wrote."""
        row = json.loads(text)
        if not isinstance(row, dict) or row.pop("version", None) != VERSION or set(row) != set(cls.__slots__):
            raise ValueError("another version")
        found = cls(**row)
        numbers = isinstance(found.choices, dict) and isinstance(found.gains, dict) and type(found.seconds) is float
        if not numbers or not isinstance(found.measured, list) or set(found.choices) != set(_CHOICES):
            raise ValueError("unknown choices")
        if any(type(value) is not int or not 1 <= value <= NEVER for value in found.choices.values()):
            raise ValueError("choices out of range")
        if max(found.choices["short_threads"], found.choices["long_threads"]) > _native.cpu_info()["threads"]:
            raise ValueError("more threads than there are")
        if not set(found.gains) <= set(_GAINS) or not all(name in _CHOICES for name in found.measured):
            raise ValueError("unknown names")
        if any(type(gain) is not float or not 0 < gain < 1000 for gain in found.gains.values()):
            raise ValueError("gains that are no numbers")
        if not all(isinstance(text, str) and text.isprintable() for text in (found.model, found.machine)):
            raise ValueError("names that are no text")
        return found

    def to_json(self) -> str:
        """One JSON object."""
        return json.dumps({"version": VERSION, **asdict(self)}, indent=1) + "\n"

    @property
    def is_complete(self) -> bool:
        """Whether every choice has been measured."""
        return set(self.measured) == set(_CHOICES)


def machine() -> str:
    """What choices depend on beside the model."""
    cpu = _native.cpu_info()
    return f"{cpu['model']}, {cpu['tier']}, {cpu['threads']} threads, miaotui {__version__}"


def tuning_file(home: Path, compiled: CompiledProgram, spec: ModelSpec, max_tokens: int) -> Path:
    """Where the choices for this machine, this shape of model and steps of at most so many tokens are kept."""
    shapes = sorted({(w.type.name, *w.shape) for node in compiled.graph.nodes for w in node.matrices})
    facts = (VERSION, machine(), spec.num_layers, shapes, _activations(compiled), max_tokens)
    tier = _native.cpu_info()["tier"]
    return home / "tuning" / f"{spec.architecture}-{tier}-{zlib.crc32(repr(facts).encode()):08x}.json"


def _activations(compiled: CompiledProgram) -> list[str]:
    return sorted({value.dtype for node in compiled.graph.nodes for value in node.inputs})


def load(file: Path) -> Tuning | None:
    """What was chosen before; None if nothing was, or the file cannot be used."""
    try:
        if not file.is_file():  # opening a pipe would wait for its other end
            return None
        with file.open(encoding="utf-8") as text:
            return Tuning.from_json(text.read(_MAX_FILE_BYTES))
    except (OSError, ValueError, TypeError, RecursionError):
        return None


def kept(home: Path) -> list[Tuning]:
    """All that was chosen on this machine as it is now."""
    found = (load(file) for file in sorted((home / "tuning").glob("*.json")))
    return [tuning for tuning in found if tuning is not None and tuning.machine == machine()]


def save(file: Path, tuning: Tuning) -> bool:
    """Keep the choices; False where nothing can be written, so that they are measured again next time."""
    from miaotui.formats.store_files import write_whole

    try:
        write_whole(file, lambda out: out.write(tuning.to_json().encode()))
    except OSError:
        return False
    return True


def apply(compiled: CompiledProgram, tuning: Tuning) -> bool:
    """Use the choices from the next step on; False if the program has no such choices."""
    try:
        compiled.program.tune(**tuning.choices)
    except ModelFileError:
        return False
    return True


def describe(tuning: Tuning) -> list[tuple[str, str]]:
    """Choices and gains as lines for people: (what, how)."""
    choices, panel_tokens = tuning.choices, tuning.choices["panel_tokens"]
    gains = ", ".join(f"{name} {gain:.2f} times" for name, gain in tuning.gains.items())
    lines = [
        ("threads", f"{choices['short_threads']} for decoding, {choices['long_threads']} for reading prompts"),
        ("weights unpacked first", "never" if panel_tokens >= NEVER else f"from {panel_tokens} tokens a step on"),
        ("blocks at a time", str(choices["panel_blocks"])),
        ("faster than the defaults", gains or "no: the defaults are the best here"),
    ]
    if not tuning.is_complete:
        lines.append(("still to be measured", ", ".join(name for name in _CHOICES if name not in tuning.measured)))
    return lines


def measure(
    compiled: CompiledProgram,
    spec: ModelSpec,
    kv_dtype: str,
    *,
    max_tokens: int,
    budget_s: float,
    before: Tuning | None = None,
    may_go_on: Callable[[], bool] = lambda: True,
) -> Tuning:
    """Choose by running steps, for about `budget_s` seconds and as long as it may; what `before` has measured stays.

    What there is no time for keeps its default and is left for another time; where `budget_s` was not enough for one
    choice, for good. While other processes take the processors, nothing is chosen: what is fast then is slow otherwise.
    Leaves the program with the choices in force. The steps' tokens are made up and nothing of them stays.
    """
    defaults, start = dict(compiled.program.tuning), time.monotonic()
    bench = _Bench(compiled, spec, kv_dtype, max_tokens, start + budget_s, may_go_on)
    name = f"{spec.architecture}, {spec.num_layers} layers of {spec.hidden_size}, {'/'.join(_activations(compiled))}"
    tuning = before or Tuning(name, machine(), defaults, {}, [], 0.0)
    missing = [choice for choice in _CHOICES if choice not in tuning.measured]
    done = 0
    for choice in missing:
        choices, gains = dict(tuning.choices), dict(tuning.gains)
        if _choose(choice, bench, choices, gains, min(max_tokens, 256)) and not bench.is_crowded:
            tuning, done = replace(tuning, choices=choices, gains=gains, measured=[*tuning.measured, choice]), done + 1
        if bench.is_crowded or bench.was_called_away:
            break
    if not (done or bench.is_crowded or bench.was_called_away):
        tuning = replace(tuning, measured=list(_CHOICES))
    compiled.program.tune(**tuning.choices)
    return replace(tuning, seconds=round(time.monotonic() - start, 2))


def _choose(name: str, bench: _Bench, choices: dict[str, int], gains: dict[str, float], largest: int) -> bool:
    """Make one choice; False if there was no time."""
    if name == "short_threads":
        return _take_fastest(bench, choices, gains, name, _fewer_threads(choices[name]), 1, "decode")
    if name == "panel_tokens":
        return largest < PANEL_TOKENS[-1] or _choose_panel_tokens(bench, choices, gains)
    if largest < LONG_STEP_TOKENS:
        return True
    if name == "panel_blocks":  # only registers of 512 bits hold two
        paired = _native.cpu_info()["tier"].startswith("avx512")
        candidates: tuple[int, ...] = (1, 2) if paired else ()
    else:
        candidates = _fewer_threads(choices[name])
    return _take_fastest(bench, choices, gains, name, candidates, largest, "prefill")


def _take_fastest(
    bench: _Bench,
    choices: dict[str, int],
    gains: dict[str, float],
    name: str,
    candidates: tuple[int, ...],
    tokens: int,
    label: str,
) -> bool:
    """Take the fastest of a choice's candidates for a step of so many tokens, if it is worth it when measured again."""
    others = [c for c in candidates if c != choices[name]]
    for _ in range(2):
        if not others:
            return True
        times = bench.compare([choices, *({**choices, name: c} for c in others)], tokens, whole=label == "decode")
        if times is None:
            return False
        gain, best = max((times[0] / t, other) for t, other in zip(times[1:], others, strict=True))
        others = [best] if gain > WORTH_IT else []
    if others:
        choices[name] = best
        gains[label] = round(gains.get(label, 1.0) * gain, 3)
    return True


def _fewer_threads(most: int) -> tuple[int, ...]:
    return tuple(sorted({max(1, most >> shift) for shift in range(most.bit_length())}, reverse=True))


def _choose_panel_tokens(bench: _Bench, choices: dict[str, int], gains: dict[str, float]) -> bool:
    """The number of tokens from which on unpacking first costs least over all sizes; one noisy size decides little."""
    ratios = []  # how many times slower unpacking is
    for tokens in PANEL_TOKENS:
        times = bench.compare([{**choices, "panel_tokens": NEVER}, {**choices, "panel_tokens": 1}], tokens, whole=False)
        if times is None:
            return False
        ratios.append(math.log(times[1] / times[0]))
    regrets = {
        first: sum(r for n, r in zip(PANEL_TOKENS, ratios, strict=True) if n >= first)
        for first in (*PANEL_TOKENS, NEVER)
    }
    best = min(regrets, key=regrets.__getitem__)
    between = [n for n in PANEL_TOKENS if min(best, choices["panel_tokens"]) <= n < max(best, choices["panel_tokens"])]
    gain = math.exp((regrets[choices["panel_tokens"]] - regrets[best]) / len(between)) if between else 1.0
    if gain > WORTH_IT:
        choices["panel_tokens"] = best
        gains["small batches"] = round(gain, 3)
    return True


class _Bench:
    """Runs made-up steps of a program on KV pages of its own."""

    REPEATS = 5

    def __init__(
        self,
        compiled: CompiledProgram,
        spec: ModelSpec,
        kv_dtype: str,
        max_tokens: int,
        deadline_s: float,
        may_go_on: Callable[[], bool],
    ) -> None:
        self._program, self._deadline_s, self._may_go_on = compiled.program, deadline_s, may_go_on
        self.was_called_away = False
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
        self._cpu_s = self._wanted_cpu_s = 0.0

    @property
    def is_crowded(self) -> bool:
        """Whether the threads, which never sleep in a step, had less processor time than they wanted."""
        return self._wanted_cpu_s > ENOUGH_S and self._cpu_s < UNCROWDED * self._wanted_cpu_s

    def compare(self, candidates: list[dict[str, int]], tokens: int, *, whole: bool) -> list[float] | None:
        """How many times as long a step takes with each of the candidates as with the first; None where it has to end.

        Medians of what was measured within milliseconds, as the machine may be slower a moment later.

        It is the whole step, or its first two layers, whose weights later layers have driven out of the caches before:
        as in a whole step, they come from memory.
        """
        times: list[list[float]] = [[] for _ in candidates]
        for repeat in range(self.REPEATS + 1):  # the first warms up
            for taken, candidate in zip(times, candidates, strict=True):
                self.was_called_away = not self._may_go_on()
                if self.was_called_away or time.monotonic() > self._deadline_s:
                    return None
                if not whole:
                    self._run(1, self._displacing)
                self._program.tune(**candidate)
                seconds = self._run(tokens, None if whole else self._two_layers)
                if repeat:
                    taken.append(seconds)
        return [median(map(truediv, taken, times[0])) for taken in times]

    def _run(self, tokens: int, num_ops: int | None) -> float:
        """Seconds of a step."""
        threads = self._program.tuning["long_threads" if tokens >= LONG_STEP_TOKENS else "short_threads"]
        start_s, cpu_s = time.perf_counter(), time.process_time()
        self._program.run(
            self._kv,
            self._ids[:tokens],
            self._positions[:tokens],
            np.array([0, tokens], np.int32),
            self._table,
            np.array([tokens - 1], np.int32),
            num_ops,
        )
        seconds = time.perf_counter() - start_s
        self._wanted_cpu_s += seconds * threads
        self._cpu_s += time.process_time() - cpu_s
        return seconds
