"""`miaotui serve [MODEL]`: answer over HTTP, many clients at once."""

from __future__ import annotations

import logging
import os
import resource
import signal
import socket
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from miaotui.cli.parsing import add_model_options, config_of, cpu_info, open_llm
from miaotui.cli.serve_options import add_serve_options, keys_of, serve_config_of
from miaotui.errors import ConfigError

if TYPE_CHECKING:
    from miaotui.config import LogFormat, ServeConfig
    from miaotui.engine.llm import LLM
    from miaotui.server.logs import LogWriter
    from miaotui.server.settings import ServerSettings

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
        from miaotui.engine.async_llm import AsyncLLM
        from miaotui.server.app import create_app
        from miaotui.server.process import Server
    except ImportError as error:
        raise ConfigError(f"the server needs {error.name}: pip install 'miaotui[serve]'") from None
    from miaotui.answers.setup import open_cache
    from miaotui.server.logs import line_of
    from miaotui.server.settings import settings_of

    config, serve = config_of(args), serve_config_of(args)
    model = Path(config.model).stem if os.sep in config.model else config.model
    settings = settings_of(serve, model, keys_of(serve))
    together = serve.max_sequences
    cache = open_cache(
        serve.cache,
        config.home,
        memory_bytes=serve.cache_memory_bytes,
        store_bytes=serve.cache_store_bytes,
        ttl_s=serve.cache_ttl_s,
        secret=serve.cache_secret,
    )
    with (
        _logging(serve.log_format) as writer,
        open_llm(config, fetch=True, max_sequences=together, max_logit_rows=together) as llm,
    ):
        server = Server(create_app(lambda: AsyncLLM(llm), settings, writer.write, cache), settings)
        _allow_files(serve.max_connections)
        listener = _listen(serve)
        host, port = listener.getsockname()[:2]
        kept = [level.name for level in cache.levels] if cache else []
        for line in _introduction(llm, settings, cpu_info(config)["threads"], f"http://{_shown(host)}:{port}", kept):
            writer.write(line_of({"level": "info", "message": line}, "json") if serve.log_format == "json" else line)
        signal.signal(signal.SIGTERM, lambda *_: None)  # uvicorn ends on it, and then passes it on
        server.run(sockets=[listener])
    return 0


def _listen(serve: ServeConfig) -> socket.socket:
    """A socket at that address. Raises ConfigError where there is none to be had."""
    family = socket.AF_INET6 if ":" in serve.host else socket.AF_INET
    try:
        return socket.create_server((serve.host, serve.port), family=family, backlog=1024)
    except (OSError, UnicodeError) as error:
        raise ConfigError(
            f"cannot listen on {serve.host!r} port {serve.port}: {error}; choose others with --host and --port."
        ) from None


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


def _introduction(llm: LLM, settings: ServerSettings, threads: int, url: str, kept: list[str]) -> list[str]:
    """What is served, how much of it, to whom, and a line to try it with."""
    from miaotui.formats.store_progress import format_bytes

    plan, together = llm.loaded.kv_plan, llm.loaded.engine.scheduler.limits.max_sequences
    key = "" if not settings.keys else ' -H "Authorization: Bearer $KEY"'
    body = '{"messages": [{"role": "user", "content": "What is the capital of France?"}]}'
    return [
        f"model    {settings.model_name}: {llm.loaded.file.path}",
        f"threads  {threads}; {together} answers run together, {settings.max_waiting} requests wait",
        f"memory   {format_bytes(plan.total_bytes)} of KV pages, contexts of up to {plan.context.length} tokens",
        f"keys     {len(settings.keys) or 'none: whoever reaches the address is answered'}",
        f"answers  {'kept in ' + ', '.join(kept) if kept else 'not kept; --cache sqlite would'}",
        f"page     {url}/",
        f"url      {url}/v1",
        f"try      curl {url}/v1/chat/completions{key} -d '{body}'",
    ]
