"""Two builds of the native library are compared on the same steps, each from its own folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import miaotui
from common import ROOT
from engine.tiny_model import FFN, HEADS, HIDDEN, KV_HEADS, LAYERS
from engine.tiny_model import tiny_model as tiny_model  # a fixture
from kernels import SHAPES, Shape, quartiles, report
from kernels_worker import tiles
from miaotui import LLM

SOURCE = Path(miaotui.__file__).parent.parent


def compare(*words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "benchmarks" / "kernels.py"), *map(str, words)]
    environ = {**os.environ, "PYTHONPATH": str(SOURCE)}
    return subprocess.run(command, capture_output=True, text=True, env=environ, check=False)


def test_builds_take_turns_in_every_shape_of_step(tiny_model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    done = compare("--rounds", 2, "--model", tiny_model, "--activations", "int8", "--out", out, SOURCE, SOURCE)
    assert done.returncode == 0, done.stderr
    record = json.loads(out.read_text())
    assert list(record["shapes"]) == [shape.name for shape in SHAPES]
    for first, second in record["shapes"].values():
        assert first["times_the_first"]["samples"] == [1.0, 1.0]
        steps = zip(second["step_s"]["samples"], first["step_s"]["samples"], strict=True)
        assert second["times_the_first"]["samples"] == [ours / theirs for ours, theirs in steps]
    assert str(tmp_path) not in out.read_text()
    assert str(SOURCE) not in out.read_text()


def test_a_folder_without_a_build_is_not_measured_as_another(tiny_model: Path, tmp_path: Path) -> None:
    done = compare("--rounds", 1, "--model", tiny_model, SOURCE, tmp_path)
    assert done.returncode == 1
    assert f"{tmp_path} holds no miaotui with its native library built" in done.stderr


def test_tiles_are_those_of_all_matrices_but_the_embedding(tiny_model: Path) -> None:
    with LLM(tiny_model, context_length=256) as llm:
        found, vocab_size = tiles(llm), llm.spec.vocab_size
    qkv = (HIDDEN + 2 * KV_HEADS * HIDDEN // HEADS) * HIDDEN
    rest = HIDDEN * HIDDEN + 3 * FFN * HIDDEN  # of the last layer, for the rows of logits only
    weights = {"tokens": LAYERS * qkv + (LAYERS - 1) * rest, "logits": rest + vocab_size * HIDDEN}
    assert found == {rows: count / 512 for rows, count in weights.items()}


def test_head_is_multiplied_once_a_sequence() -> None:
    assert Shape(answers=3, prompt_tokens=20).num_tiles({"tokens": 100.0, "logits": 7.0}) == 2300 + 28
    assert Shape(answers=3).num_tiles({"tokens": 100.0, "logits": 7.0}) == 300 + 21


def test_figures_follow_from_tiles_and_seconds() -> None:
    first, second = report(Shape(2), [[4e-6, 2e-6, 3e-6], [2e-6, 2e-6, 3e-6]], {"tokens": 900.0, "logits": 100.0}, 2)
    assert first["ns_per_tile_and_token"] == pytest.approx(1.5)
    assert first["gops"] == pytest.approx(2000 * 1024 * 2 / 3e-6 / 1e9)
    assert second["times_the_first"]["samples"] == [0.5, 1.0, 1.0]
    assert quartiles([1.0, 2.0, 3.0, 4.0, 5.0], 1) == "3.0 (2.0–4.0)"
