"""The state of a training between two steps, as one safetensors file that is replaced as a whole."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from miaotui.compress.distil.framework import Arithmetic
from miaotui.compress.distil.parameters import Parameters
from miaotui.errors import ConfigError, ModelFileError
from miaotui.formats.safetensors import read_metadata, read_tensors
from miaotui.formats.safetensors_write import write_safetensors
from miaotui.formats.weights import MappedFile

_MOMENTS = ("exp_avg", "exp_avg_sq")


@dataclass(slots=True)
class Position:
    """How far a training is: steps done, seconds they took, tokens learned from, and divergences per token.

    first_loss: of the first step; loss: a mean that forgets, of the latest ones. arithmetic: of the matrix products,
    which a machine's speed decides at the start.
    """

    steps: int = 0
    seconds: float = 0.0
    tokens: int = 0
    first_loss: float = 0.0
    loss: float = 0.0
    arithmetic: Arithmetic = "float32"


def save(
    path: Path,
    made_by: Mapping[str, str],
    position: Position,
    parameters: Parameters,
    optimizer: torch.optim.Optimizer,
) -> None:
    """Raises OutputError where the file cannot be written; the one before stays until it is whole."""
    learning = parameters.learning()
    tensors = {f"weight:{name}": value.detach() for name, value in learning.items()}
    tensors |= {f"shift:{name}": value.detach() for name, value in parameters.shifted().items()}
    for name, value in learning.items():
        for moment, of_it in optimizer.state[value].items():
            if moment in _MOMENTS:
                tensors[f"{moment}:{name}"] = of_it
    told = {**made_by, "position": json.dumps(asdict(position))}
    write_safetensors(path, {name: value.numpy() for name, value in tensors.items()}, told)


def load(path: Path, made_by: Mapping[str, str], parameters: Parameters, optimizer: torch.optim.Optimizer) -> Position:
    """Puts everything back where `save` took it. Raises ConfigError for another run's state, ModelFileError for a
    damaged one."""
    file = MappedFile(path)
    told = read_metadata(file)
    for key, value in made_by.items():
        if told.get(key) != value:
            raise ConfigError(
                f"{path}: belongs to another run: its {key} is {told.get(key)!r:.200}, not {value!r:.200}; "
                "ask for the same, or remove it."
            )
    tensors = {t.name: t for t in read_tensors(file)}
    position = _position(path, told)

    def put(name: str, into: Tensor) -> None:
        if name not in tensors or tensors[name].shape != tuple(into.shape):
            raise ModelFileError(f"{path}: holds no {name!r} of shape {tuple(into.shape)}; remove it and begin anew.")
        with torch.no_grad():
            into.copy_(torch.from_numpy(tensors[name].to_float32()))

    for name, weight in parameters.learning().items():
        put(f"weight:{name}", weight)
        if position.steps:
            moments = {moment: torch.zeros_like(weight, requires_grad=False) for moment in _MOMENTS}
            for moment, of_it in moments.items():
                put(f"{moment}:{name}", of_it)
            optimizer.state[weight] = {"step": torch.tensor(float(position.steps)), **moments}
    for name, shift in parameters.shifted().items():
        put(f"shift:{name}", shift)
    return position


def _position(path: Path, told: Mapping[str, str]) -> Position:
    try:
        return Position(**json.loads(told["position"]))
    except (KeyError, TypeError, ValueError):
        raise ModelFileError(f"{path}: does not say how far it is; remove it and begin anew.") from None
