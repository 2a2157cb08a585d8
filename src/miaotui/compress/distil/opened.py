"""A student file, opened to be trained and to be written again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from miaotui.compress.compress import Compressed, compress, open_source
from miaotui.compress.distil.loss import LOGIT_ROWS
from miaotui.compress.distil.parameters import FullParameters, LoraParameters, Parameters, Trained, trained_tensors
from miaotui.compress.distil.rounding import Rounding
from miaotui.compress.distil.settings import DistilSettings
from miaotui.compress.distil.student import Student
from miaotui.compress.plan import TYPES, plan, type_named
from miaotui.compress.source import Change, Changed, Source
from miaotui.errors import ConfigError, ModelFileError, UnsupportedModelError
from miaotui.formats import ModelFile, open_model
from miaotui.formats.gguf_write import Field, encode_field
from miaotui.formats.weights import TensorType
from miaotui.models import build_graph

_BYTES_LEARNING, _BYTES_KEPT = 16, 4
_BYTES_ROUNDED = 8
"""A weight's error of rounding, and the rounded weight, which the backward pass needs."""
_ACTIVATION_BYTES = 6
"""A float of each value in the graph, and half as much again for what lies between."""
_LOGIT_BYTES = 12
"""A logit, its probability and its gradient."""


class OpenedStudent:
    """The student's weights as torch sees them; `write` makes a file of them, whatever they are by then.

    Raises what `read_gguf` does, UnsupportedModelError for what is no decoder in a GGUF file, ConfigError for layers
    that it does not have.
    """

    def __init__(self, path: Path, settings: DistilSettings) -> None:
        if path.is_dir():
            raise UnsupportedModelError(
                f"{path}: a student is a GGUF file; write one with `miaotui compress --type f16`."
            )
        self.source = open_source(path)
        file = open_model(path)
        if settings.first_layer >= file.spec.num_layers:
            raise ConfigError(f"first_layer is {settings.first_layer}, but there are {file.spec.num_layers} layers.")
        self.vocab_size = file.spec.vocab_size
        self.graph = build_graph(file.spec, file.weights)
        self.kind = TensorType[settings.kind.upper()] if settings.kind is not None else _usual_type(self.source)
        self._types = _own_types(self.source) if settings.kind is None else {}
        self.rounding = Rounding(plan(self.source.tensors.values(), self.kind, self._types), settings.method)
        self.trained = trained_tensors(self.graph, settings.first_layer)
        self.parameters: Parameters = _parameters(self.source, self.trained, self.rounding, settings)
        self.student = Student(self.graph, self.parameters)
        self._method = settings.method

    def write(self, path: Path, fields: dict[str, Field], kind: TensorType | None = None) -> Compressed:
        """Raises OutputError where it cannot be written, ModelFileError where training made weights no numbers."""
        changes = {
            name: Change(self.source.tensors[name].shape, partial(_rows, self.parameters, name))
            for name in (*self.trained.matrices, *self.trained.vectors)
        }
        changed = Changed(self.source, changes, fields=fields)
        if kind is not None:
            return compress(changed, path, kind, method="rtn")
        return compress(changed, path, self.kind, types=self._types, method=self._method)


def required_bytes(path: Path, settings: DistilSettings) -> int:
    """About how much memory training takes, from the file's header alone; the teacher's comes on top."""
    file = open_model(path)
    graph = build_graph(file.spec, file.weights)
    trained = trained_tensors(graph, settings.first_layer)
    sizes = {t.name: t.num_weights for t in file.weights.values()}
    learning = sum(sizes[name] for name in (*trained.matrices, *trained.vectors))
    if settings.lora_rank is not None:
        shapes = [file.weights[name].shape for name in trained.matrices]
        learning = settings.lora_rank * sum(sum(shape) for shape in shapes)
        kept, rounded = sum(sizes.values()), 0
    else:
        kept, rounded = sum(sizes.values()) - learning, _num_rounded(file, trained, settings)
    tokens = settings.micro_sequences * settings.sequence_tokens
    width = sum(value.width for node in graph.nodes if node.layer is not None for value in node.outputs)
    values = _ACTIVATION_BYTES * tokens * width + _LOGIT_BYTES * min(tokens, LOGIT_ROWS) * file.spec.vocab_size
    return _BYTES_LEARNING * learning + _BYTES_ROUNDED * rounded + _BYTES_KEPT * kept + values


def _num_rounded(file: ModelFile, trained: Trained, settings: DistilSettings) -> int:
    """Weights that learn and are rounded to blocks while they do."""
    kinds = {name: type_named(settings.kind) if settings.kind else file.weights[name].type for name in trained.matrices}
    return sum(file.weights[name].num_weights for name, kind in kinds.items() if kind.block_weights > 1)


def check_vocabulary(student: OpenedStudent, teacher_path: Path) -> None:
    """Raises ModelFileError unless both models have the same tokens."""
    teacher = open_model(teacher_path)
    same = teacher.spec.vocab_size == student.vocab_size
    if same and teacher_path.suffix == ".gguf":
        tokens = "tokenizer.ggml.tokens"
        same = list(_strings(teacher.metadata.get(tokens))) == list(_strings(student.source.metadata.get(tokens)))
    if not same:
        raise ModelFileError(f"{teacher_path}: has another vocabulary than the student; take a teacher of its family.")


def _strings(value: object) -> Sequence[object]:
    return value if isinstance(value, Sequence) else ()


def _parameters(source: Source, trained: Trained, rounding: Rounding, settings: DistilSettings) -> Parameters:
    if settings.lora_rank is None:
        return FullParameters(source, trained, rounding)
    return LoraParameters(source, trained, rounding, settings.lora_rank, settings.seed)


def _rows(parameters: Parameters, name: str, first: int, last: int) -> NDArray[np.float32]:
    merged = parameters.merged(name)
    if merged is None or not np.isfinite(merged).all():
        raise ModelFileError(f"tensor '{name}' is no numbers any more; train with a lower learning rate.")
    return merged[first:last]


def _own_types(source: Source) -> dict[str, TensorType]:
    """Each matrix's type in the student's file, as far as it can be written: a mix stays one."""
    matrices = (tensor for tensor in source.tensors.values() if len(tensor.shape) == 2)
    return {tensor.name: tensor.type for tensor in matrices if tensor.type.name in TYPES}


def _usual_type(source: Source) -> TensorType:
    """What most weights in matrices of layers have, as long as it can be written; F16 otherwise."""
    kinds: Counter[TensorType] = Counter()
    for tensor in source.tensors.values():
        if len(tensor.shape) == 2 and tensor.name.startswith("blk."):
            kinds[tensor.type] += tensor.shape[0] * tensor.shape[1]
    kind = kinds.most_common(1)[0][0] if kinds else TensorType.F16
    return kind if kind.name in TYPES else TensorType.F16


def provenance(values: dict[str, str | int | float]) -> dict[str, Field]:
    """Fields of the file that say where it is from."""
    return {f"miaotui.distil.{key}": encode_field(value) for key, value in values.items()}
