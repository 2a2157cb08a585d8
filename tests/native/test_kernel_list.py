from __future__ import annotations

import importlib
from pathlib import Path

from miaotui import _native
from native.budgets import BUDGETS


def test_every_kernel_of_the_list_has_a_budget_and_a_test_module() -> None:
    tested: set[str] = set()
    for file in sorted(Path(__file__).parent.glob("test_*.py")):
        if "\nKERNELS = " in file.read_text(encoding="utf-8"):
            tested |= importlib.import_module(f"native.{file.stem}").KERNELS
    kernels = _native.kernel_names()
    assert len(kernels) == len(set(kernels)) > 0
    assert tested == set(kernels)
    assert set(BUDGETS) == set(kernels)


def test_every_budget_says_why() -> None:
    for budget in BUDGETS.values():
        assert budget.reason
        assert budget.relative_to
