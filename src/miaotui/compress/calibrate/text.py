"""Text and prompts as the sequences of tokens that a calibration reads."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from miaotui.errors import InvalidRequestError
from miaotui.formats.chat_template import ChatTemplate
from miaotui.formats.tokenizer import Tokenizer

WINDOW_TOKENS = 512

Messages = Sequence[Mapping[str, Any]]


def read_text(path: Path) -> str:
    """The whole text. Raises InvalidRequestError when it cannot be read or is not UTF-8."""
    try:
        return path.read_bytes().decode("utf-8")
    except OSError as error:
        raise InvalidRequestError(f"{path}: cannot be read ({error}); give a text file.") from None
    except UnicodeDecodeError as error:
        raise InvalidRequestError(f"{path}: is not UTF-8 (byte {error.start}); convert it first.") from None


def windows_of_text(
    tokenizer: Tokenizer, text: str, *, tokens: int | None = None, window_tokens: int = WINDOW_TOKENS
) -> list[list[int]]:
    """Consecutive windows of a text, each read on its own, behind BOS where the model wants one.

    tokens: stop there. What is left over at the end is a shorter window. Raises InvalidRequestError for an empty text.
    """
    begin = [tokenizer.bos_id] if tokenizer.add_bos and tokenizer.bos_id is not None else []
    room = window_tokens - len(begin)
    ids = tokenizer.encode(text, add_special=False)
    if not ids:
        raise InvalidRequestError("the text is empty; a calibration needs some.")
    windows = [begin + ids[start : start + room] for start in range(0, len(ids), room)]
    return _first(windows, tokens)


def windows_of_prompts(
    tokenizer: Tokenizer, prompts: Iterable[str | Messages], *, tokens: int | None = None, step_tokens: int
) -> list[list[int]]:
    """Each prompt or conversation as the model's chat template writes it; models without one read the plain text.

    tokens: stop there. Longer ones than a step are cut into several that stand alone. Raises InvalidRequestError
    where there is none, ChatTemplateError for messages that the template refuses.
    """
    template = ChatTemplate.from_tokenizer(tokenizer) if tokenizer.chat_template else None
    windows: list[list[int]] = []
    for prompt in prompts:
        ids = _encoded(tokenizer, template, prompt)
        windows += [ids[start : start + step_tokens] for start in range(0, len(ids), step_tokens)]
    if not windows:
        raise InvalidRequestError("there are no prompts; a calibration needs some.")
    return _first(windows, tokens)


def _encoded(tokenizer: Tokenizer, template: ChatTemplate | None, prompt: str | Messages) -> list[int]:
    messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
    if template is not None:
        answered = bool(messages) and messages[-1].get("role") == "assistant"
        return template.encode(tokenizer, messages, add_generation_prompt=not answered)
    return tokenizer.encode("\n".join(str(message.get("content", "")) for message in messages))


def _first(windows: list[list[int]], tokens: int | None) -> list[list[int]]:
    """As many windows as hold so many tokens, the last of them cut."""
    if tokens is None:
        return windows
    kept: list[list[int]] = []
    for window in windows:
        if tokens <= 0:
            break
        kept.append(window[:tokens])
        tokens -= len(kept[-1])
    return kept
