"""What requests bring with them, read so that nobody waits for somebody else's long body."""

from __future__ import annotations

import asyncio
from typing import TypeVar

import msgspec
from starlette.requests import Request

from miaotui.errors import InvalidRequestError
from miaotui.server.json_shape import why_too_costly

T = TypeVar("T")

LONG_BODY_BYTES = 256 << 10
"""Longer ones, which take more than some milliseconds, are read in a thread."""


async def read(request: Request, kind: type[T], *, empty: bytes = b"") -> T:
    """A request's body. empty: what stands for one of no bytes. Raises what `decode` does."""
    body = b"".join([part async for part in request.stream()]) or empty  # which the request does not keep
    if len(body) <= LONG_BODY_BYTES:
        return decode(body, kind)
    return await asyncio.to_thread(decode, body, kind)


def decode(body: bytes, kind: type[T]) -> T:
    """Read a request. Raises InvalidRequestError naming the field that is wrong."""
    if (why := why_too_costly(body)) is not None:
        raise InvalidRequestError(f"the body {why}; send less.")
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        raise InvalidRequestError(str(error)) from None
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise InvalidRequestError(f"the body is not JSON: {error}") from None
