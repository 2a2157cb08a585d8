"""The operators of an unfused graph in torch: what csrc/kernels computes, with gradients.

Activations are [sequences, tokens, width]; every sequence is a text of its own that starts at position 0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from miaotui.graph.nodes import Node, RopeTable


class Weights(Protocol):
    """What a student's graph reads, by the tensors' names in the file."""

    def tensor(self, name: str) -> Tensor:
        """A vector, or the embedding matrix."""

    def linear(self, x: Tensor, name: str, bias: Tensor | None) -> Tensor:
        """x [..., columns] times the matrix [rows, columns], plus the bias: [..., rows]."""


@dataclass(slots=True)
class Pass:
    """One forward pass: token ids int64 [sequences, tokens], and each layer's keys and values once it has them."""

    ids: Tensor
    weights: Weights
    tables: Mapping[str, RopeTable]
    kept: dict[int | None, tuple[Tensor, Tensor]] = field(default_factory=dict)
    turns: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict)


def _vector(node: Node, at: int, run: Pass) -> Tensor | None:
    weight = node.weights[at] if at < len(node.weights) else None
    if weight is None:
        return None
    values = run.weights.tensor(weight.tensor)
    return values + weight.offset if weight.offset else values


def _grouped(x: Tensor, width: int) -> Tensor:
    """The last dimension as groups of that width."""
    return x.reshape(*x.shape[:-1], -1, width)


def _embedding(node: Node, inputs: list[Tensor], run: Pass) -> Tensor:
    rows = functional.embedding(run.ids, run.weights.tensor(node.matrices[0].tensor))
    scale = float(node.attrs["scale"])
    return rows if scale == 1.0 else rows * scale


def _norm(node: Node, inputs: list[Tensor], run: Pass) -> Tensor:
    group = int(node.attrs["group"])
    x = _grouped(inputs[0], group)
    return functional.rms_norm(x, (group,), _vector(node, 0, run), float(node.attrs["eps"])).flatten(-2)


def _linear(node: Node, inputs: list[Tensor], run: Pass) -> Tensor:
    return run.weights.linear(inputs[0], node.matrices[0].tensor, _vector(node, 1, run))


def _rope(node: Node, inputs: list[Tensor], run: Pass) -> Tensor:
    x = _grouped(inputs[0], int(node.attrs["head_dim"]))
    turning = int(node.attrs["rope_dim"])
    turned, rest = x[..., :turning], x[..., turning:]
    cosine, sine = _turns(str(node.attrs["table"]), run)
    if node.attrs["pairing"] == "interleaved":
        a, b = turned[..., 0::2], turned[..., 1::2]
        turned = torch.stack((a * cosine - b * sine, a * sine + b * cosine), dim=-1).flatten(-2)
    else:
        a, b = turned.chunk(2, dim=-1)
        turned = torch.cat((a * cosine - b * sine, a * sine + b * cosine), dim=-1)
    return torch.cat((turned, rest), dim=-1).flatten(-2)


def _turns(name: str, run: Pass) -> tuple[Tensor, Tensor]:
    """Cosines and sines [tokens, 1, pairs], the same for every head."""
    if name not in run.turns:
        table = run.tables[name]
        positions = torch.arange(run.ids.shape[1], dtype=torch.float64)
        angles = (positions[:, None] * torch.tensor(table.inv_freq, dtype=torch.float64))[:, None]
        run.turns[name] = (angles.cos() * table.mscale).float(), (angles.sin() * table.mscale).float()
    return run.turns[name]


def _keep(node: Node, inputs: list[Tensor], run: Pass) -> None:
    run.kept[node.layer] = inputs[0], inputs[1]


def _attention(node: Node, inputs: list[Tensor], run: Pass) -> Tensor:
    head_dim = int(node.attrs["head_dim"])
    q, k, v = (_grouped(x, head_dim).transpose(1, 2) for x in (inputs[0], *run.kept[node.layer]))
    k, v = (x.repeat_interleave(q.shape[1] // x.shape[1], dim=1) for x in (k, v))
    scale, window, cap = float(node.attrs["scale"]), int(node.attrs["window"]), float(node.attrs["softcap"])
    if cap:
        scores = torch.tanh(q @ k.transpose(-1, -2) * scale / cap) * cap
        rows = scores.masked_fill(~_seen(q.shape[2], window), -torch.inf).softmax(dim=-1) @ v
    elif 0 < window < q.shape[2]:
        seen = _seen(q.shape[2], window)
        rows = functional.scaled_dot_product_attention(q, k, v, attn_mask=seen, scale=scale)
    else:
        rows = functional.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale)
    return rows.transpose(1, 2).flatten(-2)


def _seen(tokens: int, window: int) -> Tensor:
    """Which tokens (columns) a token (row) sees: itself and those before, the last `window` if that is not 0."""
    distance = torch.arange(tokens)[:, None] - torch.arange(tokens)
    seen: Tensor = (distance >= 0) & (distance < (window or tokens))
    return seen


_ACTIVATIONS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "silu": functional.silu,
    "gelu": functional.gelu,
    "gelu_tanh": lambda x: functional.gelu(x, approximate="tanh"),
}


def _activate_mul(node: Node, inputs: list[Tensor], run: Pass) -> Tensor:
    return _ACTIVATIONS[str(node.attrs["activation"])](inputs[0]) * inputs[1]


def _softcap(node: Node, inputs: list[Tensor], run: Pass) -> Tensor:
    cap = float(node.attrs["cap"])
    return torch.tanh(inputs[0] / cap) * cap


OPERATORS: Mapping[str, Callable[[Node, list[Tensor], Pass], Tensor | None]] = {
    "embedding": _embedding,
    "norm": _norm,
    "linear": _linear,
    "rope": _rope,
    "kv_write": _keep,
    "attention": _attention,
    "activate_mul": _activate_mul,
    "add": lambda node, inputs, run: inputs[0] + inputs[1],
    "select_rows": lambda node, inputs, run: inputs[0],
    "softcap": _softcap,
}
"""By kind of node. A node that keeps something for others gives None."""
