"""Exits are kept in files that may come from anybody."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from miaotui.adaptive.exits import Exits, Head, load_exits, save_exits
from miaotui.adaptive.exits.exits_file import KEY
from miaotui.errors import ExitsError, OutputError
from miaotui.formats.safetensors_write import write_safetensors

RNG = np.random.default_rng(0)
TENSORS = {
    f"heads.{layer}.{kind}": RNG.standard_normal(shape).astype(np.float32)
    for layer in (2, 4)
    for kind, shape in (("weight", (2, 8)), ("bias", (2,)))
}
HEADS = tuple(Head(layer, TENSORS[f"heads.{layer}.weight"], TENSORS[f"heads.{layer}.bias"]) for layer in (2, 4))
EXITS = Exits(("bad", "good"), HEADS, 0.9, "a" * 64, "int8", 0.99, 0.95, {"rows": 900, "why": "safe"})
FIELDS: dict[str, Any] = {
    "format": "miaotui exits", "version": 1, "labels": ["bad", "good"], "threshold": 0.9, "model": "a" * 64,
    "activations": "int8", "floor": 0.99, "confidence": 0.95, "facts": {"rows": 900, "why": "safe"},
}  # fmt: skip


def write(path: Path, fields: Any, tensors: dict[str, np.ndarray] | None = None) -> None:
    text = fields if isinstance(fields, str) else json.dumps(fields)
    write_safetensors(path, TENSORS if tensors is None else tensors, {KEY: text})


@pytest.mark.parametrize("threshold", [0.9, 0.0, None])
def test_a_file_gives_the_exits_back(tmp_path: Path, threshold: float | None) -> None:
    path = tmp_path / "a.exits"
    save_exits(replace(EXITS, threshold=threshold), path)
    found = load_exits(path)
    assert list(tmp_path.iterdir()) == [path]
    for name in ("labels", "model", "activations", "floor", "confidence", "facts"):
        assert getattr(found, name) == getattr(EXITS, name)
    assert found.threshold == threshold
    assert [head.layer for head in found.heads] == [2, 4]
    for head, same in zip(found.heads, HEADS, strict=True):
        np.testing.assert_array_equal(head.weights, same.weights)
        np.testing.assert_array_equal(head.bias, same.bias)


def test_the_fields_of_these_tests_are_those_of_files(tmp_path: Path) -> None:
    write(tmp_path / "a", FIELDS)
    save_exits(EXITS, tmp_path / "b")
    assert load_exits(tmp_path / "a").labels == load_exits(tmp_path / "b").labels


CHANGES: dict[str, dict[str, Any]] = {
    "another format": {"format": "gguf"},
    "another version": {"version": 2},
    "true for 1": {"version": True},
    "one label": {"labels": ["bad"]},
    "labels twice": {"labels": ["bad", "bad"]},
    "labels of numbers": {"labels": [1, 2]},
    "an empty label": {"labels": ["", "good"]},
    "three labels for two rows": {"labels": ["a", "b", "c"]},
    "too many labels": {"labels": [str(n) for n in range(300)]},
    "labels an object": {"labels": {"bad": 0}},
    "threshold as text": {"threshold": "0.9"},
    "threshold true": {"threshold": True},
    "threshold no probability": {"threshold": 1.5},
    "threshold a huge whole number": {"threshold": 10**400},
    "no digest": {"model": "minilm"},
    "model a list": {"model": ["a" * 64]},
    "unknown activations": {"activations": "int4"},
    "floor 0": {"floor": 0},
    "floor none": {"floor": None},
    "confidence 1": {"confidence": 1},
    "too many facts": {"facts": {str(n): n for n in range(100)}},
    "facts nested": {"facts": {"a": {"b": 1}}},
    "half a surrogate pair": {"labels": ["\ud800", "good"]},
    "an unknown field": {"note": "hello"},
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_file_with_something_wrong_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "a.exits"
    write(path, FIELDS | CHANGES[name])
    with pytest.raises(ExitsError, match=r"a\.exits"):
        load_exits(path)


@pytest.mark.parametrize("field", FIELDS)
def test_a_file_that_lacks_something_is_refused(tmp_path: Path, field: str) -> None:
    write(tmp_path / "a", {name: value for name, value in FIELDS.items() if name != field})
    with pytest.raises(ExitsError, match="must be an object of"):
        load_exits(tmp_path / "a")


@pytest.mark.parametrize(
    "text", ["", "[]", "null", "{" * 10_000, "[" * 100_000, '{"floor": NaN}', '{"a": 1, "a": 2}'], ids=range(7)
)
def test_what_is_no_description_is_refused(tmp_path: Path, text: str) -> None:
    write(tmp_path / "a", text)
    with pytest.raises(ExitsError, match="exits train"):
        load_exits(tmp_path / "a")


WEIGHT, BIAS = TENSORS["heads.2.weight"], TENSORS["heads.2.bias"]
DAMAGED: dict[str, dict[str, np.ndarray]] = {
    "no heads": {},
    "no bias": {"heads.2.weight": WEIGHT},
    "another tensor": TENSORS | {"model.embed": BIAS},
    "no number": {"heads.x.weight": WEIGHT, "heads.x.bias": BIAS},
    "a sign": {"heads.-2.weight": WEIGHT, "heads.-2.bias": BIAS},
    "zero": {"heads.0.weight": WEIGHT, "heads.0.bias": BIAS},
    "leading zero": {"heads.02.weight": WEIGHT, "heads.02.bias": BIAS},
    "other digits": {"heads.٢.weight": WEIGHT, "heads.٢.bias": BIAS},
    "a long number": {"heads.99999999999.weight": WEIGHT, "heads.99999999999.bias": BIAS},
    "a bias too long": TENSORS | {"heads.2.bias": WEIGHT.reshape(-1)},
    "other columns": TENSORS | {"heads.2.weight": WEIGHT[:, :4].copy()},
    "weights in a row": TENSORS | {"heads.2.weight": WEIGHT.reshape(-1)},
    "a scalar": TENSORS | {"heads.4.weight": np.float32(1).reshape(())},
    "not finite": TENSORS | {"heads.2.weight": np.full_like(WEIGHT, np.nan)},
}


@pytest.mark.parametrize("name", DAMAGED)
def test_heads_that_are_none_are_refused(tmp_path: Path, name: str) -> None:
    write(tmp_path / "a.exits", FIELDS, DAMAGED[name])
    with pytest.raises(ExitsError, match=r"a\.exits"):
        load_exits(tmp_path / "a.exits")


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff" * 100, b"\x10" + b"\0" * 7 + b"{" * 16], ids=range(4))
def test_what_is_no_safetensors_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.exits").write_bytes(content)
    with pytest.raises(ExitsError, match=r"a\.exits: .*exits train"):
        load_exits(tmp_path / "a.exits")


def test_no_file_a_folder_and_other_tensors_are_refused(tmp_path: Path) -> None:
    write_safetensors(tmp_path / "plain", TENSORS)
    for path, why in (
        (tmp_path / "none", "no such file"),
        (tmp_path, "regular file"),
        (tmp_path / "plain", "metadata"),
    ):
        with pytest.raises(ExitsError, match=why):
            load_exits(path)


def test_a_file_cut_short_anywhere_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.exits"
    save_exits(EXITS, path)
    whole = path.read_bytes()
    for length in range(0, len(whole), 37):
        path.write_bytes(whole[:length])
        with pytest.raises(ExitsError):
            load_exits(path)


def test_a_file_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(OutputError):
        save_exits(EXITS, tmp_path / "none" / "a.exits")
