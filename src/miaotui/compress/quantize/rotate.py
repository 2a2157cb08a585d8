"""Rotations fused into the weights, which spread outliers over their neighbours before rounding.

The model stays itself. Two places take one without work at run time (QuaRot, arXiv:2404.00456, section 4): the value
heads, turned back by the output projection's columns, and the residual stream, which everything that writes to it turns
and everything that reads from it turns back. The stream's norms commute with a rotation once their gains have moved
into what reads them. A model whose embedding doubles as its head gets a head of its own, as the last gain can only go
there.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial

import numpy as np
from numpy.typing import NDArray

from miaotui.compress.calibration import Calibration, InputStatistics
from miaotui.compress.changed_inputs import scaled, turned, with_inputs
from miaotui.compress.quantize.hadamard import Rotation
from miaotui.compress.source import Change, Changed, Source, check_runs
from miaotui.errors import UnsupportedModelError
from miaotui.formats.gguf_write import encode_field

Floats = NDArray[np.float32]

_STREAM = ("llama", "qwen2", "qwen3")
"""Decoders with RMS norms in front of their linears and none behind: a gain behind one stands in a rotation's way."""
_READERS = {"attn_norm": ("attn_q", "attn_k", "attn_v"), "ffn_norm": ("ffn_gate", "ffn_up")}
_WRITERS = ("attn_output", "ffn_down")


@dataclass(slots=True)
class _Move:
    """What happens to a matrix: columns times gain, turned by one rotation, rows by another; `origin` is its source."""

    origin: str
    gain: str | None = None
    columns: Rotation | None = None
    rows: Rotation | None = None


@dataclass(slots=True)
class _Moves:
    matrices: dict[str, _Move] = field(default_factory=dict)
    flattened: list[str] = field(default_factory=list)

    def of(self, name: str) -> _Move:
        return self.matrices.setdefault(name, _Move(name))


def rotate(
    source: Source, calibration: Calibration | None, *, stream: bool = False, seed: int = 0
) -> tuple[Source, Calibration | None]:
    """Turn the value heads and, with `stream`, the residual stream, by random-sign Hadamard matrices in blocks.

    Gives statistics of the turned inputs beside the changed source: exact with Hessians; with moments alone, as if
    inputs were uncorrelated. Raises UnsupportedModelError for an architecture that the rotation would change, and what
    `check_runs` does.
    """
    check_runs(source)
    architecture = source.metadata.get("general.architecture")
    layers, heads = (source.metadata.get(f"{architecture}.{key}") for key in ("block_count", "attention.head_count"))
    if not isinstance(layers, int) or not isinstance(heads, int):
        raise UnsupportedModelError(
            "a model whose layers differ in their heads is not rotated; leave the rotation out."
        )
    rng = np.random.default_rng(seed)
    moves = _Moves()
    for layer in range(layers):
        _turn_values(source, moves, f"blk.{layer}", heads, rng)
    if stream:
        if architecture not in _STREAM:
            raise UnsupportedModelError(
                f"the residual stream of a {architecture} model cannot be rotated: its norms' gains stand between what "
                "writes to it and what reads. Rotate its value heads only."
            )
        _turn_stream(source, moves, layers, rng)
    changes = {name: _change(source, name, move) for name, move in moves.matrices.items()}
    changes |= {name: _ones(source, name) for name in moves.flattened}
    fields = {"miaotui.compress.rotate": encode_field(f"{'stream' if stream else 'heads'}, seed {seed}")}
    return Changed(source, changes, fields=fields), None if calibration is None else _statistics(
        source, calibration, moves
    )


def _turn_values(source: Source, moves: _Moves, block: str, heads: int, rng: np.random.Generator) -> None:
    """All heads of a layer alike: query heads that share a value head turn back the same."""
    value, output = f"{block}.attn_v", f"{block}.attn_output.weight"
    head_dim = source.tensors[output].shape[1] // heads
    rotation = Rotation.of(head_dim, rng)
    moves.of(f"{value}.weight").rows = rotation
    if f"{value}.bias" in source.tensors:
        moves.of(f"{value}.bias").rows = rotation
    moves.of(output).columns = rotation


def _turn_stream(source: Source, moves: _Moves, layers: int, rng: np.random.Generator) -> None:
    width = source.tensors["token_embd.weight"].shape[1]
    rotation = Rotation.of(width, rng)
    moves.of("token_embd.weight").columns = rotation
    head = "output.weight"
    moves.matrices[head] = _Move(
        head if head in source.tensors else "token_embd.weight", "output_norm.weight", rotation
    )
    moves.flattened.append("output_norm.weight")
    for layer in range(layers):
        block = f"blk.{layer}"
        for norm, readers in _READERS.items():
            moves.flattened.append(f"{block}.{norm}.weight")
            for reader in readers:
                move = moves.of(f"{block}.{reader}.weight")
                move.gain, move.columns = f"{block}.{norm}.weight", rotation
        for writer in _WRITERS:
            for name in (f"{block}.{writer}.weight", f"{block}.{writer}.bias"):
                if name in source.tensors:
                    moves.of(name).rows = rotation


def _ones(source: Source, name: str) -> Change:
    shape = source.tensors[name].shape
    return Change(shape, lambda first, last: np.ones(shape, np.float32))


def _change(source: Source, name: str, move: _Move) -> Change:
    return Change(source.tensors[move.origin].shape, partial(_rows, source, move))


def _rows(source: Source, move: _Move, first: int, last: int) -> Floats:
    if len(source.tensors[move.origin].shape) == 1:
        bias = source.floats(move.origin)
        return bias if move.rows is None else move.rows.turn(bias)
    if move.rows is None:
        return _with_turned_columns(source, move, first, last)
    begin, end = first // move.rows.block * move.rows.block, -(-last // move.rows.block) * move.rows.block
    weights = _with_turned_columns(source, move, begin, end)
    return move.rows.turn_rows(weights, begin)[first - begin : last - begin]


def _with_turned_columns(source: Source, move: _Move, first: int, last: int) -> Floats:
    weights = source.floats(move.origin, first, last)
    if move.gain is not None:
        weights = weights * source.floats(move.gain)
    return weights if move.columns is None else move.columns.turn(weights)


def _statistics(source: Source, calibration: Calibration, moves: _Moves) -> Calibration:
    inputs: dict[str, InputStatistics] = {}
    for name in source.tensors:  # in the file's order: Hessians are collected layer by layer
        known, move = calibration.inputs.get(name), moves.matrices.get(name)
        if name == "token_embd.weight" and "output.weight" in moves.matrices and "output.weight" not in source.tensors:
            if known is not None:  # a tied model's table is only looked up from now on; the new head is fed instead
                head = moves.matrices["output.weight"]
                inputs["output.weight"] = _moved(source, known, head)
            continue
        if known is None or move is None or move.columns is None:
            continue
        inputs[name] = _moved(source, known, move)
    return with_inputs(calibration, inputs, without=("token_embd.weight",) if "output.weight" in inputs else ())


def _moved(source: Source, known: InputStatistics, move: _Move) -> InputStatistics:
    if move.gain is not None:
        gain = source.floats(move.gain)
        known = scaled(known, np.divide(1, gain, out=np.zeros_like(gain), where=gain != 0))
    return known if move.columns is None else turned(known, move.columns.turn)
