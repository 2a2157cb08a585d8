"""A run that was interrupted ends with the same weights as one that was not; nothing half-written is left."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from compress.distil.models import TOKENS, TinyTeacher, job, material, open_teacher, write_noisy
from engine.tiny_model import tiny_model as tiny_model  # a fixture
from engine.tiny_model import write_tiny_model
from miaotui import LLM
from miaotui.compress.compress import compress, open_source
from miaotui.compress.distil.distil import STATE_FILE, distil
from miaotui.compress.distil.settings import DistilSettings
from miaotui.compress.distil.training import Progress
from miaotui.errors import ConfigError, ModelFileError, OutputError
from miaotui.formats.gguf import read_gguf
from miaotui.formats.gguf_write import GgufWriter
from miaotui.formats.weights import TensorType


@contextmanager
def open_writer(path: Path) -> Iterator[TinyTeacher]:
    with LLM(path, context_length=4 * TOKENS) as llm:
        yield TinyTeacher(llm)


@pytest.fixture(scope="module")
def noisy(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_noisy(tiny_model, tmp_path_factory.mktemp("student") / "noisy.gguf")


def interrupt_at(step: int):
    def report(progress: Progress) -> None:
        if progress.steps == step:
            os.kill(os.getpid(), signal.SIGINT)

    return report


@pytest.mark.parametrize(
    "changes",
    [{}, {"lora_rank": 4}, {"lora_rank": 4, "kind": "q4_0", "round_steps": 2}, {"kind": "q4_0", "round_steps": 4},
     {"on_policy": 0.5}],
)  # fmt: skip
def test_resumed_is_uninterrupted(changes: dict[str, object], tiny_model: Path, noisy: Path, tmp_path: Path) -> None:
    with open_teacher(tiny_model) as teacher:
        whole = job(tiny_model, noisy, tmp_path / "whole.gguf", **changes)
        distil(whole, teacher, material(200), open_writer=open_writer)
        assert not whole.folder.exists()
        cut = job(tiny_model, noisy, tmp_path / "cut.gguf", **changes)
        with pytest.raises(KeyboardInterrupt):
            distil(cut, teacher, material(200), open_writer=open_writer, report=interrupt_at(3))
        assert not cut.output.exists()
        assert (cut.folder / STATE_FILE).exists()
        done = distil(cut, teacher, material(200), open_writer=open_writer, resume=True)
    assert done.position.steps == 6
    one, other = (read_gguf(path) for path in (whole.output, cut.output))
    for name, tensor in one.weights.items():
        assert tensor.data.tobytes() == other.weights[name].data.tobytes(), name
    assert {path.name for path in tmp_path.iterdir()} == {"whole.gguf", "cut.gguf"}


def test_an_output_that_was_interrupted_is_not_gone_on_with_by_another_training(
    tiny_model: Path, noisy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[str] = []
    write = GgufWriter.write

    def breaking(self: GgufWriter, name: str, *args: Any) -> None:
        written.append(name)
        if len(written) == 8:
            raise KeyboardInterrupt
        write(self, name, *args)

    with open_teacher(tiny_model) as teacher:
        cut = job(tiny_model, noisy, tmp_path / "cut.gguf")
        with monkeypatch.context() as patched:
            patched.setattr(GgufWriter, "write", breaking)
            with pytest.raises(KeyboardInterrupt):
                distil(cut, teacher, material(100))
        shutil.rmtree(cut.folder)
        whole = job(tiny_model, noisy, tmp_path / "whole.gguf")
        for each in (cut, whole):
            distil(each, teacher, material(200))
    one, other = (read_gguf(path) for path in (whole.output, cut.output))
    assert len(written) == 8
    for name, tensor in one.weights.items():
        assert tensor.data.tobytes() == other.weights[name].data.tobytes(), name


@pytest.mark.parametrize("changes", [{}, {"lora_rank": 8, "learning_rate": 1e-2}])
def test_a_student_comes_nearer_to_its_teacher(
    changes: dict[str, object], tiny_model: Path, noisy: Path, tmp_path: Path
) -> None:
    with open_teacher(tiny_model) as teacher:
        healing = job(tiny_model, noisy, tmp_path / "out.gguf", steps=40, **changes)
        done = distil(healing, teacher, material())
    assert done.position.loss < 0.9 * done.position.first_loss, done.position
    file = read_gguf(healing.output)
    assert file.metadata["miaotui.distil.tokens"] == 40 * 4 * TOKENS
    assert len(str(file.metadata["miaotui.distil.teacher_sha256"])) == 64
    with LLM(healing.output) as llm:
        assert llm.generate("the cat", max_tokens=4, ignore_eos=True).token_ids


def test_a_student_of_mixed_types_keeps_them(tiny_model: Path, tmp_path: Path) -> None:
    types = {"blk.0.ffn_down.weight": TensorType.Q5_0, "blk.1.attn_q.weight": TensorType.Q8_0}
    student = compress(open_source(tiny_model), tmp_path / "s.gguf", TensorType.Q4_0, types=types, method="rtn").path
    with open_teacher(tiny_model) as teacher:
        healing = job(tiny_model, student, tmp_path / "out.gguf", steps=1)
        distil(healing, teacher, material())
    before, after = (read_gguf(path).weights for path in (student, healing.output))
    assert {t.name: t.type for t in before.values()} == {t.name: t.type for t in after.values()}


def test_interrupted_between_steps_it_can_be_resumed_by_another_setting_of_its_length_only(
    tiny_model: Path, noisy: Path, tmp_path: Path
) -> None:
    with open_teacher(tiny_model) as teacher:
        cut = job(tiny_model, noisy, tmp_path / "out.gguf")
        with pytest.raises(KeyboardInterrupt):
            distil(cut, teacher, material(), report=interrupt_at(2))
        with pytest.raises(ConfigError, match="--resume"):
            distil(cut, teacher, material())
        with pytest.raises(ConfigError, match="another run: its settings"):
            distil(job(tiny_model, noisy, cut.output, learning_rate=1e-4), teacher, material(), resume=True)
        state = cut.folder / STATE_FILE
        whole = state.read_bytes()
        state.write_bytes(whole[:-100])
        with pytest.raises(ModelFileError):
            distil(cut, teacher, material(), resume=True)
        state.write_bytes(whole)
        done = distil(job(tiny_model, noisy, cut.output, steps=3), teacher, material(), resume=True)
    assert done.position.steps == 3


def test_what_cannot_work_is_said_before_anything_is_trained(tiny_model: Path, noisy: Path, tmp_path: Path) -> None:
    with open_teacher(tiny_model) as teacher:
        with pytest.raises(ModelFileError, match="one of the sources"):
            distil(job(tiny_model, noisy, noisy), teacher, material())
        with pytest.raises(ConfigError, match="first_layer"):
            distil(job(tiny_model, noisy, tmp_path / "a.gguf", first_layer=2), teacher, material())
        other = write_tiny_model(tmp_path / "other.gguf", infill=True)
        with pytest.raises(ModelFileError, match="another vocabulary"):
            distil(job(tiny_model, other, tmp_path / "b.gguf"), teacher, material())
        (tmp_path / "file").write_text("")
        with pytest.raises(OutputError, match="cannot be made"):
            distil(job(tiny_model, noisy, tmp_path / "file" / "c.gguf"), teacher, material())
        assert teacher.num_judged == 0
    with pytest.raises(ConfigError, match="on_policy"):
        DistilSettings(on_policy=2)


def test_a_divergence_that_is_no_number_ends_the_run_and_keeps_what_was_before(
    tiny_model: Path, noisy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_teacher(tiny_model) as teacher:
        broken = job(tiny_model, noisy, tmp_path / "out.gguf", steps=6)
        judge = teacher.logits
        monkeypatch.setattr(teacher, "logits", lambda ids: judge(ids) * (1 if teacher.num_judged < 20 else np.nan))
        with pytest.raises(ConfigError, match="lower learning rate"):
            distil(broken, teacher, material())
    assert not broken.output.exists()
    assert (broken.folder / STATE_FILE).exists()
