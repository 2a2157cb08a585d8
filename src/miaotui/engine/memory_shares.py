"""Several models in one process: one budget of KV memory, split so that each holds as many tokens."""

from __future__ import annotations

from collections.abc import Sequence as Row

from miaotui import _native
from miaotui.engine.kv_memory import DEFAULT_BYTES, DEFAULT_SHARE, available_memory_bytes
from miaotui.engine.pages import num_blocks_for
from miaotui.errors import CapacityError
from miaotui.formats import ModelFile


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


def check_room(files: Row[ModelFile], shares: Row[int]) -> None:
    """Raise CapacityError unless the models' weights and these bytes of keys and values fit the memory together."""
    from miaotui.formats.store_progress import format_bytes

    weights = sum(file.weights.file_bytes for file in files)
    available = available_memory_bytes()
    if weights + sum(shares) > available:
        raise CapacityError(
            f"the models' weights take {format_bytes(weights)} and their keys and values {format_bytes(sum(shares))}, "
            f"but {format_bytes(available)} are available: take smaller models, or lower kv_memory_bytes."
        )
