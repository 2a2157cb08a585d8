"""GET /v1/dashboard: how the server is doing, as the page draws it."""

from __future__ import annotations

import time

from starlette.requests import Request
from starlette.responses import Response

from miaotui.server.answers import Service
from miaotui.server.replies import json_reply


async def dashboard(request: Request) -> Response:
    """Load, latencies and rates of the last minute, memory, and what the cache has done."""
    service: Service = request.app.state.service
    llm, metrics = service.llm, service.metrics
    pool, cache = llm.pool, service.cache
    running_s = time.time() - service.created
    return json_reply(
        {
            "model": service.settings.model_name,
            "uptime_s": round(running_s, 1),
            "running": llm.num_running,
            "waiting": llm.num_waiting,
            "kv": {"used": pool.num_blocks - pool.num_free, "total": pool.num_blocks},
            "memory_bytes": resident_bytes(),
            "ttft_ms": metrics.recent_first.percentiles_ms(),
            "itl_ms": metrics.recent_gaps.percentiles_ms(),
            "tokens_per_s": round(metrics.recent_tokens.rate(running_s), 2),
            "requests": len(metrics.recent_first.values()),
            "cache": {"enabled": False} if cache is None else {"enabled": True, **cache.counters()},
            "energy": None,
        }
    )


def resident_bytes() -> int | None:
    """Memory of this process; None where the system does not say."""
    try:
        with open("/proc/self/statm", encoding="ascii") as stream:
            return int(stream.read().split()[1]) * 4096
    except (OSError, ValueError, IndexError):
        return None
