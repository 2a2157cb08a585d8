"""`miaotui run [MODEL] [PROMPT]`: one answer, or a chat."""

from __future__ import annotations

import os
import stat
import sys
import time
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from miaotui.cli.output import note, peak_memory_bytes, print_json
from miaotui.cli.parsing import add_model_options, config_of, number, open_llm, whole
from miaotui.errors import CapacityError, ConfigError, ContextLengthError, InvalidRequestError

if TYPE_CHECKING:
    from miaotui.core import RepetitionDetection, SamplingParams, StopWhen
    from miaotui.engine.llm import LLM
    from miaotui.engine.results import Completion
    from miaotui.engine.stream import Stream

DEFAULT_MAX_TOKENS = 1024
"""Small models may repeat themselves for ever; without a flag an answer ends here, or where the context does."""

MAX_PIPED_BYTES = 16_000_000

_ENDINGS = {
    "length": "cut off at the token limit",
    "repetition": "ended because it went round in circles",
    "cancelled": "cancelled",
}

SAMPLING_FLAGS: tuple[tuple[str, str, Callable[[str], float], str], ...] = (
    ("--temperature", "T", number, "0 (default) is the likeliest text, 1 the model's own variety, at most 100"),
    ("--top-k", "K", whole, "choose among the K likeliest tokens; 0 (default) or -1 is off"),
    ("--top-p", "P", number, "choose among the fewest likeliest with this share together, above 0 to 1 (default: off)"),
    ("--min-p", "P", number, "leave out tokens below this share of the likeliest one's, 0 (default: off) to 1"),
    ("--repetition-penalty", "R", number, "above 1, at most 10, discourages tokens that occurred; 1 (default) is off"),
    ("--seed", "N", whole, "equal seeds give equal text; some readers of --json round seeds above 2^53"),
)


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("model", nargs="?", help="name or path of a model; fetched if it is not here yet")
    parser.add_argument(
        "prompt",
        nargs="*",
        type=_readable,
        help="the question; text piped in is put behind it; without either: chat; what is not UTF-8 becomes U+FFFD",
    )
    parser.add_argument(
        "--system",
        type=_readable,
        metavar="TEXT",
        help="instructions before the conversation (default: what the model's template has)",
    )
    parser.add_argument("--chat-template", metavar="FILE", help="a Jinja template to use instead of the model's")
    parser.add_argument("--raw", action="store_true", help="go on from the prompt as it is, without the chat template")
    parser.add_argument("--quiet", action="store_true", help="no status line")
    group = parser.add_argument_group(
        "how to choose tokens", "top-k, top-p and min-p matter only where the temperature is above 0"
    )
    group.add_argument(
        "--max-tokens",
        type=whole,
        metavar="N",
        help=f"at most so many tokens (default: {DEFAULT_MAX_TOKENS}, or what the context leaves)",
    )
    for flag, metavar, read, meaning in SAMPLING_FLAGS:
        group.add_argument(flag, type=read, metavar=metavar, help=meaning)
    group.add_argument(
        "--stop",
        action="append",
        type=_readable,
        metavar="TEXT",
        help="end the answer before this text; repeatable",
    )
    group.add_argument(
        "--repetition-detection",
        type=_repetition,
        metavar="SIZE,COUNT",
        help="end the answer once up to SIZE tokens came COUNT times on end, such as 64,4 (default: off)",
    )
    group.add_argument(
        "--stop-when",
        type=_stop_when,
        metavar="WHAT",
        help="end the answer once it is complete: json, or choices such as A,B,C, one of which it names (default: off)",
    )
    add_model_options(parser)


def run(args: Namespace) -> int:
    """Answer on standard output, the status line on standard error."""
    if not args.prompt and _is_question(args.model or ""):
        from miaotui.formats.store_names import shown

        note(f"miaotui: the first argument is the model, as in: miaotui run smollm2:135m {shown(args.model)}")
        return 2
    prompt = _prompt(args)
    params = _sampling(args)
    config = config_of(args)
    if prompt is None and not sys.stdin.isatty():
        note("miaotui: nothing to answer; give a prompt, pipe one in, or start it on a terminal to chat")
        return 2
    if prompt is None and args.json:
        note("miaotui: --json needs a question; a chat has no JSON")
        return 2
    started_s = time.monotonic()
    with open_llm(config, fetch=True, chat_template=_own_template(args), tune_in_pauses=True) as llm:
        loaded_s = time.monotonic() - started_s
        if prompt is None:
            from miaotui.cli.repl import chat

            status = chat(llm, params, system=args.system)
        else:
            completion = answer(_start(llm, prompt, params, args), quiet=args.json)
            if args.json:
                print_json(_as_json(completion, config.model, loaded_s))
            elif not args.quiet:
                note(status_line(completion, loaded_s))
            status = 130 if completion.finish_reason == "cancelled" else 0
        if status == 0:
            sys.stdout.flush()
            llm.tune()  # the first time on a machine, when nobody waits for an answer any more
        return status


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
    from miaotui.formats.store_progress import format_bytes

    receipt = completion.receipt
    rate = receipt.tokens_per_s
    parts = [
        *([f"first token {receipt.first_token_s:.2f} s"] if receipt.output_tokens else []),
        *([f"{rate:.1f} tok/s"] if rate is not None else []),
        f"{receipt.prompt_tokens} + {receipt.output_tokens} tokens",
        f"{format_bytes(peak_memory_bytes())} peak",
        *([f"loaded in {loaded_s:.2f} s"] if loaded_s is not None else []),
        *([_ENDINGS[completion.finish_reason]] if completion.finish_reason in _ENDINGS else []),
    ]
    return f"[{' · '.join(parts)}]"


