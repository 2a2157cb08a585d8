"""Several models in one process, within one budget of memory."""

from __future__ import annotations

import os
from collections.abc import Sequence as Row
from typing import Any

from miaotui.adaptive.drafters.given import GivenDrafter
from miaotui.adaptive.drafters.past import PastAnswers
from miaotui.engine.llm import LLM
from miaotui.engine.loading import find_model
from miaotui.engine.memory_shares import check_room, share_kv
from miaotui.errors import InvalidRequestError


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
    check_room(files, shares)
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
