"""A student file healed by its teacher: opened, trained, written as a standard GGUF file."""

from __future__ import annotations

import hashlib
import json
import secrets
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from miaotui.compress.calibrate.digest import source_digest
from miaotui.compress.compress import Compressed
from miaotui.compress.distil.checkpoint import Position
from miaotui.compress.distil.corpus import Corpus
from miaotui.compress.distil.framework import fastest_arithmetic
from miaotui.compress.distil.opened import OpenedStudent, check_vocabulary, provenance
from miaotui.compress.distil.parameters import Parameters
from miaotui.compress.distil.settings import DistilSettings
from miaotui.compress.distil.supply import Material, OpenWriter, Supply, Teacher
from miaotui.compress.distil.training import Report, Training
from miaotui.errors import ConfigError, ModelFileError, OutputError
from miaotui.formats.gguf_write import encode_field
from miaotui.formats.weights import TensorType

STATE_FILE, CORPUS_FILE, DRAFT_FILE = "state.safetensors", "corpus.bin", "draft.gguf"
_FREE = frozenset({"minutes", "steps", "checkpoint_s"})
"""Settings that may be others when a run is resumed."""


@dataclass(frozen=True, slots=True)
class Job:
    """What is to be made of what. work: a folder for the run's state and texts, which stays there; None: one beside
    the output, which goes when that is written."""

    teacher: Path
    student: Path
    output: Path
    settings: DistilSettings
    work: Path | None = None

    @property
    def folder(self) -> Path:
        """Where the run's state and texts are."""
        return self.work or self.output.with_name(f"{self.output.name}.distil")


@dataclass(frozen=True, slots=True)
class Distilled:
    """What `distil` wrote, and what it took."""

    written: Compressed
    position: Position
    arithmetic: str
    num_learning: int


def distil(
    job: Job,
    teacher: Teacher,
    material: Material,
    *,
    resume: bool = False,
    open_writer: OpenWriter | None = None,
    report: Report | None = None,
) -> Distilled:
    """Train the student on what `teacher`, the model of `job.teacher`, has to say; write it to `job.output`.

    resume: go on from the state in `job.folder`; without one, begin. Memory: `opened.required_bytes`.
    Raises ConfigError for settings that do not fit, a state that is there unasked or another run's, and a divergence
    that is no number any more; UnsupportedModelError for a student that is no decoder in a GGUF file; ModelFileError
    for one with another vocabulary, or where the output is one of the sources; OutputError where something cannot be
    written. Ctrl-C raises KeyboardInterrupt when the state is kept.
    """
    state = _prepare(job, resume)
    opened = OpenedStudent(job.student, job.settings)
    check_vocabulary(opened, job.teacher)
    digests = {"student": _file_digest(job.student), "teacher": _file_digest(job.teacher)}
    training = Training(
        opened.student,
        opened.parameters,
        opened.rounding,
        _supply(job, opened, teacher, material, open_writer, digests),
        job.settings,
        state=state,
        made_by={**digests, "settings": _settings_of(job.settings), "type": opened.kind.name},
    )
    if state.exists():
        training.resume()
    else:
        training.position.arithmetic = fastest_arithmetic()
    training.run(report)
    at = training.position
    told = provenance(
        {
            "teacher_sha256": digests["teacher"],
            "material_sha256": _material_digest(material),
            "settings": _settings_of(job.settings),
            "tokens": at.tokens,
            # An interrupted file is gone on with under the same header, so it says which weights are written.
            "trained_sha256": _trained_digest(opened.parameters),
        }
    )
    written = opened.write(job.output, told)
    if job.work is None:
        shutil.rmtree(job.folder)
    return Distilled(written, at, at.arithmetic, sum(v.numel() for v in opened.parameters.learning().values()))


def _prepare(job: Job, resume: bool) -> Path:
    """Makes the folder; gives the path of the state in it."""
    for source in (job.student, job.teacher):
        if job.output.exists() and source.exists() and job.output.samefile(source):
            raise ModelFileError(f"{job.output}: is one of the sources itself; write elsewhere.")
    state = job.folder / STATE_FILE
    if state.exists() and not resume:
        raise ConfigError(f"{state}: is the state of a run; resume it (--resume), or remove {job.folder}.")
    try:
        job.folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{job.folder}: cannot be made ({error}); write elsewhere.") from None
    return state


def _supply(
    job: Job,
    opened: OpenedStudent,
    teacher: Teacher,
    material: Material,
    open_writer: OpenWriter | None,
    digests: Mapping[str, str],
) -> Supply:
    settings = job.settings
    made_by = {"teacher": digests["teacher"], "material": _material_digest(material)}
    made_by |= {name: json.dumps(getattr(settings, name)) for name in ("seed", "text_share", "on_policy")}
    if settings.on_policy:
        made_by["student"] = digests["student"]
    corpus = Corpus(job.folder / CORPUS_FILE, made_by, settings.sequence_tokens, min(settings.top_k, opened.vocab_size))

    def export(path: Path) -> None:
        # An interrupted file is gone on with under the same header, and every draft has other weights.
        opened.write(path, {"miaotui.distil.draft": encode_field(secrets.token_hex(8))}, TensorType.Q8_0)

    return Supply(
        corpus, teacher, material, settings, export=export, open_writer=open_writer, draft=job.folder / DRAFT_FILE
    )


def _settings_of(settings: DistilSettings) -> str:
    return json.dumps({key: value for key, value in asdict(settings).items() if key not in _FREE})


def _material_digest(material: Material) -> str:
    digest = hashlib.sha256(material.text.tobytes())
    digest.update(json.dumps([list(prompt) for prompt in material.prompts]).encode())
    return digest.hexdigest()


def _trained_digest(parameters: Parameters) -> str:
    digest = hashlib.sha256()
    for name, values in parameters.learning().items():
        digest.update(name.encode())
        digest.update(values.detach().float().numpy().tobytes())
    return digest.hexdigest()


def _file_digest(path: Path) -> str:
    files = [path]
    if path.is_dir():  # a Hugging Face folder
        files = sorted(file for file in path.iterdir() if file.suffix in (".json", ".safetensors"))
    return source_digest(files)
