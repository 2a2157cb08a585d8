"""How far each kernel may be from exact arithmetic on the same inputs, and why.

A budget counts roundings: multiples of U, the largest relative error of one float32 rounding. It is relative to the
sum of the magnitudes that the kernel adds up (Higham, Accuracy and Stability of Numerical Algorithms, 2002, chapter 3),
so it is a proven bound and not a tolerance that was tuned until the tests passed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

U: Final = 2.0**-24
# Groups of activations whose largest value is below this may count as zero.
FLOOR: Final = 2.0**-110
# Results below the smallest normal number lose bits.
UNDERFLOW: Final = 2.0**-126
# Relative error of the kernels' exponential, in roundings (Cephes' polynomial: 2e-7).
EXP: Final = 4.0


@dataclass(frozen=True, slots=True)
class Budget:
    """Allowed error: `roundings(…)` · U · the magnitude that `relative_to` names."""

    roundings: Callable[..., float]
    relative_to: str
    reason: str


BUDGETS: Final[dict[str, Budget]] = {
    "linear_q8": Budget(
        lambda cols: cols / 8 + 16,
        "Σ_k |w_k|·|x_k| of the quantized row, with d·q and the minimum taken apart",
        "integers are exact; per 16 columns at most two fmas, then conversion, d·s, m·n, d·Σ and the oracle's weights",
    ),
    "unpack_block": Budget(
        lambda: 4, "|d·q| + |minimum|", "d·s and m·n round once, the oracle's weight up to three times"
    ),
    "linear_panels": Budget(lambda cols: cols / 8 + 16, "as linear_q8", "the same arithmetic on the unpacked panel"),
    "linear_f32": Budget(
        lambda cols: max(cols, 64 + cols / 8) + 16,
        "Σ_k |w_k|·|x_k|",
        "float weights: one fma a column; quantized: 32 fmas and 32 sums a group, then as linear_q8",
    ),
    "quantize_groups": Budget(
        lambda wide: (1.01 if wide else 0.5 + 80_000 * U) / U,
        "the step of the group: largest outside the quad of 16 bits / 127, or largest / (127·256)",
        "to the nearest code after two roundings of at most 32,512 steps; wide codes' low byte ends at 127, not 128",
    ),
    "rms_norm": Budget(
        lambda n: n / 32 + 20, "|y|", "16 sums of n/16 squares, a tree, a tail of 15; the root halves their error"
    ),
    "layer_norm": Budget(
        lambda n: n / 16 + 40,
        "(|x| + mean |x|)·|gain| / deviation + |bias|",
        "the mean's error of n/16 + 20 roundings enters every difference; the deviation as in rms_norm",
    ),
    "rope_head": Budget(lambda: 3, "|x_a·cos| + |x_b·sin|", "two products, one difference"),
    "activate_mul": Budget(
        lambda: EXP + 6,
        "|y|, for gelu_tanh + |gate·up| / 4; gelu: gelu_tail",
        "exponential, sum, quotient, product; gelu's argument rounds 4 times, and u·σ'(u) stays below 1/4",
    ),
    "add_rows": Budget(lambda: 1, "|a + b|", "one sum"),
    "softcap": Budget(lambda: EXP + 6, "the cap", "exponential, sum, quotient, difference, product"),
    "kv_store": Budget(lambda: 0, "–", "the page holds exactly what NumPy rounds to float16, bfloat16, int16 or int8"),
    "attention": Budget(
        lambda head_dim, num_positions: 2 * head_dim + 2 * EXP + 288 + 5 * (num_positions / 256 + 1),
        "max |v|, per unit of (1 + max Σ_d |q_d·k_d|·scale + cap)",
        "scores round head_dim times and enter weights twice (sum above and below); a split adds 256 values, a merge 5",
    ),
    "attention_split": Budget(lambda: 0, "as attention", "the same arithmetic, a split at a time"),
    "attention_merge": Budget(lambda: 0, "as attention", "the same arithmetic on the parts of the splits"),
    "encoder_attention": Budget(
        lambda head_dim, num_tokens: 2 * head_dim + 2 * EXP + num_tokens + num_tokens / 16 + 24,
        "max |v|, per unit of (1 + max Σ_d |q_d·k_d|·scale)",
        "scores round head_dim + 1 times and enter weights twice (above and below); sums of num_tokens, and of a 16th",
    ),
    "depthwise": Budget(lambda taps: taps, "Σ |filter|·|x| over the taps", "one fma a tap, in their order"),
    "row_peak": Budget(lambda: 0, "–", "picks one of its values"),
    "max_rows": Budget(lambda: 0, "–", "picks one of two values"),
    "dot_rows_i8": Budget(lambda: 0, "–", "integers are exact"),
    "search_codes": Budget(lambda: 0, "–", "lanes never meet, so every tier finds the same bits"),
    "search_super_codes": Budget(lambda: 0, "–", "as search_codes"),
    "peak_dot": Budget(lambda: 0, "–", "counts operations"),
    "peak_fma": Budget(lambda: 0, "–", "counts operations"),
    "peak_read": Budget(lambda: 0, "–", "reads only"),
}


def gelu_tail(a: float | NDArray[np.float64]) -> float | NDArray[np.float64]:
    """Relative error of the kernels' Φ(−a): the exponential, its argument of a²/2 + 3 and a fit of ten terms."""
    return (EXP + 24 + a * a / 2) * U


def allowed(kernel: str, *arguments: float) -> float:
    """Return the relative error that a kernel may have, for its sizes."""
    return BUDGETS[kernel].roundings(*arguments) * U
