"""Several models in one process: one budget of KV memory, split so that each holds as many tokens."""

from __future__ import annotations

import os
from collections.abc import Sequence as Row
from typing import Any

from miaotui import _native
from miaotui.adaptive.drafters.given import GivenDrafter
from miaotui.adaptive.drafters.past import PastAnswers
from miaotui.engine.kv_memory import DEFAULT_BYTES, DEFAULT_SHARE, available_memory_bytes
from miaotui.engine.llm import LLM
from miaotui.engine.loading import find_model
from miaotui.engine.pages import num_blocks_for
from miaotui.errors import CapacityError, InvalidRequestError
from miaotui.formats import ModelFile


def open_models(
    models: Row[str | os.PathLike[str]],
    *,
    kv_memory_bytes: int | None = None,
    drafting: bool = False,
    past_answers_bytes: int | None = None,
    **options: Any,
) -> list[LLM]:
    """The models, cheapest first, ready to answer within one budget.

    kv_memory_bytes: of all models together; None: what one model alone would take. drafting: whether models but the
    first are to check the small answer's tokens several at a time (`GivenDrafter`). past_answers_bytes: of earlier
    answers that they draft from as well; None: they do not. options: those of `LLM`.

    Raises InvalidRequestError for fewer than two models, CapacityError where they do not fit the memory together, and
    what `LLM` raises.
    """
    if len(models) < 2:
        raise InvalidRequestError(f"a cascade needs two models at least, not {len(models)}; give them cheapest first.")
    files = [find_model(model) for model in models]
    shares = share_kv(files, kv_memory_bytes, options.get("context_length"), options.get("kv_dtype", "int16"))
    _check_room(files, shares)
    opened: list[LLM] = []
    try:
        for number, (model, share) in enumerate(zip(models, shares, strict=True)):
            past = None if past_answers_bytes is None else PastAnswers(past_answers_bytes)
            drafter = GivenDrafter(past) if drafting and number else None
            opened.append(LLM(model, **{"drafter": drafter, **options, "kv_memory_bytes": share}))
    except BaseException:
        for llm in opened:
            llm.close()
        raise
    return opened


def share_kv(
    files: Row[ModelFile], kv_memory_bytes: int | None, context_length: int | None, kv_dtype: str
) -> list[int]:
    """Bytes of KV memory for each model: in proportion to what a token takes, so that all hold as many.

    Without a budget it is what one model would take by default, or what an explicit context takes in all of them.
    """
    specs = [file.spec for file in files]
    blocks = [_native.KvPool.block_bytes(s.num_layers, s.num_kv_heads, s.head_dim, kv_dtype) for s in specs]
    total = kv_memory_bytes
    if total is None:
        total = min(DEFAULT_BYTES, int(available_memory_bytes() * DEFAULT_SHARE))
        if context_length is not None:
            total = max(total, num_blocks_for(context_length) * sum(blocks))
    return [max(total * block // sum(blocks), 1) for block in blocks]


def _check_room(files: Row[ModelFile], shares: Row[int]) -> None:
    from miaotui.formats.store_progress import format_bytes

    weights = sum(file.weights.file_bytes for file in files)
    available = available_memory_bytes()
    if weights + sum(shares) > available:
        raise CapacityError(
            f"the models' weights take {format_bytes(weights)} and their keys and values {format_bytes(sum(shares))}, "
            f"but {format_bytes(available)} are available: take smaller models, or lower kv_memory_bytes."
        )
