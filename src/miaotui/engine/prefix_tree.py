"""Which token prefixes the KV pages already hold, so that no prompt is read twice."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterable
from collections.abc import Sequence as Row

from miaotui.engine.pages import BLOCK_TOKENS

Key = bytes


def root_key(tenant: str) -> Key:
    """Where a tenant's prefixes begin; no other tenant's can ever be found from there."""
    return hashlib.sha256(b"tenant\0" + tenant.encode()).digest()


def extend_keys(keys: list[Key], token_ids: Row[int], num_pages: int) -> None:
    """Lengthen a chain of keys, which starts with the root's, to the first `num_pages` full pages of the tokens.

    A page's key is a SHA-256 over its predecessor's and its own tokens: equal keys mean equal tokens from the start
    on, and who can choose prompts still cannot make two that collide.
    """
    for page in range(len(keys) - 1, num_pages):
        tokens = array("i", token_ids[page * BLOCK_TOKENS : (page + 1) * BLOCK_TOKENS])
        keys.append(hashlib.sha256(keys[-1] + tokens.tobytes()).digest())


class PrefixTree:
    """Full pages by key. A page is in it at most once and stays as it is until the pool takes it back.

    Not safe for concurrent use.
    """

    def __init__(self) -> None:
        self._blocks: dict[Key, int] = {}
        self._keys: dict[int, Key] = {}

    def __contains__(self, block: int) -> bool:
        return block in self._keys

    def __len__(self) -> int:
        return len(self._keys)

    def find(self, keys: Iterable[Key]) -> list[int]:
        """Pages of the longest known prefix of a chain of keys (without the root's)."""
        found: list[int] = []
        for key in keys:
            block = self._blocks.get(key)
            if block is None:
                break
            found.append(block)
        return found

    def key_of(self, block: int) -> Key:
        """What a page that is in the tree can be found by."""
        return self._keys[block]

    def remember(self, key: Key, block: int) -> None:
        """The page now holds, for good, what the key stands for. Nothing changes if another page does already."""
        if key not in self._blocks:
            self._blocks[key] = block
            self._keys[block] = key

    def forget(self, block: int) -> None:
        """The page is about to be overwritten."""
        del self._blocks[self._keys.pop(block)]

    def clear(self) -> None:
        """Forget all."""
        self._blocks.clear()
        self._keys.clear()
