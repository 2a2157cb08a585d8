from __future__ import annotations

import json
import os

import numpy as np
import pytest

from miaotui import _native
from miaotui.errors import CpuTierError
from native.matrices import FEATURES, TIERS
from native.small_model import digest, python

INFO = "import json; from miaotui import _native; print(json.dumps(_native.cpu_info()))"
DIGEST = "from native.small_model import digest; print(digest())"
# Threads of the process before and after the pool exists: NumPy may bring some of its own.
POOL = """
import os
from miaotui import _native
before = len(os.listdir("/proc/self/task"))
_native.pack_weights([])
print(len(os.listdir("/proc/self/task")) - before + 1)
"""


def info(**environment: str | None) -> _native._CpuInfo:
    done = python(INFO, **{"MIAOTUI_ISA": None, "MIAOTUI_THREADS": None} | environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_scalar_tier_always_runs_and_the_best_is_chosen() -> None:
    described = info()
    assert described["tiers"][0] == "scalar"
    assert described["tier"] == described["tiers"][-1]
    for tier, needed in FEATURES.items():
        assert (tier in described["tiers"]) == (needed <= set(described["features"]))


def test_features_are_those_that_the_kernel_sees() -> None:
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        flags = next((line for line in file if line.startswith("flags")), "").split()
    if not flags:
        pytest.skip("/proc/cpuinfo lists no flags here")
    assert set(_native.cpu_info()["features"]) <= set(flags)


@pytest.mark.parametrize("tier", TIERS)
def test_every_tier_that_can_be_forced_gives_the_same_bits(tier: str) -> None:
    assert info(MIAOTUI_ISA=tier)["tier"] == tier
    done = python(DIGEST, MIAOTUI_ISA=tier, MIAOTUI_THREADS="2")
    assert done.stdout.strip() == digest(), done.stderr


@pytest.mark.parametrize("threads", ["1", "2", "5"])
def test_the_number_of_threads_changes_no_bit(threads: str) -> None:
    done = python(DIGEST, MIAOTUI_THREADS=threads)
    assert done.stdout.strip() == digest(), done.stderr


@pytest.mark.parametrize("tier", ["avx3", "AVX2", "scalar ", "avx512_amx"])
def test_a_tier_that_cannot_run_is_refused_with_the_choices(tier: str) -> None:
    code = "from native.small_model import SmallModel; SmallModel()"
    done = python(code, MIAOTUI_ISA=tier)
    assert done.returncode != 0
    message = (
        f"CpuTierError: MIAOTUI_ISA={tier} cannot run on this machine; choose one of: {', '.join(TIERS)}, or unset it"
    )
    assert message in done.stderr


def test_kernels_of_an_unknown_tier_are_refused() -> None:
    with pytest.raises(CpuTierError, match="there is no instruction-set tier avx3"):
        _native.kernel_peak("avx3", 1, np.zeros(512, np.uint8))


@pytest.mark.parametrize("threads", ["1", "2", "7"])
def test_the_pool_has_as_many_threads_as_asked_for(threads: str) -> None:
    assert info(MIAOTUI_THREADS=threads)["threads"] == int(threads)
    done = python(POOL, MIAOTUI_THREADS=threads)
    assert done.stdout.strip() == threads, done.stderr


def test_tests_run_without_threads_of_numpy() -> None:
    done = python(
        "import os, numpy; numpy.ones((512, 512)) @ numpy.ones(512); print(len(os.listdir('/proc/self/task')))"
    )
    assert done.stdout.strip() == "1", done.stderr


@pytest.mark.parametrize("threads", ["0", "-1", "1025", "two", "2.5", "99999999999999999999", "2x"])
def test_a_bad_number_of_threads_is_refused(threads: str) -> None:
    done = python(INFO, MIAOTUI_THREADS=threads)
    assert f"ConfigError: MIAOTUI_THREADS={threads} is not a number of threads; use 1 to 1024" in done.stderr


def test_an_empty_variable_counts_as_unset() -> None:
    assert info(MIAOTUI_THREADS="", MIAOTUI_ISA="")["tier"] == info()["tier"]


def test_threads_follow_the_affinity_of_the_process() -> None:
    cpus = sorted(os.sched_getaffinity(0))
    code = f"import os; os.sched_setaffinity(0, {{{cpus[0]}}}); {INFO}"
    done = python(code, MIAOTUI_THREADS=None)
    described = json.loads(done.stdout)
    assert described["affinity"] == 1
    assert described["threads"] == 1
    assert info()["affinity"] == len(cpus)


def test_threads_follow_the_quota_of_the_control_group() -> None:
    described = info()
    quota = described["cgroup_quota"]
    want = described["affinity"] if quota is None else min(described["affinity"], max(1, -int(-quota // 1)))
    assert described["threads"] == want
