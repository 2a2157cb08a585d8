"""Perplexity of a text by the protocol of llama.cpp's `perplexity` tool, so that figures compare."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from miaotui.engine.llm import LLM
from miaotui.errors import InvalidRequestError

WINDOW_TOKENS = 512


@dataclass(frozen=True, slots=True)
class Perplexity:
    """e to the mean negative log-likelihood per scored token, its standard error, and the windows it is taken over."""

    ppl: float
    stderr: float
    windows: int


def evaluate_perplexity(
    llm: LLM,
    text: str,
    *,
    num_windows: int | None = None,
    window_tokens: int = WINDOW_TOKENS,
    progress: Callable[[int, int, float], None] | None = None,
) -> Perplexity:
    """Encode the whole text (with BOS if the model wants it), cut it into windows, and score each window's second half.

    In a window of 512, logits at positions 256 … 510 predict the 255 tokens behind them; the first token of every
    window is replaced by BOS where the model wants one; nothing carries over between windows. `num_windows` limits
    them. `progress` is told the windows done, their total, and the perplexity so far.
    Raises InvalidRequestError when the text does not fill one window, ContextLengthError when a window does not fit.
    """
    tokenizer = llm.tokenizer
    token_ids = tokenizer.encode(text.removesuffix("\n"), add_special=True)
    total = len(token_ids) // window_tokens
    if total < 1:
        raise InvalidRequestError(
            f"the text has {len(token_ids)} tokens, a window {window_tokens}; give a longer text."
        )
    if num_windows is not None:
        if num_windows < 1:
            raise InvalidRequestError(f"the number of windows must be at least 1, not {num_windows}.")
        total = min(total, num_windows)
    losses: list[float] = []
    for index in range(total):
        window = token_ids[index * window_tokens : (index + 1) * window_tokens]
        if tokenizer.add_bos and tokenizer.bos_id is not None:
            window[0] = tokenizer.bos_id
        half = window_tokens // 2 + 1
        losses += [-value for value in llm.score(window[:half], window[half:]).logprobs]
        if progress is not None:
            progress(index + 1, total, math.exp(math.fsum(losses) / len(losses)))
    return _summary(losses, total)


def _summary(losses: list[float], num_windows: int) -> Perplexity:
    """Mean and standard error; the latter by the delta method, as the other tool has it."""
    count = len(losses)
    mean = math.fsum(losses) / count
    variance = math.fsum((loss - mean) ** 2 for loss in losses) / count
    ppl = math.exp(mean)
    stderr = ppl * math.sqrt(variance / (count - 1)) if count > 1 else 0.0
    return Perplexity(ppl, stderr, num_windows)
