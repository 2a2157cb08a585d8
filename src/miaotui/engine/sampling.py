"""The native sampler, fed with a request's parameters; log-probabilities as results."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from miaotui import _native
from miaotui.core import Request
from miaotui.engine.results import TokenLogprob


def make_sampler(request: Request, index: int, *, vocab_size: int, eos_ids: Collection[int]) -> _native.Sampler:
    """The sampler of one of a request's sequences: a pure function of logits, its own history, seed and `index`.

    Order: logit bias, penalties, mask of ending tokens below min_tokens, temperature, top-k, top-p, min-p, draw.
    Raises ModelFileError for token ids outside the vocabulary.
    """
    params = request.sampling
    return _native.Sampler(
        vocab_size,
        temperature=params.temperature,
        top_k=max(params.top_k, 0),
        top_p=params.top_p,
        min_p=params.min_p,
        repetition_penalty=params.repetition_penalty,
        presence_penalty=params.presence_penalty,
        frequency_penalty=params.frequency_penalty,
        seed=request.seed % 2**64,
        stream=index,
        min_tokens=params.min_tokens,
        masked_ids=sorted({*params.stop_token_ids, *eos_ids}),
        logit_bias=sorted(params.logit_bias.items()),
        prompt=np.array(request.prompt_token_ids, np.int32),
    )


def token_logprobs(
    logits: NDArray[np.float32], first_row: int, token_ids: Sequence[int], num_top: int
) -> list[TokenLogprob]:
    """Log-probability of token i under row first_row + i of `logits` [rows, vocabulary], with alternatives."""
    values = _native.log_probabilities(logits, first_row, np.array(token_ids, np.int32))
    tops = [
        _native.top_log_probabilities(logits, first_row + i, num_top) if num_top else [] for i in range(len(values))
    ]
    return [TokenLogprob(*entry[:2], tuple(entry[2])) for entry in zip(token_ids, values, tops, strict=True)]
