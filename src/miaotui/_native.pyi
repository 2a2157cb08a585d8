"""The native core: file formats, packed weights, KV pages, programs, the sampler; kernels one by one for tests.

Arrays are contiguous and of the dtype given here. Errors: ModelFileError for arguments that contradict each other or
lie out of range, CpuTierError for a tier that cannot run here, ConfigError for a bad MIAOTUI_THREADS, CapacityError
when the machine has no memory left.
"""

from collections.abc import Mapping, Sequence
from typing import ClassVar, TypeAlias, TypedDict

import numpy as np
from numpy.typing import NDArray

_Bytes: TypeAlias = NDArray[np.uint8]
_Floats: TypeAlias = NDArray[np.float32]
_Ints: TypeAlias = NDArray[np.int32]
_Words: TypeAlias = NDArray[np.uint32]
# Weight type (as in formats.weights.TensorType), the file's bytes, rows, columns.
_FileMatrix: TypeAlias = tuple[int, _Bytes, int, int]
# Buffer id, first column, width.
_Operand: TypeAlias = tuple[int, int, int]
_RankedTokens: TypeAlias = list[tuple[int, float]]

# The machine.

class _CpuInfo(TypedDict):
    model: str
    features: list[str]
    tiers: list[str]  # that can run here, slowest first
    tier: str  # in use: the last of them or MIAOTUI_ISA
    threads: int
    affinity: int
    cgroup_quota: float | None

class _Ceilings(TypedDict):
    read_gb_per_s: float
    int8_gops: float
    f32_gflops: float

def cpu_info() -> _CpuInfo: ...
def measure_ceilings() -> _Ceilings:
    """Measure what the pool's threads can read and multiply at most; takes about a third of a second."""

def worthwhile_threads(most: int, runs: Sequence[tuple[float, float]]) -> list[int]:
    """Return the threads that runs of (wall seconds, seconds that one thread lost) would get, one after another."""

def exercise_pool(threads: Sequence[int]) -> list[int]:
    """Return how many threads took part in runs with so many."""

# Formats.

def dequantize(type: int, data: _Bytes, count: int) -> _Floats:
    """Turn `count` weights of a file format into floats [count]; `data` must hold exactly their blocks."""

def quantize(
    type: int,
    weights: _Floats,
    importance: _Floats | None = None,
    by_magnitude: bool = False,
    feedback: _Floats | None = None,
    units: _Floats | None = None,
    near: _Floats | None = None,
    tier: str | None = None,
) -> tuple[_Bytes, _Floats, _Floats, _Floats]:
    """Return the codes [rows, columns] that cost least, their scales and minimums [rows, groups] and units.

    weights: [rows, columns], finite. importance: what a squared error costs in each column. by_magnitude: times the
    root of the row's mean square + weight². Scales and minimums are float16 values, but in Q4_K and Q6_K multiples of
    the units [rows, super-blocks, 2] (Q4_K's minimums of a unit that is not positive). With 32 columns, errors may be
    fed back: feedback [32, 32] is strictly upper triangular, row i tells how much of weight i's error the later ones
    are asked to make good; units [rows, 2] may be given; and near [rows, 2], a scale and a minimum as they count, to
    search around these only.
    """

def skip_strings(data: _Bytes, offset: int, count: int) -> int:
    """Return the offset behind `count` GGUF strings."""

def read_strings(data: _Bytes, offset: int, count: int) -> list[str]:
    """Return `count` GGUF strings; bytes that are not UTF-8 become lone surrogates."""

# Packed weights.

class PackedWeight:
    """A matrix as the kernels want it, in the file's own number of bits."""

    @property
    def rows(self) -> int: ...
    @property
    def cols(self) -> int: ...
    @property
    def type(self) -> int: ...
    @property
    def nbytes(self) -> int: ...
    @property
    def data(self) -> _Bytes:
        """The packed bytes, read-only."""
    def dequantize(self) -> _Floats:
        """Return the weights [rows, cols]."""

def pack_weights(items: Sequence[_FileMatrix]) -> list[PackedWeight]:
    """Pack matrices in parallel; the file's bytes are not needed afterwards."""

PACK_LAYOUT: int

def packed_bytes(type: int, rows: int, cols: int) -> int:
    """Bytes of a packed matrix. Raises ModelFileError for what cannot be packed."""

def adopt_packed(items: Sequence[_FileMatrix]) -> list[PackedWeight]:
    """Take over the `data` of packed matrices, which stays where it is. Raises ModelFileError unless sizes agree."""

def read_into_memory(path: str, bytes: int) -> _Bytes:
    """Read the beginning of a file into huge pages, on all threads. Raises ModelFileError where it is shorter."""

def checksum(parts: Sequence[_Bytes]) -> int:
    """Return a checksum of arrays of multiples of 64 bytes, against damage, at the speed of memory."""

