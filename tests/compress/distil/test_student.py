"""A student in torch says what the engine says, whatever its architecture."""

from __future__ import annotations

import pytest
import torch

from miaotui.compress.distil.operators import OPERATORS
from miaotui.compress.distil.parameters import FullParameters, trained_tensors
from miaotui.compress.distil.rounding import Rounding
from miaotui.compress.distil.student import Student
from miaotui.compress.source import FileSource
from miaotui.errors import UnsupportedModelError
from miaotui.formats.gguf import read_gguf
from models.conftest import Make
from models.conftest import make_tiny as make_tiny  # a fixture
from models.sessions import NativeSession, relative_error

TOKENS = [list(range(40)), list(range(60, 100))]
CASES = ["llama", "llama-tied", "llama-biases", "llama-yarn", "mistral-window", "qwen2", "qwen3", "gemma3"]


@pytest.mark.parametrize("case", CASES)
def test_logits_are_the_engines(case: str, make_tiny: Make) -> None:
    tiny = make_tiny(case, "gguf")
    source = FileSource(read_gguf(tiny.file.path))
    weights = FullParameters(source, trained_tensors(tiny.graph, 0), Rounding([], "rtn"))
    student = Student(tiny.graph, weights)
    with torch.no_grad():
        got = student.logits(student.hidden(torch.tensor(TOKENS))).numpy()
    session = NativeSession(tiny.graph, tiny.file.weights, tiny.file.spec, activations="float32")
    for row, tokens in enumerate(TOKENS):
        assert relative_error(got[row], session.step([(row, tokens)])) <= 2e-5, (case, row)


def test_embedding_and_head_stay_and_early_layers_too(make_tiny: Make) -> None:
    graph = make_tiny("qwen2", "gguf").graph
    trained = trained_tensors(graph, 2)
    assert {name.split(".")[1] for name in trained.matrices} == {"2"}
    assert "blk.2.attn_q.bias" in trained.vectors
    assert "output_norm.weight" in trained.vectors
    assert not {"token_embd.weight", "output.weight"} & {*trained.matrices, *trained.vectors}


def test_what_cannot_be_trained_is_refused() -> None:
    from graph.toy import toy_encoder

    graph, _ = toy_encoder()
    with pytest.raises(UnsupportedModelError, match="cannot be distilled"):
        Student(graph, FakeWeights())
    assert "self_attention" not in OPERATORS


class FakeWeights:
    def tensor(self, name: str) -> torch.Tensor:
        raise AssertionError(name)

    def linear(self, x: torch.Tensor, name: str, bias: torch.Tensor | None) -> torch.Tensor:
        raise AssertionError(name)
