"""How a server is set up."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from miaotui.adaptive.paths import Policy
from miaotui.config import LogFormat, Near, PlanningChoice, ServeConfig
from miaotui.server.keys import ApiKey, find_key

LOCAL_NAMES = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """Limits and rights of one server.

    model_name: what clients call the model; embed_model_name: the one that makes embeddings.
    near: whether answers to questions of the same meaning are given; near_delta: how probable a wrong one may be.
    planning: whether each request takes the path that is expected to cost least; else all take the same one.
    host_names: names a client may reach it by, beside this machine's own.
    keys: the API keys; none: nobody needs one. max_waiting: requests that may wait for a place.
    num_largest_bodies: of `max_body_bytes`, together as long as the bodies of all requests under way may be.
    rate_limit_requests, rate_limit_tokens: per minute and key, for keys without limits of their own.
    stalled_s: a step that takes longer is worth a 503 of /health, if it is also long for a step of its size; hung_s:
        the same, for giving up those who wait for it. They leave time to say so: what is promised is 2 s and 5 s.
    exit_when_hung_s: how long after giving up the process ends.
    header_timeout_s, body_timeout_s, send_timeout_s: how long a client may take to send a request's head, its body,
        and to read what was sent. idle_timeout_s: how long a connection may stay open unused. keep_alive_s: a silent
        stream gets a comment so often. shutdown_timeout_s: how long answers under way have when the server is to end.
    """

    model_name: str
    host_names: frozenset[str] = frozenset()
    keys: tuple[ApiKey, ...] = ()
    max_waiting: int = 64
    max_header_bytes: int = 64 << 10
    max_body_bytes: int = 10 << 20
    num_largest_bodies: int = 16
    max_connections: int = 1000
    rate_limit_requests: int | None = None
    rate_limit_tokens: int | None = None
    keep_alive_s: float = 5.0
    header_timeout_s: float = 8.0
    body_timeout_s: float = 25.0
    send_timeout_s: float = 30.0
    idle_timeout_s: float = 15.0
    shutdown_timeout_s: float = 30.0
    stalled_s: float = 1.8
    hung_s: float = 4.5
    exit_when_hung_s: float | None = None
    log_format: LogFormat = "none"
    local: frozenset[str] = field(default=frozenset(LOCAL_NAMES))
    embed_model_name: str | None = None
    near: Near = "off"
    near_delta: float = 0.01
    planning: PlanningChoice = "fixed"

    @property
    def most_bodies_bytes(self) -> int:
        """Of all requests under way together; one of the largest always finds room where there are no others."""
        return self.num_largest_bodies * self.max_body_bytes

    @property
    def policies(self) -> Mapping[str, Policy]:
        """What tenants allow that do not allow everything, by tenant."""
        return {key.tenant: Policy(floor=key.quality_floor) for key in self.keys if key.quality_floor}

    def find_key(self, key: str) -> ApiKey | None:
        """The key that this is; None for one that is not known. Takes as long whatever the key is."""
        return find_key(self.keys, key)


def settings_of(
    config: ServeConfig, model_name: str, keys: Iterable[ApiKey], embed_model_name: str | None = None
) -> ServerSettings:
    """The settings that a configuration asks for. model_name: what the model is called if it does not say."""
    return ServerSettings(
        model_name=config.model_name or model_name,
        host_names=frozenset(name.lower() for name in (*config.host_names, config.host)),
        keys=tuple(keys),
        max_waiting=config.max_waiting,
        max_body_bytes=config.max_body_bytes,
        max_connections=config.max_connections,
        rate_limit_requests=config.rate_limit_requests,
        rate_limit_tokens=config.rate_limit_tokens,
        header_timeout_s=config.header_timeout_s,
        body_timeout_s=config.body_timeout_s,
        send_timeout_s=config.send_timeout_s,
        idle_timeout_s=config.idle_timeout_s,
        shutdown_timeout_s=config.shutdown_timeout_s,
        exit_when_hung_s=config.exit_when_hung_s,
        log_format=config.log_format,
        embed_model_name=embed_model_name,
        near=config.near,
        near_delta=config.near_delta,
        planning=config.planning,
    )
