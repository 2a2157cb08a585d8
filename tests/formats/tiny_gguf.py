"""Writes small GGUF files byte by byte, hostile ones included, and remembers where each number field lies."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

import numpy as np

from miaotui.formats.weights import TensorType

U8, I8, U16, I16, U32, I32, F32, BOOL, STRING, ARRAY, U64, I64, F64 = range(13)
CODES = {U8: "B", I8: "b", U16: "H", I16: "h", U32: "I", I32: "i", F32: "f", BOOL: "?", U64: "Q", I64: "q", F64: "d"}


@dataclass(frozen=True)
class Array:
    """A metadata array: element type (a number from above) and elements."""

    kind: int
    items: list[object]


@dataclass
class TensorEntry:
    name: str
    shape: tuple[int, ...]  # NumPy order
    type: int
    data: bytes
    offset: int | None = None  # None: the next aligned one


@dataclass
class TinyGguf:
    """Change any part, then `build()`; `None` for a count means the true one."""

    version: int = 3
    magic: bytes = b"GGUF"
    metadata: list[tuple[str, int, object]] = field(default_factory=list)
    tensors: list[TensorEntry] = field(default_factory=list)
    num_keys: int | None = None
    num_tensors: int | None = None
    alignment: int = 32
    tail: bytes = b""
    # (offset, bytes) of every count, length, type, size and offset; and where the header ends; both set by build()
    number_fields: list[tuple[int, int]] = field(default_factory=list)
    header_bytes: int = 0

    def add(self, key: str, kind: int, value: object) -> TinyGguf:
        self.metadata.append((key, kind, value))
        return self

    def replace(self, key: str, kind: int, value: object) -> TinyGguf:
        self.metadata = [entry for entry in self.metadata if entry[0] != key]
        return self.add(key, kind, value)

    def tensor(self, name: str, shape: tuple[int, ...], kind: int = 0, data: bytes | None = None) -> TinyGguf:
        if data is None:
            known = TensorType(kind)
            data = bytes(int(np.prod(shape)) // known.block_weights * known.block_bytes)
        self.tensors.append(TensorEntry(name, shape, kind, data))
        return self

    def build(self) -> bytes:
        self.number_fields = []
        out = bytearray(self.magic)
        self._number(out, "I", self.version)
        self._number(out, "Q", len(self.tensors) if self.num_tensors is None else self.num_tensors)
        self._number(out, "Q", len(self.metadata) if self.num_keys is None else self.num_keys)
        for key, kind, value in self.metadata:
            self._string(out, key)
            self._number(out, "I", kind)
            self._value(out, kind, value)
        data = bytearray()
        for entry in self.tensors:
            start = len(data) if entry.offset is None else entry.offset
            self._tensor_entry(out, entry, start)
            data += entry.data + bytes(-len(entry.data) % self.alignment)
        self.header_bytes = len(out)
        return bytes(out + bytes(-len(out) % self.alignment) + data + self.tail)

    def _tensor_entry(self, out: bytearray, entry: TensorEntry, start: int) -> None:
        self._string(out, entry.name)
        self._number(out, "I", len(entry.shape))
        for size in reversed(entry.shape):
            self._number(out, "Q", size)
        self._number(out, "I", entry.type)
        self._number(out, "Q", start)

    def _number(self, out: bytearray, code: str, value: object) -> None:
        self.number_fields.append((len(out), struct.calcsize(code)))
        out += struct.pack("<" + code, value)

    def _string(self, out: bytearray, text: object) -> None:
        content = text if isinstance(text, bytes) else str(text).encode("utf-8", "surrogateescape")
        self._number(out, "Q", len(content))
        out += content

    def _value(self, out: bytearray, kind: int, value: object) -> None:
        if kind == STRING:
            self._string(out, value)
        elif kind == ARRAY:
            if not isinstance(value, Array):
                raise TypeError(value)
            self._number(out, "I", value.kind)
            self._number(out, "Q", len(value.items))
            for item in value.items:
                self._value(out, value.kind, item)
        elif isinstance(value, bytes):  # as it stands
            out += value
        else:
            self._number(out, CODES[kind], value)


def llama_file(arch: str = "llama") -> TinyGguf:
    """A sound file of one layer: hidden size 32, 4 heads, 2 of them for keys and values, 8 tokens."""
    file = TinyGguf().add("general.architecture", STRING, arch).add("general.name", STRING, "tiny")
    sizes = {
        "context_length": 128,
        "embedding_length": 32,
        "block_count": 1,
        "feed_forward_length": 64,
        "attention.head_count": 4,
        "attention.head_count_kv": 2,
    }
    for key, value in sizes.items():
        file.add(f"{arch}.{key}", U32, value)
    file.add(f"{arch}.attention.layer_norm_rms_epsilon", F32, 1e-5)
    tokens = ["<unk>", "<s>", "</s>", "<0x0A>", "a", "b", "ab", "é"]
    file.add("tokenizer.ggml.model", STRING, "llama")
    file.add("tokenizer.ggml.tokens", ARRAY, Array(STRING, list(tokens)))
    file.add("tokenizer.ggml.scores", ARRAY, Array(F32, [-float(i) for i in range(8)]))
    file.add("tokenizer.ggml.token_type", ARRAY, Array(I32, [2, 3, 3, 6, 1, 1, 1, 1]))
    file.add("tokenizer.ggml.merges", ARRAY, Array(STRING, ["a b"]))
    for number, name in enumerate(("unknown", "bos", "eos")):
        file.add(f"tokenizer.ggml.{name}_token_id", U32, number)
    file.tensor("token_embd.weight", (8, 32), TensorType.Q8_0)
    file.tensor("output_norm.weight", (32,), TensorType.F32)
    for name, rows, cols in [("attn_q", 32, 32), ("attn_k", 16, 32), ("ffn_up", 64, 32), ("ffn_down", 32, 64)]:
        file.tensor(f"blk.0.{name}.weight", (rows, cols), TensorType.Q4_0)
    return file


def use_byte_level_vocabulary(file: TinyGguf) -> TinyGguf:
    """Gives a `llama_file` a GPT-2 vocabulary: one token per byte, then "ab" and two control tokens."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    tokens = [chr(byte) for byte in printable] + [chr(256 + n) for n in range(256 - len(printable))]
    tokens += ["ab", "<|im_start|>", "<|im_end|>"]
    file.replace("tokenizer.ggml.model", STRING, "gpt2").add("tokenizer.ggml.pre", STRING, "qwen2")
    file.replace("tokenizer.ggml.tokens", ARRAY, Array(STRING, list(tokens)))
    file.replace("tokenizer.ggml.scores", ARRAY, Array(F32, [0.0] * len(tokens)))
    file.replace("tokenizer.ggml.token_type", ARRAY, Array(I32, [1] * 257 + [3, 3]))
    file.replace("tokenizer.ggml.bos_token_id", U32, 257).replace("tokenizer.ggml.eos_token_id", U32, 258)
    embedding = next(entry for entry in file.tensors if entry.name == "token_embd.weight")
    embedding.shape, embedding.data = (len(tokens), 32), bytes(len(tokens) * 34)
    return file
