"""`miaotui run [MODEL] [PROMPT]`: one answer, or a chat."""

from __future__ import annotations

import os
import stat
import sys
import time
from argparse import ArgumentParser, Namespace
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from miaotui.cli.output import note, peak_memory_bytes, print_json
from miaotui.cli.parsing import add_model_options, config_of, open_llm
from miaotui.errors import CapacityError, ContextLengthError, InvalidRequestError

if TYPE_CHECKING:
    from miaotui.core import SamplingParams
    from miaotui.engine.llm import LLM
    from miaotui.engine.results import Completion
    from miaotui.engine.stream import Stream

DEFAULT_MAX_TOKENS = 1024
"""Small models may repeat themselves for ever; without a flag an answer ends here, or where the context does."""

MAX_PIPED_BYTES = 16 << 20


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("model", nargs="?", help="name or path of a model; fetched if it is not here yet")
    parser.add_argument("prompt", nargs="*", help="the question; text piped in is put behind it; without either: chat")
    parser.add_argument(
        "--system",
        metavar="TEXT",
        help="instructions before the conversation (default: what the model's template has)",
    )
    parser.add_argument("--raw", action="store_true", help="go on from the prompt as it is, without the chat template")
    parser.add_argument("--quiet", action="store_true", help="no status line")
    group = parser.add_argument_group("how to choose tokens")
    group.add_argument(
        "--max-tokens",
        type=int,
        metavar="N",
        help=f"at most so many tokens (default: {DEFAULT_MAX_TOKENS}, or what the context leaves)",
    )
    group.add_argument(
        "--temperature", type=float, metavar="T", help="0 (default) is the likeliest text, 1 the model's own variety"
    )
    group.add_argument("--top-k", type=int, metavar="K")
    group.add_argument("--top-p", type=float, metavar="P")
    group.add_argument("--min-p", type=float, metavar="P")
    group.add_argument("--repetition-penalty", type=float, metavar="R")
    group.add_argument("--seed", type=int, metavar="N", help="equal seeds give equal text")
    group.add_argument("--stop", action="append", metavar="TEXT", help="end the answer before this text; repeatable")
    add_model_options(parser)


def run(args: Namespace) -> int:
    """Answer on standard output, the status line on standard error."""
    prompt = _prompt(args)
    params = _sampling(args)
    config = config_of(args)
    if prompt is None and not sys.stdin.isatty():
        note("miaotui run: nothing to answer; give a prompt, pipe one in, or start it on a terminal to chat")
        return 2
    started_s = time.monotonic()
    with open_llm(config, fetch=True) as llm:
        loaded_s = time.monotonic() - started_s
        if prompt is None:
            from miaotui.cli.repl import chat

            return chat(llm, params, system=args.system)
        completion = answer(_start(llm, prompt, params, args), quiet=args.json)
        if args.json:
            print_json(_as_json(completion, config.model, loaded_s))
        elif not args.quiet:
            note(status_line(completion, loaded_s))
        return 130 if completion.finish_reason == "cancelled" else 0


def answer(stream: Stream, *, quiet: bool = False) -> Completion:
    """Show an answer as it comes. Ctrl-C ends it; what was said is kept, with finish_reason "cancelled"."""
    ends_with_newline = False
    with stream:
        try:
            for part in stream:
                if part.text and not quiet:
                    sys.stdout.write(part.text)
                    sys.stdout.flush()
                    ends_with_newline = part.text.endswith("\n")
        except KeyboardInterrupt:
            pass
    completion = stream.completion
    if completion is None:
        raise RuntimeError("a closed stream has a completion")
    if not quiet and not ends_with_newline:
        print(flush=True)
    return completion


def status_line(completion: Completion, loaded_s: float | None = None) -> str:
    """Time to first token, rate, tokens, peak memory; and why the answer ended, if it was not the model's own end."""
    receipt = completion.receipt
    rate = receipt.tokens_per_s
    parts = [
        f"first token {receipt.first_token_s:.2f} s",
        *([f"{rate:.1f} tok/s"] if rate is not None else []),
        f"{receipt.prompt_tokens} + {receipt.output_tokens} tokens",
        f"{peak_memory_bytes() / 1e6:.0f} MB peak",
        *([f"loaded in {loaded_s:.2f} s"] if loaded_s is not None else []),
        *({"length": ["cut off at the token limit"], "cancelled": ["cancelled"]}.get(completion.finish_reason, [])),
    ]
    return f"[{' · '.join(parts)}]"


def start_answer(llm: LLM, prompt: str | list[dict[str, str]], params: SamplingParams) -> Stream:
    """Go on from a text or a conversation; without a limit of the user's, the default one or the context's end."""
    if params.max_tokens is None:
        with suppress(ContextLengthError, CapacityError):
            return llm.stream(prompt, params, max_tokens=DEFAULT_MAX_TOKENS)
    return llm.stream(prompt, params)


def opening(system: str | None) -> list[dict[str, str]]:
    """How a conversation starts: with the user's instructions, or with what the model's template puts there."""
    return [{"role": "system", "content": system}] if system else []


def _start(llm: LLM, prompt: str, params: SamplingParams, args: Namespace) -> Stream:
    """Without a chat template the prompt is continued as it is."""
    if args.raw or llm.tokenizer.chat_template is None:
        if not args.raw:
            note("this model has no chat template; going on from the prompt as it is")
        return start_answer(llm, f"{args.system}\n\n{prompt}" if args.system else prompt, params)
    return start_answer(llm, [*opening(args.system), {"role": "user", "content": prompt}], params)


def _prompt(args: Namespace) -> str | None:
    """The words given, then what is piped in; None when there is neither."""
    piped = _piped_text()
    parts = [" ".join(args.prompt), piped.strip("\n") if args.prompt else piped]
    return "\n\n".join(part for part in parts if part.strip()) or None


def _piped_text() -> str:
    """All of standard input if it is a pipe, a socket or a file; a terminal or /dev/null has nothing to say."""
    try:
        mode = os.fstat(sys.stdin.fileno()).st_mode
    except (OSError, ValueError, AttributeError):  # closed, or replaced by something without a descriptor
        return ""
    if not (stat.S_ISFIFO(mode) or stat.S_ISREG(mode) or stat.S_ISSOCK(mode)):
        return ""
    text = sys.stdin.buffer.read(MAX_PIPED_BYTES + 1)
    if len(text) > MAX_PIPED_BYTES:
        raise InvalidRequestError(
            f"more than {MAX_PIPED_BYTES >> 20} MiB were piped in, far beyond any context; pipe in a part of it"
        )
    return text.decode("utf-8", "replace")


def _sampling(args: Namespace) -> SamplingParams:
    from miaotui.core import SamplingParams

    names = ("temperature", "top_k", "top_p", "min_p", "repetition_penalty", "seed", "stop")
    given: dict[str, Any] = {name: value for name in names if (value := getattr(args, name)) is not None}
    return SamplingParams(**{"temperature": 0.0, "max_tokens": args.max_tokens} | given)


def _as_json(completion: Completion, model: str, loaded_s: float) -> dict[str, Any]:
    receipt = completion.receipt
    return {
        "model": model,
        "text": completion.text,
        "finish_reason": completion.finish_reason,
        "stop_reason": completion.stop_reason,
        "prompt_tokens": receipt.prompt_tokens,
        "output_tokens": receipt.output_tokens,
        "first_token_s": receipt.first_token_s,
        "tokens_per_s": receipt.tokens_per_s,
        "load_s": loaded_s,
        "peak_memory_bytes": peak_memory_bytes(),
        "seed": receipt.seed,
    }
