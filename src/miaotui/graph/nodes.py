"""The vocabulary of a graph: values, weights, nodes; a graph is immutable, passes make new ones."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from miaotui.formats.weights import TensorType

Rows = Literal["tokens", "logits"]
Dtype = Literal["f32", "q8", "q16"]
"""Float rows, or rows quantized per 32 columns to int8 codes or to 16 bits in two int8 planes."""
Attrs = Mapping[str, float | int | str]

FLOAT_TYPES = frozenset({TensorType.F32, TensorType.F16, TensorType.BF16})
READ_BY_ROWS = frozenset({"embedding", "add_positions"})
"""Kinds that read single rows of their matrices, straight from the file; all others multiply with packed ones."""


@dataclass(frozen=True, slots=True, eq=False)
class Value:
    """A matrix of activations: one row of `width` columns per token of the batch, or per wanted row of logits.

    Compared by identity.
    A view has a `base`, and is the `width` columns of it that start at `column`.
    """

    name: str
    width: int
    rows: Rows = "tokens"
    dtype: Dtype = "f32"
    base: Value | None = None
    column: int = 0


@dataclass(frozen=True, slots=True)
class Weight:
    """A tensor of the model file under its graph name; `offset` is added to every element when it is read."""

    name: str
    tensor: str
    type: TensorType
    shape: tuple[int, ...]
    offset: float = 0.0

    @property
    def num_rows(self) -> int:
        """Output width of a matrix, 1 for a vector."""
        return self.shape[0] if len(self.shape) > 1 else 1

    @property
    def num_cols(self) -> int:
        """Input width of a matrix, length of a vector."""
        return self.shape[-1]

    @property
    def nbytes(self) -> int:
        """Size in the file."""
        return self.num_rows * self.num_cols // self.type.block_weights * self.type.block_bytes

    @property
    def is_quantized(self) -> bool:
        """Whether the int8 path multiplies this weight with int8 activations."""
        return self.type not in FLOAT_TYPES


@dataclass(frozen=True, slots=True)
class RopeTable:
    """Rotary frequencies in radians per position, one per pair of columns; cosine and sine are scaled by `mscale`."""

    inv_freq: tuple[float, ...]
    mscale: float = 1.0


@dataclass(frozen=True, slots=True, eq=False)
class Node:
    """One operator; the kinds and what they take are the keys of `CHECKS`. Compared by identity."""

    kind: str
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    weights: tuple[Weight | None, ...] = ()
    attrs: Attrs = field(default_factory=dict)
    layer: int | None = None

    @property
    def output(self) -> Value:
        """The only output."""
        (value,) = self.outputs
        return value

    @property
    def matrices(self) -> tuple[Weight, ...]:
        """The weights with two dimensions: everything but gains and biases."""
        return tuple(w for w in self.weights if w is not None and len(w.shape) > 1)

    @property
    def label(self) -> str:
        """What the node computes, for people: its weights, or its outputs, or what it reads."""
        named = [w.name for w in self.matrices or self.weights if w is not None]
        return "+".join(named or [v.name for v in self.outputs or self.inputs])


@dataclass(frozen=True, slots=True)
class Graph:
    """Operators of one forward pass in execution order; the last one's output is the logits."""

    nodes: tuple[Node, ...]
    rope_tables: Mapping[str, RopeTable] = field(default_factory=dict)

    @property
    def logits(self) -> Value:
        """What the pass is for: rows "logits", width = vocabulary size."""
        return self.nodes[-1].output

    @property
    def multiplied(self) -> dict[str, Weight]:
        """The matrices that activations are multiplied with, by tensor name."""
        return {w.tensor: w for node in self.nodes if node.kind not in READ_BY_ROWS for w in node.matrices}

    @property
    def tables(self) -> dict[str, Weight]:
        """The matrices that single rows are read of; one may be among the multiplied, too."""
        return {w.tensor: w for node in self.nodes if node.kind in READ_BY_ROWS for w in node.matrices}

    def producers(self) -> dict[Value, Node]:
        """The node that computes each value."""
        return {value: node for node in self.nodes for value in node.outputs}

    def consumers(self) -> dict[Value, list[Node]]:
        """The nodes that read each value, in order; reading a view counts as reading its base too."""
        readers: dict[Value, list[Node]] = {value: [] for node in self.nodes for value in node.outputs}
        for node in self.nodes:
            for value in dict.fromkeys((*node.inputs, *(v.base for v in node.inputs if v.base is not None))):
                readers.setdefault(value, []).append(node)
        return readers

    def replace(self, changes: Mapping[Node, Iterable[Node]]) -> Graph:
        """A graph with some nodes replaced, each by any number of nodes at its place."""
        nodes = (new for old in self.nodes for new in changes.get(old, (old,)))
        return Graph(tuple(nodes), self.rope_tables)

    def validate(self) -> Graph:
        """Return the graph; raise ValueError when a value is read before it is computed or an operator is misused."""
        ready: set[Value] = set()
        for index, node in enumerate(self.nodes):
            where = f"node {index} ({node.kind} {node.label})"
            if node.kind not in CHECKS:
                raise ValueError(f"{where}: unknown kind")
            if missing := [v.name for v in node.inputs if (v.base or v) not in ready]:
                raise ValueError(f"{where}: reads {missing} before they are computed")
            if repeated := [v.name for v in node.outputs if v in ready or v.base is not None]:
                raise ValueError(f"{where}: {repeated} are computed twice or are views")
            if any(v.column + v.width > (v.base or v).width for v in node.inputs):
                raise ValueError(f"{where}: reads columns that its input does not have")
            if not CHECKS[node.kind](node):
                raise ValueError(f"{where}: inputs, outputs and weights do not fit together")
            if "table" in node.attrs and node.attrs["table"] not in self.rope_tables:
                raise ValueError(f"{where}: no rope table {node.attrs['table']!r}")
            ready.update(node.outputs)
        if not self.nodes or [v.rows for v in self.nodes[-1].outputs] != ["logits"]:
            raise ValueError("the last node must compute the logits")
        return self


