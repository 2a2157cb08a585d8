"""What a model's linears were fed while it read some text: what the methods weigh a weight's error with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from miaotui.compress.source import Source
from miaotui.errors import ConfigError

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class InputStatistics:
    """The inputs x of one matrix over `tokens` tokens.

    moments: mean of x_j² [columns]. means: mean of |x_j| [columns]; lows, highs: the range of x_j [columns]; None where
    the source has none (imatrix files). hessian: gives the mean of x xᵀ [columns, columns], computed or read when it is
    asked for; None where nobody collected it.

    Matrices that are fed the same rows share one of these.
    """

    tokens: int
    moments: Floats
    means: Floats | None = None
    hessian: Callable[[], Floats] | None = None
    lows: Floats | None = None
    highs: Floats | None = None


@dataclass(frozen=True, slots=True)
class Calibration:
    """One pass over text, by the tensor's GGUF name.

    source_sha256: of the model file that was run. digest: of all that is in here, for the output's provenance.
    influence: 1 - mean cosine of a layer's input and output [layers] (ShortGPT, arXiv:2403.03853, section 3.1), or
    None.
    """

    source_sha256: str
    tokens: int
    inputs: Mapping[str, InputStatistics]
    influence: Floats | None = None
    digest: str = ""


def inputs_of(calibration: Calibration | None, name: str) -> InputStatistics | None:
    """What a matrix is fed; None where nothing tells."""
    return None if calibration is None else calibration.inputs.get(name)


def check_fits(calibration: Calibration, source: Source) -> None:
    """Raises ConfigError for a calibration of another model, as far as names and widths tell."""
    known = [name for name in calibration.inputs if name in source.tensors]
    if not known:
        raise ConfigError("the calibration names none of this model's matrices; it is of another model.")
    num_layers = source.metadata.get(f"{source.metadata.get('general.architecture')}.block_count")
    if calibration.influence is not None and num_layers not in (None, len(calibration.influence)):
        raise ConfigError(
            f"the calibration is of {len(calibration.influence)} layers, the model has {num_layers}; calibrate it."
        )
    for name in known:
        shape, columns = source.tensors[name].shape, len(calibration.inputs[name].moments)
        if len(shape) == 2 and shape[1] != columns:
            raise ConfigError(
                f"the calibration has {columns} inputs of '{name}', which has {shape[1]}; it is of another model."
            )