def start_answer(llm: LLM, prompt: str | list[dict[str, str]], params: SamplingParams) -> Stream:
    """Go on from a text or a conversation; without a limit of the user's, the default one or the context's end."""
    if params.max_tokens is None:
        with suppress(ContextLengthError, CapacityError):
            return llm.stream(prompt, params, max_tokens=DEFAULT_MAX_TOKENS)
    return llm.stream(prompt, params)


def _own_template(args: Namespace) -> str | None:
    """The text of --chat-template's file. Raises InvalidRequestError where there is none."""
    if args.chat_template is None:
        return None
    try:
        return Path(args.chat_template).read_text("utf-8")
    except (OSError, ValueError) as error:
        raise InvalidRequestError(f"--chat-template {args.chat_template!r} cannot be read: {error}") from None


def opening(system: str | None) -> list[dict[str, str]]:
    """How a conversation starts: with the user's instructions, or with what the model's template puts there."""
    return [{"role": "system", "content": system}] if system else []


def _start(llm: LLM, prompt: str, params: SamplingParams, args: Namespace) -> Stream:
    """Without a chat template the prompt is continued as it is."""
    if args.raw or llm.chat_template is None:
        if not args.raw:
            note("this model has no chat template; going on from the prompt as it is")
        return start_answer(llm, f"{args.system}\n\n{prompt}" if args.system else prompt, params)
    return start_answer(llm, [*opening(args.system), {"role": "user", "content": prompt}], params)


def _prompt(args: Namespace) -> str | None:
    """The words given, then what is piped in; None when there is neither."""
    piped = _piped_text()
    parts = [" ".join(args.prompt), piped.strip("\n") if args.prompt else piped]
    return "\n\n".join(part for part in parts if part.strip()) or None


def _is_question(model: str) -> bool:
    """Whether somebody left the model out: words, and nothing that looks like a path or is one."""
    is_path = model.endswith(".gguf") or ("/" in model and "?" not in model) or os.path.exists(model)
    return " " in model and not is_path


def _readable(argument: str) -> str:
    """An argument's text; bytes that are no UTF-8, which Python hides in surrogates, become U+FFFD as in pipes."""
    return argument.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


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
        from miaotui.formats.store_progress import format_bytes

        raise InvalidRequestError(
            f"more than {format_bytes(MAX_PIPED_BYTES)} were piped in, far beyond any context; pipe in a part of it"
        )
    return text.decode("utf-8", "replace")


def _repetition(text: str) -> RepetitionDetection:
    """A flag's value that says when an answer goes round in circles."""
    from miaotui.core import RepetitionDetection

    size, _, count = text.partition(",")
    try:
        return RepetitionDetection(int(size), int(count))
    except (InvalidRequestError, ValueError) as error:
        why = f": {error}" if isinstance(error, InvalidRequestError) else ""
        raise ArgumentTypeError(f"it must be SIZE,COUNT such as 64,4, not {text[:80]!r}{why}") from None


def _stop_when(text: str) -> StopWhen:
    """A flag's value that says when an answer is complete."""
    from miaotui.core import StopWhen

    if text == "json":
        return StopWhen(json=True)
    choices = [choice.strip() for choice in text.split(",")]
    try:
        if len(choices) > 1:
            return StopWhen(choice=choices)
        why = ""
    except InvalidRequestError as error:
        why = f": {error}"
    raise ArgumentTypeError(f"it must be json or choices such as A,B,C, not {text[:80]!r}{why}")


def _sampling(args: Namespace) -> SamplingParams:
    from miaotui.core import SamplingParams

    names = ("temperature", "top_k", "top_p", "min_p", "repetition_penalty", "seed", "stop", "repetition_detection",
             "stop_when")  # fmt: skip
    given: dict[str, Any] = {name: value for name in names if (value := getattr(args, name)) is not None}
    try:
        return SamplingParams(**{"temperature": 0.0, "max_tokens": args.max_tokens} | given)
    except InvalidRequestError as error:  # its message begins with the parameter's name
        name, _, rest = str(error).partition(" ")
        flag = f"--{name.replace('_', '-')}" if name in vars(args) else name
        raise ConfigError(f"{flag} {rest}") from None


def _as_json(completion: Completion, model: str, loaded_s: float) -> dict[str, Any]:
    receipt = completion.receipt
    return {
        "model": model,
        "text": completion.text,
        "finish_reason": completion.finish_reason,
        "stop_reason": completion.stop_reason,
        "prompt_tokens": receipt.prompt_tokens,
        "output_tokens": receipt.output_tokens,
        "first_token_s": receipt.first_token_s if receipt.output_tokens else None,
        "tokens_per_s": receipt.tokens_per_s,
        "load_s": loaded_s,
        "peak_memory_bytes": peak_memory_bytes(),
        "seed": receipt.seed,
    }
