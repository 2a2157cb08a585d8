"""Gates: bound to their models, kept in files that may come from anybody."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from miaotui import LLM
from miaotui.adaptive.cascade import Asking, Gate, digests, load_gate, save_gate
from miaotui.adaptive.cascade.gate_file import MAX_BYTES
from miaotui.adaptive.cascade.vocabulary import same_vocabulary
from miaotui.errors import GateError, OutputError

SMALL, LARGE = "a" * 64, "b" * 64
GATE = Gate(
    "margin", 1.5, (SMALL, LARGE), Asking("Is it good?", ("yes", "no"), 8), 0.99, 0.95, {"rows": 900, "why": "safe"}
)


def content_of(gate: Gate, path: Path) -> dict[str, Any]:
    save_gate(gate, path)
    return json.loads(path.read_text("utf-8"))


@pytest.mark.parametrize("threshold", [1.5, -1e6, None])
def test_a_file_gives_the_gate_back(tmp_path: Path, threshold: float | None) -> None:
    gate = replace(GATE, threshold=threshold)
    save_gate(gate, tmp_path / "gate.json")
    assert load_gate(tmp_path / "gate.json") == gate
    assert list(tmp_path.iterdir()) == [tmp_path / "gate.json"]


def test_a_file_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot be written"):
        save_gate(GATE, tmp_path / "none" / "gate.json")


CHANGES: dict[str, dict[str, Any]] = {
    "another format": {"format": "gguf"},
    "another version": {"version": 2},
    "version as text": {"version": "1"},
    "true for 1": {"version": True},
    "unknown signal": {"signal": "mood"},
    "signal of another type": {"signal": ["margin"]},
    "threshold as text": {"threshold": "1.5"},
    "threshold true": {"threshold": True},
    "threshold too large": {"threshold": 1e300},
    "threshold a huge whole number": {"threshold": 10**400},
    "floor 0": {"floor": 0},
    "floor above 1": {"floor": 1.01},
    "floor none": {"floor": None},
    "confidence 1": {"confidence": 1},
    "one model": {"models": [SMALL]},
    "no digests": {"models": ["small", "large"]},
    "too many models": {"models": [SMALL] * 17},
    "models an object": {"models": {"small": SMALL}},
    "asking a list": {"asking": []},
    "asking without choices": {"asking": {"instruction": "", "max_tokens": 3}},
    "one choice": {"asking": {"instruction": "", "choices": ["a"], "max_tokens": 3}},
    "choices of numbers": {"asking": {"instruction": "", "choices": [1, 2], "max_tokens": 3}},
    "too many choices": {"asking": {"instruction": "", "choices": [str(n) for n in range(2000)], "max_tokens": 3}},
    "no tokens": {"asking": {"instruction": "", "choices": [], "max_tokens": 0}},
    "tokens as text": {"asking": {"instruction": "", "choices": [], "max_tokens": "3"}},
    "too long an instruction": {"asking": {"instruction": "x" * 100_000, "choices": [], "max_tokens": 3}},
    "samples of choices": {"signal": "agreement"},
    "too many facts": {"facts": {str(n): n for n in range(100)}},
    "facts nested": {"facts": {"a": {"b": 1}}},
    "an unknown field": {"note": "hello"},
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_file_with_something_wrong_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "gate.json"
    path.write_text(json.dumps(content_of(GATE, path) | CHANGES[name]), "utf-8")
    with pytest.raises(GateError, match=r"gate\.json"):
        load_gate(path)


@pytest.mark.parametrize("field", ["format", "signal", "threshold", "models", "asking", "floor", "confidence", "facts"])
def test_a_file_that_lacks_something_is_refused(tmp_path: Path, field: str) -> None:
    path = tmp_path / "gate.json"
    content = content_of(GATE, path)
    del content[field]
    path.write_text(json.dumps(content), "utf-8")
    with pytest.raises(GateError, match="must be an object of"):
        load_gate(path)


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"null", b"\xff\xfe", b"{" * 100_000, b"[" * 3_000_000, b'{"floor": NaN}', b'{"a": 1, "a": 2}',
     b" " * (MAX_BYTES + 1), b'{"facts": "\\ud800"}'],
    ids=["empty", "list", "null", "no UTF-8", "open", "deep", "NaN", "twice", "long", "surrogate"],
)  # fmt: skip
def test_what_is_no_gate_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "gate.json"
    path.write_bytes(content)
    with pytest.raises(GateError, match="cascade calibrate"):
        load_gate(path)


def test_a_key_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "gate.json"
    save_gate(GATE, path)
    path.write_text(path.read_text("utf-8").replace('"signal"', '"floor": 0.1, "signal"'), "utf-8")
    with pytest.raises(GateError, match="twice"):
        load_gate(path)


def test_a_half_character_in_a_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "gate.json"
    content = content_of(GATE, path)
    content["asking"]["instruction"] = "\ud800"
    path.write_text(json.dumps(content), "utf-8")
    with pytest.raises(GateError, match="surrogate"):
        load_gate(path)


def test_no_file_and_no_regular_file_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "none.json", tmp_path):
        with pytest.raises(GateError, match="is no file"):
            load_gate(path)


def test_a_gate_is_for_its_own_models_in_their_order(small: LLM, large: LLM) -> None:
    gate = replace(GATE, models=digests([small, large]))
    gate.check([small, large])
    with pytest.raises(GateError, match="calibrated for another model than tiny"):
        gate.check([large, small])
    with pytest.raises(GateError, match="for 2 models, not 3"):
        gate.check([small, large, large])


def test_a_gate_is_for_the_settings_it_was_calibrated_with(paths: dict[str, Path], small: LLM, large: LLM) -> None:
    gate = replace(GATE, models=digests([small, large]))
    for settings in ({"activations": "int8"}, {"kv_dtype": "f16"}, {"chat_template": "{{ messages[0].content }}"}):
        with LLM(paths["large"], **settings) as other, pytest.raises(GateError, match="other settings"):
            gate.check([small, other])


def test_vocabularies_are_told_apart(paths: dict[str, Path], small: LLM, large: LLM) -> None:
    assert same_vocabulary(small, large)
    with LLM(paths["other"]) as other:
        assert not same_vocabulary(small, other)
