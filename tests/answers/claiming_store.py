"""A `DictStore` that several caches meet in: one of them at a time may do a piece of work."""

from __future__ import annotations

from answers.dict_store import DictStore


class ClaimingStore(DictStore):
    def __init__(self, name: str = "shared") -> None:
        super().__init__(name)
        self.claims: dict[bytes, str] = {}

    async def claim(self, key: bytes, owner: str, seconds: float) -> bool:
        self._check()
        return self.claims.setdefault(key, owner) == owner

    async def release(self, key: bytes, owner: str) -> None:
        self._check()
        if self.claims.get(key) == owner:
            del self.claims[key]
