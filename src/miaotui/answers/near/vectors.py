"""Embeddings as rows keep them and as they are compared: one signed byte a number, and the exact cosine of those."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from miaotui.errors import InvalidRequestError

Codes = NDArray[np.int8]
FORMAT: Final = b"\x01"  # the first byte of a kept vector; anything else is a vector of another time
MAX_DIMENSIONS: Final = 65536
_GROUP: Final = 32


def codes_of(vector: NDArray[np.float32]) -> Codes:
    """A vector's direction in steps of its largest number / 127, filled up with zeros to a multiple of 32.

    The length of the vector is not kept: cosines do not depend on it. Raises InvalidRequestError for one without
    direction or with numbers that are none.
    """
    values = np.asarray(vector, np.float32)
    largest = float(np.max(np.abs(values))) if values.ndim == 1 and 0 < values.size <= MAX_DIMENSIONS else 0.0
    if not 0.0 < largest < np.inf:
        raise InvalidRequestError("an embedding is one row of finite numbers, not all zero")
    codes = np.zeros(-(-values.size // _GROUP) * _GROUP, np.int8)
    codes[: values.size] = np.rint(values.astype(np.float64) * (127.0 / largest)).astype(np.int8)
    return codes


def packed(vector: NDArray[np.float32]) -> bytes:
    """A vector as `Row.vector` holds it."""
    return FORMAT + codes_of(vector).tobytes()


def unpacked(data: bytes) -> Codes | None:
    """The codes of a kept vector; None for none, one of another format, or a damaged one."""
    codes = np.frombuffer(data[1:], np.int8)
    if data[:1] != FORMAT or not 0 < codes.size <= MAX_DIMENSIONS or codes.size % _GROUP or not codes.any():
        return None
    return codes


def length_of(codes: Codes) -> float:
    """Euclidean length of the codes."""
    return float(np.sqrt(np.sum(np.square(codes, dtype=np.int64))))
