"""Refuses at once what could never run, saying what would."""

from __future__ import annotations

from collections.abc import Sequence as Row
from dataclasses import dataclass
from numbers import Integral

from miaotui.core import SamplingParams
from miaotui.engine.block_pool import BlockPool
from miaotui.engine.pages import BLOCK_TOKENS
from miaotui.engine.scheduler import Scheduler, num_group_blocks
from miaotui.engine.sequence import Sequence
from miaotui.errors import CapacityError, ContextLengthError, InvalidRequestError, brief


@dataclass(frozen=True, slots=True)
class ContextLimit:
    """Most tokens of one sequence, prompt and output together: as configured, and as the model was trained for."""

    length: int
    model_length: int


def check_token_ids(prompt: Row[int], params: SamplingParams, vocab_size: int) -> None:
    """Raise InvalidRequestError unless every token id of the request is in the vocabulary, and there is a prompt."""
    if len(prompt) == 0:
        raise InvalidRequestError("the prompt is empty; give at least one token or character.")
    ids = {"the prompt": prompt, "stop_token_ids": params.stop_token_ids, "logit_bias": params.logit_bias}
    for name, values in ids.items():
        for token_id in values:
            if isinstance(token_id, bool) or not isinstance(token_id, Integral) or not 0 <= token_id < vocab_size:
                raise InvalidRequestError(
                    f"{name} holds {brief(token_id)}; token ids of this model are 0 to {vocab_size - 1}."
                )


def resolve_max_tokens(num_prompt_tokens: int, params: SamplingParams, context: ContextLimit, pool: BlockPool) -> int:
    """The most tokens that each sequence of the request may generate.

    Without `max_tokens`, what context and KV memory leave. Raises ContextLengthError when prompt and output exceed the
    context: nothing is cut off.
    """
    room = context.length - num_prompt_tokens
    if params.max_tokens is not None and params.max_tokens <= room:
        return params.max_tokens
    if params.max_tokens is None and room >= 1:
        return max(min(room, _max_tokens_that_fit(num_prompt_tokens, params.n, pool)), 1)
    options = ["shorten the prompt" if room < 1 else f"lower max_tokens to at most {room}"]
    if room >= 1:
        options.append("shorten the prompt")
    if context.length < context.model_length:
        options.append(f"raise context_length (this model allows {context.model_length})")
    wanted = f"{params.max_tokens} more may be generated" if params.max_tokens is not None else "no room is left"
    raise ContextLengthError(
        f"the prompt has {num_prompt_tokens} tokens and {wanted}, but the context holds {context.length}: "
        f"{', or '.join(options)}."
    )


def check_capacity(group: list[Sequence], scheduler: Scheduler) -> None:
    """Raise CapacityError when a request's sequences would not fit even if nothing else ran."""
    pool, most = scheduler.pool, scheduler.limits.max_sequences
    if len(group) > most:
        raise CapacityError(f"n is {len(group)}, but at most {most} sequences run together; lower n.")
    needed, first = num_group_blocks(group), group[0]
    if needed <= pool.num_blocks:
        return
    fitting = _max_tokens_that_fit(first.num_prompt_tokens, len(group), pool)
    options = ["raise kv_memory_bytes"]
    if fitting >= 1:
        options.insert(0, f"lower max_tokens to at most {fitting}")
    if len(group) > 1:
        options.insert(0, "lower n")
    raise CapacityError(
        f"{len(group)} x ({first.num_prompt_tokens} prompt + {first.max_tokens} output) tokens need {needed} KV pages "
        f"of {BLOCK_TOKENS} tokens, but the KV memory holds {pool.num_blocks}: {', or '.join(options)}."
    )


def _max_tokens_that_fit(num_prompt_tokens: int, num_sequences: int, pool: BlockPool) -> int:
    """Output tokens per sequence for which the whole pool suffices, the prompt's full pages being shared."""
    num_shared = (num_prompt_tokens - 1) // BLOCK_TOKENS
    num_own = (pool.num_blocks + (num_sequences - 1) * num_shared) // num_sequences
    return num_own * BLOCK_TOKENS - num_prompt_tokens + 1