# Programs.

class KvPool:
    """Pages of keys and values; memory is reserved at once and used as pages are written."""

    BLOCK_TOKENS: ClassVar[int]
    def __init__(self, num_layers: int, num_kv_heads: int, head_dim: int, num_blocks: int, dtype: str) -> None: ...
    @property
    def nbytes(self) -> int: ...
    @property
    def num_blocks(self) -> int: ...
    @property
    def page_bytes(self) -> int:
        """Bytes of one page over all layers."""

    def populate(self, first_block: int, num_blocks: int) -> bool:
        """Have the OS give memory for pages, whose contents stay; False where it has no call for that, or no memory."""

    def read_page(self, block: int) -> _Bytes:
        """Return a copy of a page."""

    def write_page(self, block: int, data: _Bytes) -> None:
        """Overwrite a page with a copy of one."""

    @staticmethod
    def block_bytes(num_layers: int, num_kv_heads: int, head_dim: int, dtype: str) -> int: ...

class Program:
    """A checked list of operators over one arena."""

    def run(
        self,
        kv: KvPool,
        token_ids: _Ints,
        positions: _Ints,
        sequence_offsets: _Ints,
        block_tables: _Ints,
        logit_rows: _Ints,
        num_ops: int | None = None,
    ) -> None:
        """Run one step without the GIL; nothing is touched when an argument is out of range.

        token_ids, positions: [tokens]; sequence_offsets: [sequences + 1]; block_tables: [sequences, blocks];
        logit_rows: [rows], indices of tokens. num_ops: only the first operators, for measurements.
        """

    def tune(self, *, panel_tokens: int, panel_blocks: int, short_threads: int, long_threads: int) -> None:
        """Set what changes the speed of later steps and no result; see csrc/program/tuning.h."""

    @property
    def tuning(self) -> dict[str, int]:
        """What `tune` set, or the defaults."""

    @property
    def logits(self) -> _Floats:
        """[rows, vocabulary] of the last run: a read-only view that the next run overwrites."""

    @property
    def op_names(self) -> list[str]: ...
    @property
    def arena_bytes(self) -> int: ...
    @property
    def scratch_bytes(self) -> int: ...
    def profile(self, enable: bool) -> None:
        """Start (from zero) or stop counting seconds per operator."""

    def op_times(self) -> list[float]: ...

class ProgramBuilder:
    """Collects buffers, rope tables and operators, and checks each."""

    def __init__(self, max_tokens: int, max_sequences: int, max_logit_rows: int) -> None: ...
    def buffer(self, dtype: str, width: int, offset_bytes: int, rows: str = "tokens") -> int:
        """Place a buffer in the arena and return its id. dtype: f32, q8, q16; rows: tokens, logits."""

    def rope_table(self, inv_freq: _Floats, mscale: float = 1.0) -> int:
        """Add radians per position [rope_dim / 2] and a factor on sine and cosine; return the table's id."""

    def op(
        self,
        kind: str,
        inputs: Sequence[_Operand],
        outputs: Sequence[_Operand],
        weights: Sequence[object],  # PackedWeight, float vector, file matrix or None, as the kind wants
        attrs: Mapping[str, float | int | str],
    ) -> None: ...
    def build(self, arena_bytes: int) -> Program:
        """Return the program, whose logits are the last operator's output; the builder is empty afterwards."""

def row_bytes(dtype: str, width: int) -> int:
    """Return the bytes of one row of a buffer."""

# Sampling.

class Sampler:
    """One running generation's sampling state."""

    def __init__(
        self,
        vocab_size: int,
        *,
        temperature: float = 1.0,
        top_k: int = 0,
        top_p: float = 1.0,
        min_p: float = 0.0,
        repetition_penalty: float = 1.0,
        presence_penalty: float = 0.0,
        frequency_penalty: float = 0.0,
        seed: int = 0,
        stream: int = 0,
        min_tokens: int = 0,
        masked_ids: Sequence[int] = ...,
        logit_bias: Sequence[tuple[int, float]] = ...,
        prompt: _Ints,
    ) -> None: ...
    def sample(self, logits: _Floats, row: int, allowed: _Words | None = None) -> int:
        """Draw the next token from a row of logits [rows, vocabulary].

        allowed: a bit for each token that may be drawn, 32 to a word, the lowest first; None allows all.
        """

    def accept(self, token: int) -> None:
        """Append a token to the history."""

    def distribution(self, logits: _Floats, row: int, allowed: _Words | None = None) -> _RankedTokens:
        """Return what `sample` draws from: ids ascending, probabilities that sum to 1."""

    @property
    def num_accepted(self) -> int: ...

def log_probabilities(logits: _Floats, first_row: int, tokens: _Ints) -> list[float]:
    """Return log p of token i under row first_row + i, in nats."""

