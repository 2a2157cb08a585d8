"""Strings as stores keep them: bytes, because databases refuse NUL or lone surrogates in text and users send both."""

from __future__ import annotations

from collections.abc import Iterable


def to_bytes(text: str) -> bytes:
    """UTF-8, with lone surrogates as they are; `to_text` gives the same string back."""
    return text.encode("utf-8", "surrogatepass")


def to_text(data: bytes) -> str:
    """What `to_bytes` was given."""
    return data.decode("utf-8", "surrogatepass")


def pack(texts: Iterable[str]) -> bytes:
    """Several strings as one, each behind its length."""
    parts = [to_bytes(text) for text in texts]
    return b"".join(len(part).to_bytes(4, "little") + part for part in parts)


def unpack(data: bytes) -> tuple[str, ...]:
    """What `pack` was given. Raises ValueError for anything else."""
    texts, at = [], 0
    while at < len(data):
        end = at + 4 + int.from_bytes(data[at : at + 4], "little")
        if at + 4 > len(data) or end > len(data):
            raise ValueError("packed strings end in the middle of one")
        texts.append(to_text(data[at + 4 : end]))
        at = end
    return tuple(texts)
