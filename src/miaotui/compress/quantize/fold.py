"""Scales moved from a matrix's inputs into what makes these inputs, so that channels that matter are rounded finer.

The method is AWQ's (arXiv:2306.00978, section 3.2): inputs are divided by s_j = (mean |x_j|)^alpha and columns
multiplied by it; alpha is searched for each group of matrices by what rounding does to their outputs. The model
computes the same function. Where the division goes: a norm's gain, the rows of `up` (linear all the way to `down`, as
`gate` is not), the rows of `value` (one scale for all query heads that share a KV head).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from miaotui import _native
from miaotui.compress.calibration import Calibration, InputStatistics
from miaotui.compress.changed_inputs import scaled, with_inputs
from miaotui.compress.factors import weighted
from miaotui.compress.plan import fitting_type
from miaotui.compress.quantize import METHODS
from miaotui.compress.source import Change, Changed, Source, check_runs
from miaotui.errors import ConfigError
from miaotui.formats.gguf_write import encode_field
from miaotui.formats.weights import TensorType

Floats = NDArray[np.float32]

ALPHAS = tuple(step / 10 for step in range(11))
"""0 changes nothing."""
SAMPLED_ROWS = 128
"""Of each matrix, evenly spread, on which an alpha is tried."""
_LEAST = 1e-4
"""Of a scale before it is normalized: channels that are never fed anything are not blown up."""

Told = Callable[["Folded", int, int], None]


@dataclass(frozen=True, slots=True)
class Joint:
    """Where scales can be folded: `makers` (a norm's gain, a matrix, its bias) make the inputs of `readers`.

    An input channel of the readers is the row spread[channel] of the makers; None where they are the same.
    """

    name: str
    makers: tuple[str, ...]
    readers: tuple[str, ...]
    spread: NDArray[np.intp] | None = None


@dataclass(frozen=True, slots=True)
class Folded:
    """What was chosen at a joint, and the error of its readers' outputs relative to that at alpha 0."""

    joint: Joint
    alpha: float
    error: float
    scales: Floats


@dataclass(frozen=True, slots=True)
class Folding:
    """The changed source, statistics of its matrices' inputs, and what was chosen."""

    source: Source
    calibration: Calibration
    folded: tuple[Folded, ...]


def fold(
    source: Source, calibration: Calibration | None, kind: TensorType, method: str = "rtn", *, told: Told | None = None
) -> Folding:
    """Fold the scales that suit quantization to `kind` by that method; matrices are read one at a time.

    Raises ConfigError without a calibration, and what `check_runs` does.
    """
    check_runs(source)
    if calibration is None:
        raise ConfigError("folding scales needs a calibration: activations tell which channels matter.")
    all_joints = [joint for joint in joints(source) if joint.readers[0] in calibration.inputs]
    folded = []
    for done, joint in enumerate(all_joints):
        folded.append(_search(source, joint, calibration, kind, method))
        if told is not None:
            told(folded[-1], done, len(all_joints))
    inputs = {
        name: scaled(calibration.inputs[name], np.float32(1) / _of_inputs(one.joint, one.scales))
        for one in folded
        for name in one.joint.readers
        if name in calibration.inputs
    }
    alphas = " ".join(f"{one.alpha:g}" for one in folded)  # an interrupted file is only gone on with for the same ones
    fields = {"miaotui.compress.fold": encode_field(f"awq for {kind.name.lower()} {method}: {alphas}")}
    changed = Changed(source, _changes(source, folded), fields=fields)
    return Folding(changed, with_inputs(calibration, inputs), tuple(folded))


def joints(source: Source) -> Iterator[Joint]:
    """Those of a decoder whose norms stand before its linears; an encoder that adds behind its norms has none."""
    for layer in range(_integer(source, "block_count")):
        names = {
            short: f"blk.{layer}.{short}"
            for short in ("attn_norm", "attn_q", "attn_k", "attn_v", "attn_output", "ffn_norm", "ffn_gate", "ffn_up")
        }
        down = f"blk.{layer}.ffn_down.weight"
        for norm, readers in (("attn_norm", ("attn_q", "attn_k", "attn_v")), ("ffn_norm", ("ffn_gate", "ffn_up"))):
            if all(f"{names[short]}.weight" in source.tensors for short in (norm, *readers)):
                makers = _with_bias(source, names[norm])
                yield Joint(names[norm], makers, tuple(f"{names[short]}.weight" for short in readers))
        if f"{names['ffn_gate']}.weight" in source.tensors:
            yield Joint(names["ffn_up"], _with_bias(source, names["ffn_up"]), (down,))
        yield _value_joint(source, names["attn_v"], f"{names['attn_output']}.weight")


def _value_joint(source: Source, value: str, output: str) -> Joint:
    """Query heads of a group read the same value head (arXiv:2305.13245)."""
    rows, columns = source.tensors[f"{value}.weight"].shape[0], source.tensors[output].shape[1]
    head_dim = columns // _integer(source, "attention.head_count")
    channels = np.arange(rows).reshape(-1, 1, head_dim)
    spread = np.repeat(channels, columns // rows, axis=1).reshape(-1)
    return Joint(value, _with_bias(source, value), (output,), spread)


def _with_bias(source: Source, name: str) -> tuple[str, ...]:
    both = (f"{name}.weight", f"{name}.bias")
    return tuple(one for one in both if one in source.tensors)


def _integer(source: Source, key: str) -> int:
    value = source.metadata.get(f"{source.metadata.get('general.architecture')}.{key}")
    if not isinstance(value, int):
        raise ConfigError(f"scales cannot be folded: the model's {key!r} is not one number for all layers.")
    return value


def _search(source: Source, joint: Joint, calibration: Calibration, kind: TensorType, method: str) -> Folded:
    """The alpha with the least error of the readers' outputs, each measured against its error at alpha 0."""
    inputs = calibration.inputs[joint.readers[0]]
    candidates = [_scales(inputs, joint, alpha) for alpha in ALPHAS]
    total = np.zeros(len(ALPHAS))
    for name in joint.readers:
        statistics = calibration.inputs.get(name, inputs)
        fitting = fitting_type(kind, source.tensors[name].shape)
        if fitting is None or fitting.block_weights == 1:
            continue
        rows = _sample(source.floats(name))
        source.release(name)
        columns = [_of_inputs(joint, scales) for scales in candidates]
        total += [_output_error(rows, by, statistics, fitting, method) for by in columns]
    best = int(total.argmin())
    return Folded(joint, ALPHAS[best], float(total[best] / (total[0] or 1.0)), candidates[best])


def _scales(inputs: InputStatistics, joint: Joint, alpha: float) -> Floats:
    """By the makers' rows, with a geometric mean of 1."""
    magnitude = inputs.means if inputs.means is not None else np.sqrt(inputs.moments)
    if joint.spread is not None:
        count = np.bincount(joint.spread)
        magnitude = np.sqrt(np.bincount(joint.spread, np.square(magnitude)) / count).astype(np.float32)
    relative = np.maximum(magnitude / (float(magnitude.mean()) or 1.0), _LEAST)
    logs = alpha * np.log(relative)
    scales: Floats = np.exp(logs - logs.mean()).astype(np.float32)
    return scales


def _of_inputs(joint: Joint, scales: Floats) -> Floats:
    return scales if joint.spread is None else scales[joint.spread]


def _sample(matrix: Floats) -> Floats:
    step = max(len(matrix) // SAMPLED_ROWS, 1)
    return matrix[::step]


def _output_error(rows: Floats, by: Floats, statistics: InputStatistics, kind: TensorType, method: str) -> float:
    """Mean square of what rounding does to the outputs of these rows, with their columns scaled meanwhile."""
    quantize = METHODS[method].quantizer(kind, rows.shape[1], scaled(statistics, np.float32(1) / by))
    rounded = _native.dequantize(int(kind), quantize(rows * by), rows.size).reshape(rows.shape) / by
    error = rounded - rows
    return float(np.einsum("ij,ij->", weighted(error, statistics), error, dtype=np.float64))


def _changes(source: Source, folded: list[Folded]) -> dict[str, Change]:
    divided: dict[str, Floats] = {}
    multiplied: dict[str, Floats] = {}
    for one in folded:
        if one.alpha:
            divided |= dict.fromkeys(one.joint.makers, one.scales)
            multiplied |= dict.fromkeys(one.joint.readers, _of_inputs(one.joint, one.scales))
    return {
        name: Change(source.tensors[name].shape, partial(_rows, source, name, divided, multiplied))
        for name in {**divided, **multiplied}
    }


def _rows(
    source: Source, name: str, divided: Mapping[str, Floats], multiplied: Mapping[str, Floats], first: int, last: int
) -> Floats:
    if len(source.tensors[name].shape) == 1:
        return source.floats(name) / divided[name]
    weights = source.floats(name, first, last)
    if name in multiplied:
        weights = weights * multiplied[name]
    return weights / divided[name][first:last, None] if name in divided else weights