def top_log_probabilities(logits: _Floats, row: int, count: int) -> _RankedTokens:
    """Return the most likely tokens of a row with log p, most likely first."""

# Search of embeddings.

def dot_rows_i8(rows: NDArray[np.int8], query: NDArray[np.int8], tier: str | None = None) -> _Ints:
    """Return the dot product of every row [rows, n] with query [n]; n is a multiple of 32, at most 65,536."""

# Drafts.

class SuffixAutomaton:
    """Texts of tokens, and where each run of tokens in them went on the last time."""

    def __init__(self) -> None: ...
    def append(self, tokens: Sequence[int]) -> None:
        """Have the text under way go on, in amortized constant time per token."""
    def begin_text(self) -> None:
        """Have what comes be another text: no match reaches across."""
    def repeat(self, count: int) -> tuple[int, list[int]]:
        """Return how many tokens at the end of the text occur earlier in it, and what came behind, round and round.

        Only for a first text.
        """
    def find(self, tail: Sequence[int], count: int) -> tuple[int, list[int]]:
        """Return how many tokens at the end of `tail` occur in a text, and what came behind them, up to its end."""
    def most_bytes(self, num_tokens: int) -> int:
        """Return what it may take with so many tokens more."""
    @property
    def is_settled(self) -> bool:
        """Whether what `repeat` has found went on with the same token each time before."""
    @property
    def num_tokens(self) -> int: ...
    @property
    def nbytes(self) -> int: ...

# Single kernels of a tier, for tests and micro-benchmarks.

def kernel_names() -> list[str]: ...
def kernel_quantize(tier: str, x: _Floats, wide: bool = False) -> _Bytes:
    """Return rows [rows, row_bytes] of x [rows, columns]; wide: 16 bits instead of 8."""

def kernel_unpack(tier: str, weight: PackedWeight, block: int) -> tuple[_Bytes, _Floats, _Floats]:
    """Return 16 rows as codes [columns / 32, 512], scales and minimums [groups, 16]."""

def kernel_linear(
    tier: str,
    variant: str,
    weight: PackedWeight,
    x: _Floats,
    bias: _Floats | None = None,
    residual: _Floats | None = None,
    wide: bool = False,
) -> _Floats:
    """Return x · Wᵀ [tokens, rows] by the variant direct, panel (integers) or float."""

def kernel_norm(
    tier: str, kind: str, x: _Floats, gain: _Floats, bias: _Floats | None = None, eps: float = 1e-6
) -> _Floats: ...
def kernel_rope(tier: str, x: _Floats, cos_sin: _Floats, interleaved: bool) -> _Floats:
    """Rotate heads [rows, head_dim] by cos_sin [rows, rope_dim]: cosine and sine of each pair."""

def kernel_activate(tier: str, activation: str, gate: _Floats, up: _Floats | None = None) -> _Floats:
    """Return activation(gate) · up, or the activation alone; silu, gelu_tanh, gelu or relu."""

def kernel_encoder_attention(
    tier: str, q: _Floats, k: _Floats, v: _Floats, scale: float, first_row: int, end_row: int
) -> _Floats:
    """Return rows first_row … end_row - 1 of softmax(q · kᵀ · scale) · v; all are [tokens, head_dim] of one head."""

def kernel_add(tier: str, a: _Floats, b: _Floats) -> _Floats: ...
def kernel_max(tier: str, a: _Floats, b: _Floats) -> _Floats: ...
def kernel_row_peak(tier: str, x: _Floats) -> tuple[float, int, bool]: ...
def kernel_depthwise(tier: str, x: _Floats, filters: _Floats, height: int, width: int, line: int) -> _Floats:
    """Filters [terms * height * width, columns] over rows [lines * line, columns]: [line - width + 1, terms * columns].

    Those windows whose upper left tap lies in the first line, where nothing of them is outside.
    """

def kernel_softcap(tier: str, x: _Floats, cap: float) -> _Floats: ...
def kernel_kv_store(tier: str, kv_dtype: str, k: _Floats, v: _Floats) -> _Bytes:
    """Return a page's keys and values [2, bytes / 2] with k, v [tokens, head_dim] in it; unwritten bytes are 255."""

def kernel_peak(tier: str, rounds: int, x: _Bytes) -> tuple[int, int]:
    """Run the ceiling loops over x (a multiple of 512 bytes); return the operations that dot and fma report."""

def kernel_attention(
    tier: str,
    kv_dtype: str,
    q: _Floats,
    k: _Floats,
    v: _Floats,
    block_table: _Ints,
    tile: int = 1,
    scale: float = 1.0,
    window: int = 0,
    softcap: float = 0.0,
    shared: bool = False,
) -> _Floats:
    """Attend with q [tokens, heads · head_dim] at the last positions of k and v [positions, head_dim].

    Shared: in two steps, as threads that share the splits of a task do.
    """
