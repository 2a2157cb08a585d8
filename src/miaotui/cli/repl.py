"""The chat of `miaotui run` on a terminal."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from miaotui.cli.output import note
from miaotui.errors import ContextLengthError

if TYPE_CHECKING:
    from miaotui.core import SamplingParams
    from miaotui.engine.llm import LLM

HELP = "/clear starts over, /bye or Ctrl-D leaves, Ctrl-C stops an answer"


def chat(llm: LLM, params: SamplingParams, *, system: str | None) -> int:
    """Questions and answers until the user leaves; a stopped answer stays in the conversation as far as it got.

    Raises ChatTemplateError when the model cannot chat.
    """
    from miaotui.cli.run import answer, opening, start_answer, status_line

    with suppress(ImportError):
        import readline  # noqa: F401  gives input() line editing and history
    start = opening(system)
    messages = list(start)
    note(f"{llm.spec.name}: {HELP}")
    while (line := _read_line()) is not None:
        if line == "/bye":
            break
        if line == "/clear":
            messages = list(start)
        elif line.startswith("/"):
            note(HELP)
        elif line:
            messages.append({"role": "user", "content": line})
            try:
                completion = answer(start_answer(llm, messages, params))
            except KeyboardInterrupt:  # before the first part of the answer
                messages.pop()
                note("")
                continue
            except ContextLengthError as error:
                messages.pop()
                note(f"{error} In this chat, /clear makes room.")
                continue
            messages.append({"role": "assistant", "content": completion.text})
            note(status_line(completion))
    return 0


def _read_line() -> str | None:
    """One line without surrounding blanks; empty after Ctrl-C; None at the end of input."""
    try:
        return input("> ").strip()
    except KeyboardInterrupt:
        note(f"\n{HELP}")
        return ""
    except EOFError:
        note("")
        return None
