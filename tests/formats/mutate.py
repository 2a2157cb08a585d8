"""Mutated GGUF files, each opened in full: it loads, or a MiaotuiError says why not. Anything else is a failure.

    python tests/formats/mutate.py --cases 10000 --seed 1

prints one JSON line: cases run, how many loaded, failures (with the seed and case that repeats each), the slowest case
and the 95 % upper bound of the failure rate. Run as a program of its own, so that a crash or an endless loop is seen.
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import os
import random
import resource
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from failure_rate import failure_rate_bound
from formats.tiny_gguf import (
    ARRAY,
    BOOL,
    F32,
    I32,
    STRING,
    U8,
    U32,
    U64,
    Array,
    TinyGguf,
    llama_file,
    use_byte_level_vocabulary,
)
from miaotui.errors import MiaotuiError
from miaotui.formats import open_model
from miaotui.formats.gguf_values import StringArray
from miaotui.formats.tokenizer import Tokenizer
from miaotui.formats.weights import TensorType

MAX_CASE_S = 1.0  # of this process's own time
MAX_EXTRA_BYTES = 64 << 20
MAX_FAILURES_SHOWN = 5
SANITIZED = "ASAN_OPTIONS" in os.environ  # AddressSanitizer reserves terabytes of address space
BOUNDARIES = [
    0, 1, 7, 8, 9, 255, 256, 2**16, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**61, 2**62 + 1, 2**63 - 1, 2**63, 2**64 - 32,
    2**64 - 1,
]  # fmt: skip

Mutator = Callable[[random.Random, bytearray, TinyGguf], bytes | bytearray]


def seed_files() -> list[TinyGguf]:
    """Sound files that reach every branch of the reader: all architectures, value types and tensor types."""
    rng = np.random.default_rng(0)
    files = [llama_file(arch) for arch in ("llama", "qwen2", "qwen3", "gemma3")]
    files[0].add("general.alignment", U32, 64).alignment = 64
    files[0].add("llama.rope.scaling.type", STRING, "yarn").add("llama.rope.scaling.factor", F32, 4.0)
    use_byte_level_vocabulary(files[1]).version = 2
    files[1].add("flags", ARRAY, Array(BOOL, [True, False])).add("nested", ARRAY, Array(ARRAY, [Array(U8, [1])]))
    files[3].add("gemma3.attention.sliding_window", U32, 16)
    files[3].add("gemma3.attention.sliding_window_pattern", ARRAY, Array(BOOL, [True]))
    for kind in TensorType:
        blocks = rng.integers(0, 256, 256 // kind.block_weights * kind.block_bytes, dtype=np.uint8)
        files[2].tensor(f"t.{kind.name}", (1, 256), kind, blocks.tobytes())
    return files


def hostile_files() -> list[TinyGguf]:
    """The cases that were published as incidents, and their neighbours."""
    return hostile_vocabularies() + hostile_settings() + hostile_tensors()


def hostile_vocabularies() -> list[TinyGguf]:
    tokens = "tokenizer.ggml.tokens"
    files = [
        llama_file().replace(tokens, ARRAY, Array(STRING, [bad, "a", "b", "ab", "c", "d", "e", "f"]))
        for bad in ("<0x-1>", "<0x>", "<0xGG>", "<0x100>", "\0", b"\xff", "x" * 100_000)
    ]
    return files + [
        llama_file().replace("tokenizer.ggml.merges", ARRAY, Array(STRING, [merge]))
        for merge in ("z" * 70_000 + " b", "", " ", "a", "a b c", b"\xff \xfe")
    ]


def hostile_settings() -> list[TinyGguf]:
    files = []
    for kind, value in [(STRING, "32"), (F32, float("nan")), (U32, 0), (U32, 3), (U64, 2**63), (I32, -32)]:
        files.append(llama_file().add("general.alignment", kind, value))
    wrong = [(F32, float("nan")), (F32, float("inf")), (U32, 2**32 - 1), (I32, -1), (STRING, ""), (BOOL, True)]
    for key in [key for key, _, _ in llama_file().metadata if key.startswith("llama.")]:
        files += [llama_file().replace(key, kind, value) for kind, value in wrong]
    return files


def hostile_tensors() -> list[TinyGguf]:
    files = []
    for shape in [(2**63, 2), (2**32, 2**32), (2**64 - 1,) * 4, (2**61, 8), (0, 32), (2**64 - 32,), (3, 2**62, 2)]:
        kinds = (TensorType.F32, TensorType.Q4_0, TensorType.Q6_K)
        files += [llama_file().tensor("t", shape, kind, bytes(64)) for kind in kinds]
    for offset in (1, 31, 2**20, 2**63, 2**64 - 32, 2**64 - 1):
        files.append(llama_file())
        files[-1].tensors[-1].offset = offset
    return files


def flip_bits(rng: random.Random, content: bytearray, file: TinyGguf) -> bytearray:
    for _ in range(rng.randint(1, 8)):
        content[rng.randrange(file.header_bytes)] ^= 1 << rng.randrange(8)
    return content


def replace_bytes(rng: random.Random, content: bytearray, file: TinyGguf) -> bytearray:
    for _ in range(rng.randint(1, 6)):
        content[rng.randrange(file.header_bytes)] = rng.choice(
            (0, 1, 8, 9, 12, 13, 0x7F, 0x80, 0xFF, rng.randrange(256))
        )
    return content


def replace_numbers(rng: random.Random, content: bytearray, file: TinyGguf) -> bytearray:
    for offset, size in rng.sample(file.number_fields, rng.choice((1, 1, 1, 2, 3))):
        now = int.from_bytes(content[offset : offset + size], "little")
        near = [now + 1, now - 1, now * 2, len(content), len(content) - offset, -now]
        value = rng.choice(BOUNDARIES + near) if rng.random() < 0.8 else rng.getrandbits(8 * size)
        content[offset : offset + size] = (value % (1 << 8 * size)).to_bytes(size, "little")
    return content


def exchange_numbers(rng: random.Random, content: bytearray, file: TinyGguf) -> bytearray:
    (a, size), (b, _) = rng.sample(file.number_fields, 2)
    content[b : b + size] = content[a : a + size]
    return content


def move_ranges(rng: random.Random, content: bytearray, file: TinyGguf) -> bytes:
    start, length = rng.randrange(file.header_bytes), rng.randint(1, 64)
    piece = content[start : start + length]
    what = rng.choice(("delete", "double", "move", "zero"))
    if what == "double":
        return bytes(content[:start] + piece + content[start:])
    if what == "zero":
        return bytes(content[:start] + bytes(len(piece)) + content[start + length :])
    rest = content[:start] + content[start + length :]
    target = rng.randrange(len(rest))
    return bytes(rest if what == "delete" else rest[:target] + piece + rest[target:])


def cut(rng: random.Random, content: bytearray, file: TinyGguf) -> bytes:
    mutated = replace_numbers(rng, content, file) if rng.random() < 0.5 else content
    return bytes(mutated[: rng.randrange(1, len(content))])


MUTATORS: list[Mutator] = [
    flip_bits,
    replace_bytes,
    replace_numbers,
    replace_numbers,
    exchange_numbers,
    move_ranges,
    cut,
]


def mutants(cases: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """Every hostile file, every truncation of every seed file's header, then `cases` random mutants; with names."""
    for number, file in enumerate(hostile_files()):
        yield f"hostile {number}", file.build()
    files = seed_files()
    contents = [file.build() for file in files]
    for number, (file, content) in enumerate(zip(files, contents, strict=True)):
        for length in range(1, file.header_bytes):
            yield f"file {number} cut at {length}", content[:length]
    for case in range(cases):
        rng = random.Random(f"{seed}/{case}")
        number = rng.randrange(len(files))
        mutate = rng.choice(MUTATORS)
        yield (
            f"seed {seed} case {case} {mutate.__name__}",
            bytes(mutate(rng, bytearray(contents[number]), files[number])),
        )


