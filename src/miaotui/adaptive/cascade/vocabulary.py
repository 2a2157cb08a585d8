"""Whether what one model says can be read by another one as it is, token by token."""

from __future__ import annotations

import hashlib

from miaotui.engine.llm import LLM


def same_vocabulary(some: LLM, other: LLM) -> bool:
    """Whether every token id stands for the same in both models, so that one's tokens are the other's."""
    return some is other or _vocabulary(some) == _vocabulary(other)


def _vocabulary(llm: LLM) -> str:
    tokenizer, digest = llm.tokenizer, hashlib.sha256()
    for token_id in range(tokenizer.vocab_size):
        token = tokenizer.token_bytes(token_id)
        digest.update(len(token).to_bytes(4, "little") + token)
    digest.update(repr((sorted(tokenizer.eos_ids), [*map(tokenizer.is_special, range(tokenizer.vocab_size))])).encode())
    return digest.hexdigest()
