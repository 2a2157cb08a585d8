"""The public names of `miaotui`, and what importing it must not cost."""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
import sys

import pytest

import miaotui

CLASSES = [
    "LLM",
    "AsyncEmbedder",
    "AsyncLLM",
    "Completion",
    "Embedder",
    "Receipt",
    "SamplingParams",
    "StructuredOutputs",
]
PUBLIC = [*CLASSES, "__version__", "errors"]
HEAVY = {"numpy", "tokenizers", "jinja2", "torch", "transformers", "huggingface_hub", "miaotui._native"}


def modules_after(statement: str) -> set[str]:
    script = f"import sys, json; {statement}; print(json.dumps(sorted(sys.modules)))"
    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(json.loads(answer.stdout.splitlines()[-1]))


def test_public_names_are_exactly_these() -> None:
    assert miaotui.__all__ == PUBLIC
    assert dir(miaotui) == sorted(PUBLIC)


def test_every_public_name_can_be_fetched() -> None:
    assert all(getattr(miaotui, name) is not None for name in PUBLIC)
    assert miaotui.LLM.__module__.startswith("miaotui.")


def test_unknown_name_lists_the_public_ones() -> None:
    with pytest.raises(AttributeError, match="SamplingParams"):
        miaotui.LLLM  # noqa: B018


def test_importing_the_package_loads_nothing_heavy() -> None:
    loaded = modules_after("import miaotui; miaotui.errors; miaotui.__version__")
    assert not loaded & HEAVY
    assert {name for name in loaded if name.startswith("miaotui.")} == {"miaotui.errors"}


def test_sampling_params_need_no_native_module() -> None:
    assert not modules_after("import miaotui; miaotui.SamplingParams, miaotui.Receipt") & HEAVY


def test_a_server_loads_neither_near_hits_nor_drafters_before_they_are_asked_for() -> None:
    loaded = modules_after("import miaotui.server.process, miaotui.cli.serve_models")
    assert not loaded & {"miaotui.answers.near.near", "miaotui.adaptive.adaptive_drafter"}


def test_using_the_engine_never_loads_a_training_framework() -> None:
    loaded = modules_after("import miaotui; miaotui.LLM")
    assert not loaded & {"torch", "transformers", "huggingface_hub", "gguf"}


def test_installed_version_is_the_one_in_the_source() -> None:
    assert importlib.metadata.version("miaotui") == miaotui.__version__
