"""Fixtures every room shares: where real models and data lie, and a configuration that is nobody's own."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from failure_rate import failure_rate_bound

REPOSITORY = Path(__file__).resolve().parent.parent
SMOLLM2 = "smollm2-135m-instruct-q4_1.gguf"

# The threads of NumPy's and torch's libraries spin on the cores that the engine's need. Read when those are imported,
# which nothing has done yet.
for _variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_variable] = "1"

# Machines differ in speed; a property test must not fail for being run on a slow one.
settings.register_profile("house", deadline=None)
settings.load_profile("house")

_fault_lines: list[str] = []


@pytest.fixture
def report_faults() -> Callable[[str, int, int], None]:
    """Call it with a title, the cases run and the failures: printed after the run; fails unless none of some failed."""

    def report(title: str, num_cases: int, num_failures: int) -> None:
        bound = failure_rate_bound(num_failures, num_cases)
        line = f"{title}: {num_cases} cases, {num_failures} failures, 95 % upper bound {bound:.2g}"
        _fault_lines.append(line)
        if num_cases == 0 or num_failures:
            pytest.fail(line)

    return report


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Hand this process's figures to the one that reports, where the suite runs as several (`make test`)."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["fault_lines"] = _fault_lines


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take another process's figures; a process that died has none, and its test is reported as failed."""
    _fault_lines.extend(getattr(node, "workeroutput", {}).get("fault_lines", []))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the fault tests' figures."""
    if _fault_lines:
        terminalreporter.section("faults injected")
        for line in _fault_lines:
            terminalreporter.line(line)


@pytest.fixture(scope="session", autouse=True)
def _no_personal_configuration(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.mktemp("config")))
        patch.setenv("MIAOTUI_PACK_CACHE", "0")
        patch.setenv("MIAOTUI_TUNE", "0")
        yield


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Folder of evaluation texts: MIAOTUI_DATA or ../shared/data beside the repository."""
    folder = Path(os.environ.get("MIAOTUI_DATA", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no folder of evaluation data at {folder}; set MIAOTUI_DATA")
    return folder


@pytest.fixture(scope="session")
def real_model() -> Callable[[str], Path]:
    """Call it with a file's name for its path; a file that is not here skips the test.

    Files lie in the folder MIAOTUI_MODELS or ~/.cache/miaotui-models. SmolLM2 may lie in the model store instead, where
    `make test` puts it, so what is asked of it is asked on every machine.
    """
    from miaotui.errors import ModelNotFoundError
    from miaotui.formats.store import ModelStore

    folder = Path(os.environ.get("MIAOTUI_MODELS", "~/.cache/miaotui-models")).expanduser()

    def find(name: str) -> Path:
        if (folder / name).is_file():
            return folder / name
        if name != SMOLLM2:
            pytest.skip(f"{name} is not in {folder}; MIAOTUI_MODELS names another folder")
        try:
            return ModelStore.default().resolve_name("smollm2:135m")
        except ModelNotFoundError:
            pytest.skip("smollm2:135m is not here; `miaotui pull smollm2:135m` fetches it")

    return find


@pytest.fixture(scope="session")
def smollm2_path(real_model: Callable[[str], Path]) -> Path:
    """The model that `make test` fetches."""
    return real_model(SMOLLM2)


@pytest.fixture(scope="session")
def minilm_path() -> Path:
    """all-MiniLM-L6-v2, which `make test` fetches."""
    from miaotui.errors import ModelNotFoundError
    from miaotui.formats.store import ModelStore

    folder = Path(os.environ.get("MIAOTUI_MODELS", "~/.cache/miaotui-models")).expanduser() / "all-minilm-l6-v2"
    if folder.is_dir():
        return folder
    try:
        return ModelStore.default().resolve_name("minilm")
    except ModelNotFoundError:
        pytest.skip("minilm is not here; `miaotui pull minilm` fetches it")
