"""Describes a forward pass operator by operator, so that a file in `models/` reads like the paper."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from miaotui.errors import ModelFileError, UnsupportedModelError
from miaotui.formats.spec import ModelSpec
from miaotui.formats.weights import Tensor
from miaotui.graph.nodes import Attrs, Graph, Node, RopeTable, Rows, Value, Weight
from miaotui.graph.rope import main_rope_table

TensorTable = Mapping[str, tuple[str, str]]
"""Graph name → (GGUF name, Hugging Face name), without ".weight" or ".bias"; `{}` stands for the layer."""

FACTORS = (".weight.lora_a", ".weight.lora_b")
"""Suffixes of a matrix's two factors, as in llama.cpp's adapter files (convert_lora_to_gguf.py)."""

UNIT_EPS = 1e-24
"""Keeps the unit norm of a row of zeros finite."""


class GraphBuilder:
    """Appends one node per method call and looks tensors up by their graph names.

    Every tensor's shape is checked against the spec: ModelFileError names the tensor that is missing or misshapen;
    UnsupportedModelError names a tensor of a layer that the architecture never used.
    """

    def __init__(self, spec: ModelSpec, weights: Mapping[str, Tensor], tensors: TensorTable) -> None:
        self._spec = spec
        self._file = weights
        self._tensors = tensors
        self._prefix = hugging_face_prefix(weights)
        self._nodes: list[Node] = []
        self._tables: dict[str, RopeTable] = {"main": main_rope_table(spec, weights)}
        self._used: set[str] = set()
        self._layer: int | None = None

    def layers(self) -> Iterator[int]:
        """Index of each layer in turn; layer weights are looked up in the current one."""
        for layer in range(self._spec.num_layers):
            self._layer = layer
            yield layer
        self._layer = None

    def add_rope_table(self, name: str, table: RopeTable) -> None:
        """Offer a second rope table to `rope`; the first one is called "main" and follows the spec."""
        self._tables[name] = table

    def embed(self) -> Value:
        """Rows of the embedding matrix for the batch's token ids, times the spec's embedding scale."""
        table = self._weight("embedding", self._spec.vocab_size, self._spec.hidden_size)
        scale = {"scale": self._spec.embedding_scale}
        return self._node("embedding", (), "embedding", table.num_cols, weights=(table,), attrs=scale)

    def add_positions(self, x: Value) -> Value:
        """Add what was learned for each position, and for texts that stand alone (BERT, arXiv:1810.04805, figure 2)."""
        positions = self._weight("positions", self._spec.context_length, self._spec.hidden_size)
        types = self._weight("token_types", self._spec.num_token_types, self._spec.hidden_size)
        return self._node("add_positions", (x,), "positions", x.width, weights=(positions, types))

    def layer_norm(self, x: Value, weight: str) -> Value:
        """Layer norm with gain and bias (arXiv:1607.06450) of the whole row."""
        gain, bias = (self._look_up(weight, suffix, (x.width,)) for suffix in (".weight", ".bias"))
        attrs: Attrs = {"kind": "layer", "eps": self._spec.norm_eps, "group": x.width}
        return self._node("norm", (x,), weight, x.width, weights=(gain, bias), attrs=attrs)

    def norm(self, x: Value, weight: str, *, group: int | None = None) -> Value:
        """RMS norm (arXiv:1910.07467) of each `group` of columns, by default of the whole row."""
        width = group or x.width
        gain = self._look_up(weight, ".weight", (width,), offset=self._spec.norm_offset)
        attrs: Attrs = {"kind": "rms", "eps": self._spec.norm_eps, "group": width}
        return self._node("norm", (x,), weight, x.width, weights=(gain, None), attrs=attrs)

    def linear(self, x: Value, weight: str, width: int, *, bias: bool = False) -> Value:
        """`x @ W.T`, plus the bias if the file has one; with `bias` it must have one.

        Factors A and B in the file are added to the matrix, or stand for it where it is not there: `(x @ A.T) @ B.T`.
        """
        has_bias = bias or self._file_name(weight, ".bias") in self._file
        vector = self._look_up(weight, ".bias", (width,)) if has_bias else None
        factors = self._factors(weight, width, x.width)
        if factors is None:
            matrix = self._weight(weight, width, x.width)
            return self._node("linear", (x,), weight, width, weights=(matrix, vector))
        return self._factored(x, weight, factors, vector)

    def _factored(self, x: Value, weight: str, factors: tuple[Weight, Weight], bias: Weight | None) -> Value:
        """Low-rank correction (LQER, arXiv:2402.02446, section 3) or replacement (arXiv:2403.07378) of a matrix."""
        a, b = factors
        whole = None
        if self._file_name(weight, ".weight") in self._file:
            matrix = self._weight(weight, b.num_rows, x.width)
            whole, bias = self._node("linear", (x,), weight, b.num_rows, weights=(matrix, bias)), None
        narrow = self._node("linear", (x,), f"{weight}.narrow", a.num_rows, weights=(a, None))
        wide = self._node("linear", (narrow,), f"{weight}.wide", b.num_rows, weights=(b, bias))
        return wide if whole is None else self.add(whole, wide)

    def rope(self, x: Value, table: str = "main") -> Value:
        """Rotate pairs of columns of each head by the token's position (RoFormer, arXiv:2104.09864)."""
        attrs: Attrs = {
            "table": table,
            "head_dim": self._spec.head_dim,
            "rope_dim": self._spec.rope_dim,
            "pairing": self._spec.rope_pairing,
        }
        return self._node("rope", (x,), "rope", x.width, attrs=attrs)

    def attention(self, q: Value, k: Value, v: Value) -> Value:
        """Append k and v to the sequence's KV pages, then attend causally with grouped heads (arXiv:2305.13245).

        In the spec's sliding layers a token sees itself and the `sliding_window - 1` tokens before it.
        """
        spec, layer = self._spec, self._current_layer
        here = {"layer": layer, "head_dim": spec.head_dim}
        self._nodes.append(Node("kv_write", (k, v), (), attrs=here, layer=layer))
        attrs = here | {
            "num_kv_heads": spec.num_kv_heads,
            "scale": spec.attention_scale,
            "window": (spec.sliding_window or 0) if spec.sliding_layers[layer] else 0,
            "softcap": spec.attention_softcap or 0.0,
        }
        return self._node("attention", (q,), "attention", q.width, attrs=attrs)

    def self_attention(self, q: Value, k: Value, v: Value) -> Value:
        """Attention of every token to all of its sequence, in both directions (arXiv:1706.03762, section 3.2)."""
        attrs: Attrs = {"head_dim": self._spec.head_dim, "scale": self._spec.attention_scale}
        return self._node("self_attention", (q, k, v), "attention", q.width, attrs=attrs)

    def mlp(self, x: Value) -> Value:
        """`down(activation(up(x)))`, with biases."""
        hidden = self.linear(x, "up", self._spec.intermediate_size, bias=True)
        return self.linear(self.activate(hidden), "down", x.width, bias=True)

    def convolution(self, x: Value, width: int, taps: int) -> Value:
        """`width` filters over windows of `taps` tokens, zeros beyond the text's ends (arXiv:1408.5882, section 2).

        A matrix [width, taps * x.width]: columns of the first tap, then of the next.
        """
        windows = self._node("windows", (x,), "windows", taps * x.width, attrs=_in_one_line(taps))
        return self.linear(windows, "convolution", width, bias=True)

    def separable_convolution(self, x: Value, width: int, taps: int, rank: int) -> Value:
        """`rank` filters for each column alone, then a matrix [width, rank * x.width] (arXiv:1704.04861, section 3.1).

        The filters are one vector: [rank, taps, columns].
        """
        filters = self._look_up("depthwise", ".weight", (rank * taps * x.width,))
        attrs = _in_one_line(taps) | {"terms": rank}
        columns = self._node("depthwise", (x,), "depthwise", rank * x.width, weights=(filters,), attrs=attrs)
        return self.linear(columns, "pointwise", width, bias=True)

    def max_pool(self, rows: Sequence[Value]) -> Value:
        """Each column's largest value over the sequence, of several values side by side; one row for each sequence."""
        return self._node("max_pool", tuple(rows), "largest", sum(x.width for x in rows), rows="logits")

    def activate(self, x: Value) -> Value:
        """The spec's activation of every element."""
        return self._node("activate", (x,), "activated", x.width, attrs={"activation": self._spec.activation})

    def gated_mlp(self, x: Value) -> Value:
        """`down(activation(gate(x)) * up(x))` (GLU variants, arXiv:2002.05202)."""
        width = self._spec.intermediate_size
        gate, up = self.linear(x, "gate", width), self.linear(x, "up", width)
        activation = {"activation": self._spec.activation}
        hidden = self._node("activate_mul", (gate, up), "gated", width, attrs=activation)
        return self.linear(hidden, "down", x.width)

    def add(self, a: Value, b: Value) -> Value:
        """Residual connection."""
        return self._node("add", (a, b), "residual", a.width)

    def split(self, x: Value, *widths: int) -> tuple[Value, ...]:
        """Views of consecutive columns, for files that hold several projections in one tensor."""
        starts = [sum(widths[:i]) for i in range(len(widths))]
        return tuple(
            Value(f"{x.name}[{a}:{a + w}]", w, x.rows, x.dtype, x, a) for a, w in zip(starts, widths, strict=True)
        )

    def logits(self, x: Value) -> Graph:
        """Final norm, head and soft-cap over the rows whose logits are wanted; ends the graph.

        Tied models use the embedding matrix as the head.
        """
        spec = self._spec
        x = self._node("select_rows", (x,), "selected", x.width, rows="logits")
        x = self.linear(self.norm(x, "final_norm"), "embedding" if spec.tie_embeddings else "head", spec.vocab_size)
        if spec.final_softcap:
            x = self._node("softcap", (x,), "softcap", x.width, attrs={"cap": spec.final_softcap})
        self._refuse_unused_tensors()
        return Graph(tuple(self._nodes), self._tables).validate()

    def pooled(self, x: Value) -> Graph:
        """One row of unit length for each sequence, in place of logits; ends the graph.

        The mean of its tokens' rows, or the row of the token whose logits are wanted: the first one, a classifier's.
        """
        kind = "mean_pool" if self._spec.pooling == "mean" else "select_rows"
        x = self._node(kind, (x,), "pooled", x.width, rows="logits")
        self._node("norm", (x,), "unit", x.width, attrs={"kind": "unit", "eps": UNIT_EPS, "group": x.width})
        self._refuse_unused_tensors()
        return Graph(tuple(self._nodes)).validate()

    def classified(self, x: Value, num_labels: int) -> Graph:
        """A score for each label, in place of logits; ends the graph."""
        self.linear(x, "head", num_labels, bias=True)
        self._refuse_unused_tensors()
        return Graph(tuple(self._nodes)).validate()

    @property
    def _current_layer(self) -> int:
        if self._layer is None:
            raise ValueError("attention belongs inside `for layer in builder.layers()`")
        return self._layer

    def _node(
        self,
        kind: str,
        inputs: tuple[Value, ...],
        name: str,
        width: int,
        *,
        rows: Rows | None = None,
        weights: tuple[Weight | None, ...] = (),
        attrs: Attrs | None = None,
    ) -> Value:
        rows = rows or (inputs[0].rows if inputs else "tokens")
        value = Value(f"{len(self._nodes)}.{name}", width, rows)
        self._nodes.append(Node(kind, inputs, (value,), weights, attrs or {}, self._layer))
        return value

    def _file_name(self, weight: str, suffix: str) -> str:
        return self._pattern(weight).format(self._layer) + suffix

    def _pattern(self, weight: str) -> str:
        """The tensor's name in this file, without its suffix; `{}` stands for the layer."""
        name = self._tensors[weight][0 if self._spec.source == "gguf" else 1]
        in_model = self._spec.source == "safetensors" and name.startswith("model.")
        return self._prefix + name.removeprefix("model.") if in_model else name

    def _weight(self, weight: str, rows: int, cols: int) -> Weight:
        return self._look_up(weight, ".weight", (rows, cols))

    def _factors(self, weight: str, rows: int, cols: int) -> tuple[Weight, Weight] | None:
        """A [rank, cols] and B [rows, rank] under llama.cpp's names for adapters, if the file has them."""
        tensor = self._file.get(self._file_name(weight, FACTORS[0]))
        if tensor is None:
            return None
        rank = tensor.shape[0]
        return self._look_up(weight, FACTORS[0], (rank, cols)), self._look_up(weight, FACTORS[1], (rows, rank))

    def _look_up(self, weight: str, suffix: str, shape: tuple[int, ...], offset: float = 0.0) -> Weight:
        name = self._file_name(weight, suffix)
        if name not in self._file:
            raise ModelFileError(
                f"tensor '{name}' is missing; a {self._spec.architecture} model needs it. Download the file again."
            )
        tensor = self._file[name]
        if tensor.shape != shape:
            raise ModelFileError(
                f"tensor '{name}' has shape {tensor.shape}, but the model's settings make it {shape}; "
                "the file contradicts itself. Download it again or convert it again."
            )
        self._used.add(name)
        graph_name = weight if self._layer is None else f"{self._layer}.{weight}"
        return Weight(graph_name + suffix.removeprefix(".weight"), name, tensor.type, tensor.shape, offset)

    def _refuse_unused_tensors(self) -> None:
        """A layer tensor that nothing reads (say, a norm of a newer variant) would make the answers silently wrong."""
        layers = tuple(
            {self._pattern(name).partition("{}")[0] for name, both in self._tensors.items() if "{}" in both[0]}
        )
        for name in self._file:
            if name not in self._used and name.startswith(layers) and not name.endswith("rotary_emb.inv_freq"):
                raise UnsupportedModelError(
                    f"tensor '{name}' is not part of architecture {self._spec.architecture!r} as miaotui knows it; "
                    "the model is a variant that is not supported."
                )


def _in_one_line(taps: int) -> dict[str, int]:
    """Windows along a text; those of an image have a height, and lines of so many tokens."""
    return {"kernel_height": 1, "kernel_width": taps, "line": 0}


def hugging_face_prefix(weights: Mapping[str, Tensor]) -> str:
    """What stands in front of "layers" or "encoder" in place of the tables' "model.".

    In multimodal files, old and new, something longer; an encoder's files have "bert." or nothing.
    """
    prefixes = ("model.", "language_model.model.", "model.language_model.", "bert.", "")
    first = ("embed_tokens.weight", "embeddings.word_embeddings.weight")
    return next((prefix for prefix in prefixes if any(prefix + name in weights for name in first)), "model.")
