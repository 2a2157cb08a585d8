"""No file of the tree can run code that came with a model: no pickle, no eval, no torch.load."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
FORBIDDEN_MODULES = {"pickle", "cPickle", "_pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
FORBIDDEN_CALLS = {
    "eval",
    "exec",
    "compile",
    "__import__",
    "torch.load",
    "numpy.load",
    "np.load",
    "os.system",
    "yaml.load",
}
FILES = sorted(file for room in ("src", "tests", "benchmarks") for file in (REPOSITORY / room).rglob("*.py"))


def offences(source: str) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            if called in FORBIDDEN_CALLS or called.removeprefix("builtins.") in FORBIDDEN_CALLS:
                found.append(f"line {node.lineno}: {called}()")
            found += [f"line {node.lineno}: shell=True" for word in node.keywords if is_shell(word)]
            continue
        else:
            continue
        found += [
            f"line {node.lineno}: {name}"
            for name in names
            if name.split(".")[0] in FORBIDDEN_MODULES or name in FORBIDDEN_CALLS
        ]
    return found


def is_shell(word: ast.keyword) -> bool:
    return word.arg == "shell" and not (isinstance(word.value, ast.Constant) and word.value.value is False)


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(REPOSITORY)))
def test_file_calls_nothing_that_runs_foreign_code(file: Path) -> None:
    assert offences(file.read_text()) == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "import pickle as p",
        "from pickle import loads",
        "from torch import load",
        "import torch\ntorch.load('x')",
        "eval('1')",
        "import builtins\nbuiltins.exec('1')",
        "__import__('os')",
        "run('x', shell=True)",
    ],
)
def test_each_forbidden_call_is_noticed(source: str) -> None:
    assert offences(source)


def test_ordinary_code_is_not_suspected() -> None:
    assert offences("import re, torch\nre.compile('a')\nmodel.eval()\nrun(['x'], shell=False)") == []