TO_ANY_ROWS = frozenset({("f32", "f32"), ("f32", "q8"), ("f32", "q16")})


def _form(node: Node) -> tuple[str, str]:
    return " ".join(v.dtype for v in node.inputs), " ".join(v.dtype for v in node.outputs)


def _same_rows(node: Node) -> bool:
    return len({v.rows for v in (*node.inputs, *node.outputs)}) == 1


def _same_width(node: Node) -> bool:
    return len({v.width for v in (*node.inputs, *node.outputs)}) == 1


def _check_linear(node: Node) -> bool:
    x, residual = node.inputs[0], node.inputs[1:]
    matrices, biases = node.weights[::2], node.weights[1::2]
    return (
        _same_rows(node)
        and len(residual) <= (len(node.outputs) == 1)
        and len(matrices) == len(biases) == len(node.outputs)
        and all(v.dtype == "f32" for v in (*node.outputs, *residual))
        and all(v.width == node.outputs[0].width for v in residual)
        and all(
            w is not None and w.shape == (y.width, x.width) and (w.is_quantized or x.dtype == "f32")
            for w, y in zip(matrices, node.outputs, strict=True)
        )
        and all(b is None or b.shape == (y.width,) for b, y in zip(biases, node.outputs, strict=True))
    )


def _check_gated_linear(node: Node) -> bool:
    (x,), (y,) = node.inputs, node.outputs
    return _same_rows(node) and all(
        w is not None and w.shape == (y.width, x.width) and (w.is_quantized or x.dtype == "f32") for w in node.weights
    )


def _check_rowwise(forms: Collection[tuple[str, str]]) -> Callable[[Node], bool]:
    return lambda node: _form(node) in forms and _same_rows(node) and _same_width(node)


def _check_norm(node: Node) -> bool:
    """One form of the row, or floats beside codes for a residual that needs the floats."""
    forms = {v.dtype for v in node.outputs}
    both = len(node.outputs) == 2 and node.outputs[0].dtype == "f32" and len(forms) == 2
    return (_form(node) in TO_ANY_ROWS or both) and _same_rows(node) and _same_width(node)


def _check_positions(node: Node) -> bool:
    return _form(node) == ("f32", "f32") and all(w.num_cols == node.output.width for w in node.matrices)


def _num_taps(node: Node) -> int:
    return int(node.attrs["kernel_height"]) * int(node.attrs["kernel_width"])


def _check_windows(node: Node) -> bool:
    (x,), (y,) = node.inputs, node.outputs
    return x.rows == y.rows == "tokens" and x.dtype == y.dtype and y.width == _num_taps(node) * x.width


def _check_depthwise(node: Node) -> bool:
    """One vector of filters [terms, kernel_height, kernel_width, columns]."""
    filters = node.weights[0]
    x, y, terms = node.inputs[0], node.output, int(node.attrs["terms"])
    fits = filters is not None and filters.shape == (terms * _num_taps(node) * x.width,)
    return _form(node) in TO_ANY_ROWS and x.rows == y.rows == "tokens" and fits and y.width == terms * x.width


def _check_max_pool(node: Node) -> bool:
    floats = all(v.dtype == "f32" for v in (*node.inputs, *node.outputs))
    rows = node.output.rows == "logits" and all(v.rows == "tokens" for v in node.inputs)
    return floats and rows and node.output.width == sum(v.width for v in node.inputs)


def _check_attention(node: Node) -> bool:
    return _form(node) in TO_ANY_ROWS and _same_width(node) and node.inputs[0].rows == "tokens"


CHECKS: Mapping[str, Callable[[Node], bool]] = {
    "embedding": lambda n: _form(n) == ("", "f32") and n.output.width == n.matrices[0].num_cols,
    "add_positions": _check_positions,
    "norm": _check_norm,
    "quantize": _check_rowwise(TO_ANY_ROWS - {("f32", "f32")}),
    "linear": _check_linear,
    "gated_linear": _check_gated_linear,
    "activate": _check_rowwise(TO_ANY_ROWS),
    "activate_mul": _check_rowwise({("f32 f32", "f32")}),
    "rope": _check_rowwise({("f32", "f32")}),
    "kv_write": lambda n: _form(n) == ("f32 f32", "") and _same_width(n),
    "rope_kv": lambda n: _form(n) == ("f32 f32 f32", "f32") and n.inputs[0].width == n.output.width,
    "attention": _check_attention,
    "self_attention": lambda n: _form(n)[0] == "f32 f32 f32" and _same_width(n) and _same_rows(n),
    "windows": _check_windows,
    "depthwise": _check_depthwise,
    "add": _check_rowwise({("f32 f32", "f32")}),
    "select_rows": lambda n: _form(n) == ("f32", "f32") and _same_width(n) and n.output.rows == "logits",
    "mean_pool": lambda n: _form(n) == ("f32", "f32") and _same_width(n) and n.output.rows == "logits",
    "max_pool": _check_max_pool,
    "softcap": _check_rowwise({("f32", "f32")}),
}
