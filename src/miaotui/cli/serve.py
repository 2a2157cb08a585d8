"""`miaotui serve [MODEL]`: answer over HTTP, many clients at once."""

from __future__ import annotations

import os
import signal
import socket
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from miaotui.cli.output import note
from miaotui.cli.parsing import add_model_options, at_least, config_of, cpu_info, open_llm
from miaotui.errors import ConfigError

if TYPE_CHECKING:
    from miaotui.engine.llm import LLM
    from miaotui.server.settings import ServerSettings

KEYS_VARIABLE = "MIAOTUI_API_KEYS"
SHUTDOWN_S = 30
MAX_HEADER_BYTES = 64 << 10


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("model", nargs="?", help="name or path of a model")
    parser.add_argument(
        "--host", default="127.0.0.1", metavar="ADDRESS", help="address to listen on (default: only this machine)"
    )
    parser.add_argument(
        "--port", type=at_least(0), default=8000, metavar="N", help="port (default 8000; 0: a free one)"
    )
    parser.add_argument(
        "--host-name",
        action="append",
        default=[],
        metavar="NAME",
        help="name that clients may reach the server by; repeat for several",
    )
    parser.add_argument(
        "--model-name", metavar="NAME", help="what clients call the model (default: as it is named here)"
    )
    parser.add_argument(
        "--api-keys",
        type=Path,
        metavar="FILE",
        help=f"file with an API key per line (or {KEYS_VARIABLE}, by commas); each is a tenant",
    )
    parser.add_argument(
        "--max-sequences", type=at_least(1), default=16, metavar="N", help="answers that run together (default 16)"
    )
    parser.add_argument(
        "--max-waiting",
        type=at_least(0),
        default=64,
        metavar="N",
        help="requests that may wait for a place; more are told to come back (default 64)",
    )
    add_model_options(parser)


def run(args: Namespace) -> int:
    """Serve until SIGTERM or Ctrl-C, then let what runs end."""
    try:
        import uvicorn

        from miaotui.engine.async_llm import AsyncLLM
        from miaotui.server.app import create_app
    except ImportError as error:
        raise ConfigError(f"the server needs {error.name}: pip install 'miaotui[serve]'") from None
    config = config_of(args)
    settings = _settings(args, config.model)
    with open_llm(config, fetch=True, max_sequences=args.max_sequences, max_logit_rows=args.max_sequences) as llm:
        options = uvicorn.Config(
            create_app(lambda: AsyncLLM(llm), settings),
            log_level="warning",
            access_log=False,
            server_header=False,
            h11_max_incomplete_event_size=MAX_HEADER_BYTES,
            http="h11",
            timeout_graceful_shutdown=SHUTDOWN_S,
        )
        server = uvicorn.Server(options)
        listener = _listen(args.host, args.port)
        host, port = listener.getsockname()[:2]
        _introduce(llm, settings, cpu_info(config)["threads"], f"http://{_shown(host)}:{port}")
        signal.signal(signal.SIGTERM, lambda *_: None)  # uvicorn ends on it, and then passes it on
        server.run(sockets=[listener])
    return 0


def _settings(args: Namespace, model: str) -> ServerSettings:
    from miaotui.server.settings import ServerSettings, digest_of

    keys = os.environ.get(KEYS_VARIABLE, "").split(",")
    if args.api_keys is not None:
        keys += args.api_keys.read_text("utf-8").splitlines()
    digests = tuple(digest_of(key.strip()) for key in keys if key.strip())
    names = frozenset(name.lower() for name in (*args.host_name, args.host))
    return ServerSettings(
        model_name=args.model_name or (Path(model).stem if os.sep in model else model),
        host_names=names,
        key_digests=digests,
        max_waiting=args.max_waiting,
    )


def _listen(host: str, port: int) -> socket.socket:
    """A socket at that address. Raises ConfigError where there is none to be had."""
    try:
        return socket.create_server(
            (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=1024
        )
    except (OSError, OverflowError) as error:
        raise ConfigError(
            f"cannot listen on {host} port {port}: {error}; choose others with --host and --port."
        ) from None


def _shown(host: str) -> str:
    return f"[{host}]" if ":" in host else "127.0.0.1" if host == "0.0.0.0" else host  # noqa: S104 (only compared)


def _introduce(llm: LLM, settings: ServerSettings, threads: int, url: str) -> None:
    """What is served, how much of it, to whom, and a line to try it with."""
    from miaotui.formats.store_progress import format_bytes

    plan, together = llm.loaded.kv_plan, llm.loaded.engine.scheduler.limits.max_sequences
    key = "" if not settings.key_digests else ' -H "Authorization: Bearer $KEY"'
    body = '{"messages": [{"role": "user", "content": "What is the capital of France?"}]}'
    note(f"model    {settings.model_name}: {llm.loaded.file.path}")
    note(f"threads  {threads}; {together} answers run together, {settings.max_waiting} requests wait")
    note(f"memory   {format_bytes(plan.total_bytes)} of KV pages, contexts of up to {plan.context.length} tokens")
    note(f"keys     {len(settings.key_digests) or 'none: whoever reaches the address is answered'}")
    note(f"url      {url}/v1")
    note(f"try      curl {url}/v1/chat/completions{key} -d '{body}'")
