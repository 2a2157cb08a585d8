"""Requests and tokens per minute and tenant, as buckets that fill again."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from miaotui.errors import RateLimitError
from miaotui.server.keys import ApiKey
from miaotui.server.settings import ServerSettings

MAX_RETRY_S = 60


class TokenBucket:
    """Holds up to `capacity`, a minute's worth, and fills evenly; may be overdrawn. Clock in seconds."""

    def __init__(self, capacity: int, clock: Callable[[], float]) -> None:
        self.capacity = capacity
        self._clock = clock
        self._level = float(capacity)
        self._at_s = clock()

    @property
    def level(self) -> float:
        """What it holds now; below 0 where more was taken than it held."""
        now_s = self._clock()
        self._level = min(self._level + (now_s - self._at_s) * self.capacity / 60, self.capacity)
        self._at_s = now_s
        return self._level

    def take(self, amount: float) -> None:
        """Take that much, whether it is there or not."""
        self._level = self.level - amount

    def wait_s(self, level: float) -> float:
        """How long until it holds so much."""
        return max(level - self.level, 0.0) * 60 / self.capacity


@dataclass(slots=True)
class _Buckets:
    requests: TokenBucket | None
    tokens: TokenBucket | None


class RateLimits:
    """The buckets of all tenants. A request's tokens are taken when it ends: until then nobody knows how many."""

    def __init__(self, settings: ServerSettings, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        everybody = (settings.rate_limit_requests, settings.rate_limit_tokens)
        self._tenants = {key.tenant: self._buckets_of(key, *everybody) for key in settings.keys}
        self._tenants.setdefault("", self._buckets_of(ApiKey(b""), *everybody))

    def admit(self, tenant: str) -> None:
        """Count a request. Raises RateLimitError where the tenant has had its share."""
        buckets = self._tenants[tenant]
        if buckets.requests is not None and (wait_s := buckets.requests.wait_s(1.0)) > 0:
            raise _refusal("requests", buckets.requests, wait_s)
        if buckets.tokens is not None and buckets.tokens.level <= 0:
            raise _refusal("tokens", buckets.tokens, buckets.tokens.wait_s(1.0))
        if buckets.requests is not None:
            buckets.requests.take(1)

    def spend(self, tenant: str, num_tokens: int) -> None:
        """Count a finished request's tokens."""
        bucket = self._tenants[tenant].tokens
        if bucket is not None:
            bucket.take(num_tokens)

    def headers(self, tenant: str) -> list[tuple[bytes, bytes]]:
        """What is left, in OpenAI's words: limit, remaining, and the time until the bucket is full."""
        headers = []
        buckets = self._tenants[tenant]
        for name, bucket in (("requests", buckets.requests), ("tokens", buckets.tokens)):
            if bucket is not None:
                for what, value in (
                    ("limit", str(bucket.capacity)),
                    ("remaining", str(max(math.floor(bucket.level), 0))),
                    ("reset", _duration(bucket.wait_s(bucket.capacity))),
                ):
                    headers.append((f"x-ratelimit-{what}-{name}".encode(), value.encode()))
        return headers

    def _buckets_of(self, key: ApiKey, requests: int | None, tokens: int | None) -> _Buckets:
        limits = (key.requests_per_min or requests, key.tokens_per_min or tokens)
        made = [None if limit is None else TokenBucket(limit, self._clock) for limit in limits]
        return _Buckets(*made)


def _refusal(what: str, bucket: TokenBucket, wait_s: float) -> RateLimitError:
    retry_s = min(max(math.ceil(wait_s), 1), MAX_RETRY_S)
    text = f"the limit of {bucket.capacity} {what} per minute is used up; try again in {retry_s} s."
    return RateLimitError(text, what=what, retry_after_s=retry_s)


def _duration(seconds: float) -> str:
    """As Go writes it: 20ms, 1.5s, 6m0s."""
    if seconds < 1:
        return f"{math.ceil(seconds * 1000)}ms"
    minutes, rest = divmod(math.ceil(seconds), 60)
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"
