"""A compressed model is a model: smaller, of the asked type, and it still answers."""

from __future__ import annotations

import json
from pathlib import Path

import gguf
import numpy as np
import pytest

from engine.tiny_model import tiny_model as tiny_model  # a fixture
from engine.tiny_model import write_tiny_model
from miaotui import LLM
from miaotui.cli import main
from miaotui.compress.compress import compress, open_source
from miaotui.compress.plan import TYPES, type_named
from miaotui.compress.source import Change, Changed, FileSource, read_rows
from miaotui.errors import ConfigError, ModelFileError, ModelNotFoundError
from miaotui.formats.gguf import read_gguf
from miaotui.formats.gguf_write import GgufWriter, PlannedTensor
from miaotui.formats.weights import Tensor, TensorType


@pytest.mark.parametrize("name", TYPES)
def test_every_type_gives_a_file_that_runs(name: str, tiny_model: Path, tmp_path: Path) -> None:
    kind = type_named(name)
    done = compress(open_source(tiny_model), tmp_path / "out.gguf", kind)
    file = read_gguf(done.path)
    assert {c.name: c.after for c in done.choices} == {t.name: t.type for t in file.weights.values()}
    assert any(c.changes for c in done.choices) == (name not in ("Q8_0", "Q6_K"))  # 64 columns, of Q8_0 before
    with LLM(done.path) as llm, LLM(tiny_model) as before:
        agree = np.corrcoef(llm.logits("the cat and the dog").ravel(), before.logits("the cat and the dog").ravel())[
            0, 1
        ]
    assert agree > {"4": 0.7, "5": 0.9}.get(name.strip("IQ")[0], 0.99), agree  # random weights are hard
    assert {t.name for t in gguf.GGUFReader(done.path).tensors} == set(file.weights)


def test_metadata_stays_and_says_where_the_file_is_from(tiny_model: Path, tmp_path: Path) -> None:
    before = read_gguf(tiny_model)
    after = read_gguf(compress(open_source(tiny_model), tmp_path / "out.gguf", TensorType.Q4_0).path)
    for key in before.metadata:
        assert bytes(after.fields[key]) == bytes(before.fields[key])
    assert after.metadata["general.file_type"] == 2
    assert after.metadata["miaotui.compress.recipe"] == "q4_0 rtn"
    assert len(str(after.metadata["miaotui.compress.source_sha256"])) == 64


def test_two_runs_write_the_same_bytes(tiny_model: Path, tmp_path: Path) -> None:
    paths = [compress(open_source(tiny_model), tmp_path / f"{k}.gguf", TensorType.Q4_1).path for k in range(2)]
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_what_cannot_be_compressed_is_a_typed_error_and_leaves_nothing(tiny_model: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.gguf"
    damaged = write_tiny_model(tmp_path / "bad.gguf", nonsense="x")
    with pytest.raises(ModelFileError, match=r"token_embd\.weight.*not finite"):
        compress(open_source(damaged), output, TensorType.Q4_0)
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(tiny_model.read_bytes()[:-100])
    with pytest.raises(ModelFileError):
        compress(open_source(cut), output, TensorType.Q4_0)
    with pytest.raises(ModelFileError, match="is the source itself"):
        compress(open_source(tiny_model), tiny_model, TensorType.Q4_0)
    with pytest.raises(ModelNotFoundError, match=r"config\.json"):
        compress(open_source(tmp_path), output, TensorType.Q4_0)
    with pytest.raises(ConfigError, match="q9"):
        type_named("q9")
    assert not [path for path in tmp_path.iterdir() if path not in (damaged, cut)]


def test_the_command_says_what_it_did(tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "out.gguf"
    assert main(["compress", str(tiny_model), "-o", str(output), "--type", "q4_0", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["output_bytes"] == output.stat().st_size < said["source_bytes"]
    assert said["tensors"]["blk.0.attn_q.weight"] == {"before": "Q8_0", "after": "Q4_0"}
    assert main(["compress", str(tiny_model), "-o", str(output), "--type", "q9"]) == 2
    assert "choose one of" in capsys.readouterr().err


@pytest.mark.parametrize("weight", [np.nan, np.inf, 1e19, 1e30])
def test_weights_that_no_model_has_are_refused(weight: float) -> None:
    rows = np.full((2, 32), 0.5, np.float32)
    rows[1, 3] = weight
    tensor = Tensor("m", TensorType.F32, rows.shape, rows.reshape(-1).view(np.uint8))
    with pytest.raises(ModelFileError, match="'m' holds weights"):
        read_rows(tensor, 0, 2)
    assert read_rows(tensor, 0, 1).shape == (1, 32)


def test_layers_come_front_to_back_whatever_order_the_file_has(tmp_path: Path) -> None:
    names = ["output.weight", "blk.10.a.weight", "blk.2.a.weight", "token_embd.weight", "blk.0.a.weight"]
    with GgufWriter(tmp_path / "a.gguf", {}, [PlannedTensor(name, TensorType.F32, (32,)) for name in names]) as writer:
        for name in names:
            writer.write(name, np.zeros(128, np.uint8))
    source = FileSource(read_gguf(tmp_path / "a.gguf"))
    layers = ["blk.0.a.weight", "blk.2.a.weight", "blk.10.a.weight"]
    assert list(source.tensors) == ["output.weight", "token_embd.weight", *layers]
    change = Change((32,), lambda first, last: np.ones(32, np.float32))
    changed = Changed(source, {"blk.2.a.weight": change, "token_embd.weight": None})
    assert list(changed.tensors) == ["output.weight", *layers]
