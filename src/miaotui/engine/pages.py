"""The size of a KV page."""

from __future__ import annotations

BLOCK_TOKENS = 16
"""Tokens per page; the native core's `KvPool.BLOCK_TOKENS`."""


def num_blocks_for(num_tokens: int) -> int:
    """Pages that so many tokens fill or begin."""
    return -(-num_tokens // BLOCK_TOKENS)
