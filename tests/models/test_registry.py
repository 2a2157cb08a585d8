from __future__ import annotations

import inspect
from importlib import import_module
from pathlib import Path

import pytest

import miaotui.models
from graph.toy import toy_spec, toy_weights
from miaotui.errors import ModelFileError, UnsupportedModelError
from miaotui.models import SUPPORTED, build_graph


def test_an_unknown_architecture_is_refused_with_the_list_of_known_ones():
    spec = toy_spec()
    object.__setattr__(spec, "architecture", "mamba")
    with pytest.raises(UnsupportedModelError, match=r"'mamba' is not .* are llama, qwen2, qwen3, gemma3"):
        build_graph(spec, {})


def test_the_registry_lists_every_architecture_file():
    files = {path.stem for path in Path(inspect.getfile(miaotui.models)).parent.glob("*.py")} - {"__init__"}
    assert files == set(SUPPORTED)


@pytest.mark.parametrize("name", SUPPORTED)
def test_an_architecture_is_one_short_file_with_a_table_and_a_graph(name):
    module = import_module(f"miaotui.models.{name}")
    assert len(inspect.getsource(module).splitlines()) <= 80
    for pair in module.TENSORS.values():
        assert len(pair) == 2
        assert pair[0].count("{}") == pair[1].count("{}") <= 1


def test_qwen2_without_its_biases_is_refused():
    with pytest.raises(ModelFileError, match=r"blk\.0\.attn_q\.bias"):
        build_graph(toy_spec(architecture="qwen2"), toy_weights(toy_spec()))
