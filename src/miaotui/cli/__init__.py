"""The `miaotui` command. Each subcommand is a module of its own, imported only when it is the one asked for.

Exit codes: 0 done, 1 a problem that one message explains, 2 wrong usage or settings, 130 Ctrl-C, 141 the reader of a
pipe left.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from io import TextIOWrapper

COMMANDS = {
    "run": "answer a question, or chat",
    "cascade": "a small model answers where that suffices, a large one elsewhere; cascade calibrate: learn where",
    "serve": "answer over HTTP, many clients at once",
    "answers": "import, ask, search and export questions and answers",
    "cache": "what answers are kept, why one was served; reject, verify, purge",
    "why": "which way a request took to its answer, and why",
    "embed": "turn texts into vectors",
    "exits": "label texts by an encoder that they leave once sure; exits train: learn from labelled texts",
    "config": "each setting in force and where it came from; new API keys",
    "calibrate": "note what a model's matrices are fed, for compressing it well",
    "compress": "write a model with its weights in fewer bits",
    "distil": "a pruned or quantized model learns from the one it was made of",
    "compare": "put models side by side: size, speed, quality, tasks, answers",
    "pull": "download a model by name",
    "ls": "list the models that are here",
    "show": "what a model is made of, what it needs, how fast it can be",
    "rm": "delete a downloaded model",
    "eval": "measure a model's quality: eval ppl",
    "bench": "measure a model's speed beside the machine's limits; bench serve URL: a server's under load",
    "tune": "measure what is fastest for a model on this machine, and keep it",
    "doctor": "check this machine and installation",
}
KINDS = {
    ("cascade", "run"): ("cascade", "answer with a small model where that suffices, with a large one elsewhere"),
    ("cascade", "calibrate"): ("cascade_calibrate", "learn from labelled rows where a small model's answer suffices"),
    ("exits", "run"): ("exits", "label texts by an encoder that each leaves once its label is sure"),
    ("exits", "train"): ("exits_train", "learn from labelled texts how to label others, and when they are sure"),
    ("bench", "serve"): ("bench_serve", "measure any server with OpenAI's API under load"),
    ("bench", "plan"): ("bench_plan", "replay a trace against the planner, each fixed path and an oracle"),
}
"""Commands of two words, beside that of the first: the module, and what it does."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code; `argv` is without the program's name."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    for name in ("stdout", "stderr"):  # what the caller closed (`>&-`) goes nowhere, the other still arrives
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 (open until the process ends)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # a terminal that lacks a character shows its escape
            stream.reconfigure(errors="backslashreplace")
    if isinstance(sys.stdin, TextIOWrapper):  # as in pipes and arguments, what is no UTF-8 reads as U+FFFD
        sys.stdin.reconfigure(errors="replace")
    try:
        code = _dispatch(arguments)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        _drop_output()
        return 141
    except OSError as error:
        _drop_output()
        print(f"miaotui: {error}; check the disk and the permissions", file=sys.stderr)
        return 1
    except SystemExit as exit_request:  # argparse: --help and usage errors
        return exit_request.code if isinstance(exit_request.code, int) else 2


def _drop_output() -> None:
    """What is still buffered can go nowhere, and the interpreter would complain about that at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _dispatch(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(_overview(), file=sys.stdout if arguments else sys.stderr)
        return 0 if arguments else 2
    if arguments[0] in ("-V", "--version"):
        from miaotui import __version__

        print(f"miaotui {__version__}")
        return 0
    name, *rest = arguments
    if name not in COMMANDS:
        return _unknown(name)
    if rest and (name, rest[0]) in KINDS:
        module, meaning = KINDS[name, rest[0]]
        return _run(f"{name} {rest[0]}", module, meaning, rest[1:])
    return _run(name, name, COMMANDS[name], rest)


def _run(name: str, module_name: str, meaning: str, arguments: list[str]) -> int:
    from importlib import import_module

    from miaotui.cli.parsing import make_parser
    from miaotui.errors import ConfigError, MiaotuiError

    module = import_module(f"miaotui.cli.{module_name}")
    parser = make_parser(name, meaning)
    module.add_arguments(parser)
    try:
        code: int = module.run(parser.parse_intermixed_args(arguments))
    except MiaotuiError as error:
        print(f"miaotui: {error}", file=sys.stderr)
        return 2 if isinstance(error, ConfigError) else 1
    except ImportError as error:
        if "_native" not in str(error):
            raise
        print(f"miaotui: the native module cannot be loaded ({error}); build it with: make build", file=sys.stderr)
        return 1
    except MemoryError:
        print("miaotui: no memory left; use a smaller model, --context-length or --kv-memory", file=sys.stderr)
        return 1
    return code


def _overview() -> str:
    lines = [f"  {name:<9} {meaning}" for name, meaning in COMMANDS.items()]
    return "\n".join(
        [
            "usage: miaotui COMMAND …        miaotui COMMAND --help",
            "",
            "Language-model answers within a second on the CPU machine you already own.",
            "",
            *lines,
            "",
            'try: miaotui run smollm2:135m "What is the capital of France?"',
        ]
    )


def _unknown(name: str) -> int:
    from difflib import get_close_matches

    close = get_close_matches(name, COMMANDS, 1)
    hint = f"did you mean {close[0]}?" if close else f"commands: {', '.join(COMMANDS)}"
    print(f"miaotui: there is no command {name[:80]!r}; {hint}", file=sys.stderr)
    return 2
