"""Text and prompts as the sequences of tokens that a calibration reads."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from miaotui.errors import InvalidRequestError
from miaotui.formats.chat_template import ChatTemplate
from miaotui.formats.tokenizer import Tokenizer
from miaotui.formats.wordpiece import TextEncoder

WINDOW_TOKENS = 512
ENOUGH_CHARACTERS = 16
"""Per token that is wanted: a text is read so far at first, as tokenizers take seconds for some megabytes."""

Messages = Sequence[Mapping[str, Any]]


def windows_of_text(
    tokenizer: Tokenizer, text: str, *, tokens: int | None = None, window_tokens: int = WINDOW_TOKENS
) -> list[list[int]]:
    """Consecutive windows of a text, each read on its own, behind BOS where the model wants one.

    tokens: stop there. What is left over at the end is a shorter window. Raises InvalidRequestError for an empty text.
    """
    begin = [tokenizer.bos_id] if tokenizer.add_bos and tokenizer.bos_id is not None else []
    room = window_tokens - len(begin)
    part = text if tokens is None else text[: tokens * ENOUGH_CHARACTERS]
    ids = tokenizer.encode(part, add_special=False)
    if tokens is not None and len(ids) <= tokens and len(part) < len(text):
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


def texts_for_encoder(
    encoder: TextEncoder, texts: Iterable[str | Messages], *, tokens: int | None = None, max_tokens: int
) -> list[list[int]]:
    """Each text, or each message of a conversation, as a text encoder reads it, cut to `max_tokens`.

    tokens: stop with the text that reaches so many. Raises InvalidRequestError where there is no text.
    """
    windows: list[list[int]] = []
    taken = 0
    for ids in encoder.encode([part for text in texts for part in _plain(text) if part.strip()]):
        if tokens is not None and taken >= tokens:
            break
        windows.append(encoder.cut(ids, max_tokens))
        taken += len(windows[-1])
    if not windows:
        raise InvalidRequestError("the text is empty; a calibration needs some.")
    return windows


def _plain(text: str | Messages) -> list[str]:
    return [text] if isinstance(text, str) else [str(message.get("content", "")) for message in text]


def _encoded(tokenizer: Tokenizer, template: ChatTemplate | None, prompt: str | Messages) -> list[int]:
    messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
    if template is not None:
        answered = bool(messages) and messages[-1].get("role") == "assistant"
        return template.encode(tokenizer, messages, add_generation_prompt=not answered)
    return tokenizer.encode("\n".join(_plain(messages)))


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