def exercise(path: Path) -> None:
    """Everything that reads the file: header, spec, all strings, every tensor's values, and the tokenizer."""
    model = open_model(path)
    for value in model.metadata.values():
        if isinstance(value, StringArray):
            value.to_list()
            if len(value):
                value[-1]
        elif isinstance(value, np.ndarray):
            value.tolist()
    for name, tensor in model.weights.items():
        tensor.to_float32()
        model.weights.release(name)
    tokenizer = Tokenizer.from_model(model)
    for text in ("ab a é\n", "<s>秒<|im_end|>"):
        tokenizer.decode(tokenizer.encode(text, parse_special=True), skip_special=False)


@dataclass
class Tally:
    """Outcome of a run."""

    cases: int = 0
    loaded: int = 0
    failures: list[str] = field(default_factory=list)
    slowest_s: float = 0.0

    def run(self, name: str, content: bytes, path: Path, check: Callable[[Path], None] = exercise) -> None:
        path.unlink(missing_ok=True)  # a new file, for the last one may still be mapped
        path.write_bytes(content)
        self.cases += 1
        start = time.process_time()
        try:
            check(path)
            self.loaded += 1
        except MiaotuiError:
            pass
        except Exception:
            self.failures.append(f"{name}: {traceback.format_exc(limit=-3)}")
        took = time.process_time() - start
        self.slowest_s = max(self.slowest_s, took)
        if took > MAX_CASE_S:
            self.failures.append(f"{name}: took {took:.1f} s")

    def report(self) -> dict[str, object]:
        return {
            "cases": self.cases,
            "loaded": self.loaded,
            "failures": len(self.failures),
            "failure_rate_upper_95": failure_rate_bound(len(self.failures), self.cases),
            "slowest_s": round(self.slowest_s, 4),
            "first_failures": self.failures[:MAX_FAILURES_SHOWN],
        }


def limit_memory() -> None:
    """Refuses this process more than MAX_EXTRA_BYTES beyond what it has now (files here are small)."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + MAX_EXTRA_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def main() -> int:
    """Exit status 0 when cases were run and none failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    tally = Tally()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mutant.gguf"
        tally.run("sound", seed_files()[0].build(), path)  # whatever is imported late is imported now
        if not SANITIZED:
            limit_memory()
        for name, content in mutants(options.cases, options.seed):
            faulthandler.dump_traceback_later(30, exit=True)  # a case that never ends
            tally.run(name, content, path)
    faulthandler.cancel_dump_traceback_later()
    print(json.dumps(tally.report()))
    return 0 if tally.cases > options.cases and not tally.failures else 1


if __name__ == "__main__":
    sys.exit(main())
