"""`miaotui serve [MODEL]`: answer over HTTP, many clients at once."""

from __future__ import annotations

import logging
import resource
import signal
import socket
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from miaotui.cli.parsing import add_model_options, config_of, cpu_info
from miaotui.cli.serve_options import add_serve_options, keys_of, serve_config_of
from miaotui.errors import ConfigError

if TYPE_CHECKING:
    from miaotui.config import LogFormat, ServeConfig
    from miaotui.server.logs import LogWriter

OTHER_FILES = 256
"""Files that may be open beside the connections."""


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("model", nargs="?", help="name or path of a model")
    add_serve_options(parser)
    add_model_options(parser)


def run(args: Namespace) -> int:
    """Serve until SIGTERM or Ctrl-C, then let what runs end."""
    try:
        from miaotui.server.process import Server
    except ImportError as error:
        raise ConfigError(f"the server needs {error.name}: pip install 'miaotui[serve]'") from None
    from miaotui.cli.kept import cache_of
    from miaotui.cli.serve_models import Served
    from miaotui.server.logs import line_of

    config, serve = config_of(args), serve_config_of(args)
    if serve.near == "guarded" and not (serve.cache and serve.embed_model):
        raise ConfigError(f"{serve.sources['near']} needs --cache and --embed-model, too; add --embed-model minilm.")
    keys = keys_of(serve)
    cache = cache_of(serve.cache, config, serve)
    with _logging(serve.log_format) as writer, Served.open(config, serve) as served:
        settings = served.settings(serve, keys)
        server = Server(served.app(settings, writer, cache), settings)
        signal.signal(signal.SIGTERM, server.handle_exit)  # until uvicorn takes signals, and when it passes them on
        _allow_files(serve.max_connections)
        listener = _listen(serve)
        host, port = listener.getsockname()[:2]
        for line in served.introduction(settings, cpu_info(config)["threads"], f"http://{_shown(host)}:{port}", cache):
            writer.write(line_of({"level": "info", "message": line}, "json") if serve.log_format == "json" else line)
        server.run(sockets=[listener])
    return 0


def _listen(serve: ServeConfig) -> socket.socket:
    """A socket at that address. Raises ConfigError where there is none to be had."""
    family = socket.AF_INET6 if ":" in serve.host else socket.AF_INET
    try:
        listener = socket.create_server((serve.host, serve.port), family=family, backlog=1024)
    except (OSError, UnicodeError) as error:
        raise ConfigError(
            f"cannot listen on {serve.host!r} port {serve.port}: {error}; choose others with --host and --port."
        ) from None
    # Connections inherit it. asyncio would set it only where the protocol is named; without it, what follows a reply's
    # head, or a token, waits until the client has acknowledged the one before, which takes up to 40 ms.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def _allow_files(num_connections: int) -> None:
    """Let this process have that many connections open beside its other files, as far as it may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = num_connections + OTHER_FILES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, allowed), hard))


def _shown(host: str) -> str:
    return f"[{host}]" if ":" in host else "127.0.0.1" if host == "0.0.0.0" else host  # noqa: S104 (only compared)


@contextmanager
def _logging(log_format: LogFormat) -> Iterator[LogWriter]:
    """Log lines on standard error until the end; what Python's logging has to say is among them."""
    from miaotui.server.logs import LogHandler, LogWriter

    writer = LogWriter()
    logging.getLogger().addHandler(LogHandler(writer, "text" if log_format == "none" else log_format))
    try:
        yield writer
    finally:
        writer.close()
