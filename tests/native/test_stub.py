from __future__ import annotations

import ast
from pathlib import Path

import pytest

import miaotui
from miaotui import _native

STUB = ast.parse((Path(miaotui.__file__).parent / "_native.pyi").read_text(encoding="utf-8"))


def names_in(body: list[ast.stmt]) -> set[str]:
    names = {node.name for node in body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    names |= {node.target.id for node in body if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)}
    return {name for name in names if not name.startswith("_")}


def public(thing: object) -> set[str]:
    return {name for name in dir(thing) if not name.startswith("_")}


def test_the_stub_names_exactly_what_the_module_offers() -> None:
    assert names_in(STUB.body) == public(_native)


@pytest.mark.parametrize(
    "declared",
    [node for node in STUB.body if isinstance(node, ast.ClassDef) and not node.name.startswith("_")],
    ids=lambda node: node.name,
)
def test_the_stub_names_exactly_the_members_of_every_class(declared: ast.ClassDef) -> None:
    assert names_in(declared.body) == public(getattr(_native, declared.name))
