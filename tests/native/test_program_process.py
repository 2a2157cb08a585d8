"""A program as a citizen of its process: memory, the GIL, threads, forks."""

from __future__ import annotations

import ctypes
import gc
import os
import platform
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from native.matrices import Floats, assert_same_bits
from native.programs import Batch, Chunk, batch_of
from native.small_model import SmallModel, python, story_of

BATCH = batch_of(Chunk(story_of(1, 20), 0, [0, 1]), Chunk(story_of(2, 3), 5, [3]))
ON_GLIBC = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="counts with glibc's own functions")

COUNT_REQUESTS = """
import ctypes
from native.programs import Chunk, batch_of
from native.small_model import SmallModel, story_of
requests = ctypes.CDLL(None).num_memory_requests
requests.restype = ctypes.c_long
chunks = Chunk(story_of(1, 40), 0, [0, 1, 2]), Chunk(story_of(2, 9), 0, [3]), Chunk([1], 0, [4])
batches = [batch_of(*chunks), batch_of(*chunks[1:]), batch_of(chunks[2])]
for layers in (1, 4):
    model = SmallModel(layers=layers)
    for batch in batches:
        arrays = model.kv, *batch.arrays
        for step in range(3):
            before = requests()
            model.program.run(*arrays)
            after = requests()
        print(after - before)
"""


@ON_GLIBC
@pytest.mark.skipif("asan" in os.environ.get("LD_PRELOAD", ""), reason="the sanitizer has an allocator of its own")
def test_a_step_asks_for_no_memory_whatever_its_operators_and_tokens(tmp_path: Path) -> None:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler for the library that counts")
    library = tmp_path / "count.so"
    source = Path(__file__).with_name("count_mallocs.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", str(library), str(source)], check=True)
    done = python(COUNT_REQUESTS, LD_PRELOAD=str(library))
    assert done.returncode == 0, done.stderr
    counts = [int(line) for line in done.stdout.split()]
    assert len(counts) == 6
    # The binding's view of each of the six arguments may take one.
    assert max(counts) <= 6
    assert len(set(counts)) == 1


MALLINFO_FIELDS = [
    "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"
]  # fmt: skip


class MallInfo(ctypes.Structure):
    """Of malloc.h: struct mallinfo2."""

    _fields_ = [(name, ctypes.c_size_t) for name in MALLINFO_FIELDS]


@ON_GLIBC
def test_a_thousand_steps_leave_memory_as_it_was() -> None:
    try:
        mallinfo = ctypes.CDLL(None).mallinfo2
    except AttributeError:
        pytest.skip("glibc before 2.33 has no mallinfo2")
    mallinfo.restype = MallInfo
    model = SmallModel()
    arrays = model.kv, *batch_of(Chunk([1], 3)).arrays
    for _ in range(10):
        model.program.run(*arrays)
    gc.collect()
    before = mallinfo().uordblks
    for _ in range(1000):
        model.program.run(*arrays)
    gc.collect()
    # A leak of one byte a step would show; what else lives in this process may move a little.
    assert mallinfo().uordblks - before < 1000


def test_other_threads_go_on_while_a_step_runs() -> None:
    model = SmallModel()
    arrays = model.kv, *BATCH.arrays
    go, progressed = threading.Event(), []

    def other() -> None:
        go.wait()
        progressed.append(True)

    thread = threading.Thread(target=other)
    interval = sys.getswitchinterval()
    thread.start()
    try:
        sys.setswitchinterval(1000)  # nobody takes the GIL from the main thread: it must give it up
        go.set()
        for _ in range(1000):
            model.program.run(*arrays)
            if progressed:
                break
        during = bool(progressed)
    finally:
        sys.setswitchinterval(interval)
        thread.join()
    assert during


def in_threads(*bodies: threading.Thread) -> None:
    for thread in bodies:
        thread.start()
    for thread in bodies:
        thread.join()


def test_two_programs_share_the_threads_without_mixing_their_work() -> None:
    models = [SmallModel(), SmallModel(layers=1, dtype="q16")]
    story = Chunk(story_of(4, 12), 0, [5])
    want = [model.run(story) for model in models]
    got: list[list[Floats]] = [[], []]

    def work(which: int) -> None:
        got[which].extend(models[which].run(story) for _ in range(30))

    in_threads(*(threading.Thread(target=work, args=(i,)) for i in (0, 1)))
    for which in (0, 1):
        assert len(got[which]) == 30
        for logits in got[which]:
            assert_same_bits(logits, want[which])


def test_one_program_called_from_two_threads_runs_one_step_after_the_other() -> None:
    model = SmallModel(layers=8)  # long enough a step for the other thread to come in the middle
    batches = [batch_of(Chunk(story_of(5, 30), 0, [5, 4])), batch_of(Chunk(story_of(6, 30), 16, [6, 7, 8]))]
    want = []
    for batch in batches:
        model.program.run(model.kv, *batch.arrays)
        want.append(model.program.logits.tobytes())
    together = threading.Barrier(2)

    def work(batch: Batch) -> None:
        together.wait()
        model.program.run(model.kv, *batch.arrays)

    for _ in range(100):
        in_threads(*(threading.Thread(target=work, args=(batch,)) for batch in batches))
        assert model.program.logits.tobytes() in want  # a whole step of one of them, no mixture


FORK = """
import os, threading
from native.programs import Chunk
from native.small_model import SmallModel, story_of
model = SmallModel()
story = Chunk(story_of(1, 20), 0, [0, 1])
want = model.run(story).tobytes()
stop = threading.Event()
def keep_busy():
    while not stop.is_set():
        model.run(story)
threads = [threading.Thread(target=keep_busy) for _ in range({busy})]
for thread in threads:
    thread.start()
for _ in range(10):
    child = os.fork()
    if child == 0:
        os._exit(0 if model.run(story).tobytes() == want and model.run(story).tobytes() == want else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
stop.set()
for thread in threads:
    thread.join()
assert model.run(story).tobytes() == want
print("parent and children agree")
"""


@pytest.mark.parametrize("busy", [0, 2])
def test_a_forked_child_runs_steps_with_threads_of_its_own(busy: int) -> None:
    done = python(FORK.format(busy=busy), timeout_s=60, MIAOTUI_THREADS="3")
    assert done.stdout == "parent and children agree\n", done.stderr


def test_an_impossible_arena_is_refused_as_memory() -> None:
    from miaotui import _native
    from miaotui.errors import CapacityError

    builder = _native.ProgramBuilder(1, 1, 1)
    table = np.zeros(256, np.uint8)
    x = (builder.buffer("f32", 64, 0), 0, 64)
    y = (builder.buffer("f32", 64, 256, "logits"), 0, 64)
    builder.op("embedding", [], [x], [(0, table, 1, 64)], {"scale": 1.0})
    builder.op("select_rows", [x], [y], [], {})
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (2**37, hard))
    try:
        with pytest.raises(CapacityError, match="no memory left"):
            builder.build(2**39)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
