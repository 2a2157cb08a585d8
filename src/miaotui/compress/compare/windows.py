"""What models are scored on: stretches of the user's text, or answers that the reference wrote itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from miaotui.compress.compare.candidate import Candidate, OpenModel
from miaotui.errors import InvalidRequestError

WINDOW_TOKENS = 512
ANSWER_TOKENS = 192
SEED = 20_260_101
"""Of the answers that the reference writes: the same ones every time."""


@dataclass(frozen=True, slots=True)
class Window:
    """The reference's tokens, those from `first` on scored; and as text, for models with another vocabulary.

    is_question: whether the context is a question, which each model is asked in its own way. At the seams, characters
    that tokens cut in two are left out of the text.
    """

    ids: tuple[int, ...]
    first: int
    context: str
    scored: str
    is_question: bool = False

    @property
    def num_scored(self) -> int:
        """Tokens that are predicted."""
        return len(self.ids) - self.first


def windows_of_text(
    reference: Candidate, text: str, *, num_windows: int, window_tokens: int = WINDOW_TOKENS
) -> list[Window]:
    """Windows of so many tokens one behind the other, the second half of each scored, as `eval ppl` has them.

    That is the protocol of llama.cpp's `perplexity`: of 512 tokens, positions 256 … 510 predict 255 tokens, and the
    first is BOS where the model wants one. Raises InvalidRequestError for a text that does not fill one window.
    """
    ids = reference.encode(_beginning(text.removesuffix("\n"), num_windows * window_tokens))
    total = min(len(ids) // window_tokens, num_windows)
    if total < 1:
        raise InvalidRequestError(
            f"the text has {len(ids)} tokens, a window {window_tokens}; give a longer text, or none at all."
        )
    first = window_tokens // 2 + 1
    windows = []
    for start in range(0, total * window_tokens, window_tokens):
        window = ids[start : start + window_tokens]
        if reference.bos_id is not None:
            window[0] = reference.bos_id
        skipped = 0 if reference.bos_id is None else 1
        context, scored = (_text(reference, part) for part in (window[skipped:first], window[first:]))
        windows.append(Window(tuple(window), first, context, scored))
    return windows


def windows_of_answers(model: OpenModel, questions: Sequence[str], *, most: int = ANSWER_TOKENS) -> list[Window]:
    """The reference's own answers to questions, drawn at temperature 1 so that they are no parroted loops.

    Raises InvalidRequestError where it answers nothing.
    """
    prompts = [model.ask(question) for question in questions]
    answers = model.write(prompts, most=most, seed=SEED)
    windows = [
        Window((*prompt, *answer.ids), len(prompt), question, answer.text, is_question=True)
        for prompt, question, answer in zip(prompts, questions, answers, strict=True)
        if answer.ids
    ]
    if not windows:
        raise InvalidRequestError("the first model answers nothing; give a text with --text FILE.")
    return windows


def tokens_of(window: Window, candidate: Candidate, model: OpenModel, vocabulary: str) -> tuple[list[int], int, int]:
    """A window's ids in a model's own vocabulary, the first that is scored, and the bytes of text that those are.

    vocabulary: the reference's, whose ids the window has.
    """
    if candidate.vocabulary == vocabulary:
        scored = window.ids[window.first :]
        return list(window.ids), window.first, sum(len(candidate.token_bytes(id)) for id in scored)
    before = model.ask(window.context) if window.is_question else model.encode(window.context, special=True)
    behind = model.encode(window.scored, special=False)
    return before + behind, len(before), len(window.scored.encode("utf-8"))


def _beginning(text: str, num_tokens: int) -> str:
    """As much as certainly holds so many tokens, for tokenizers take seconds for some megabytes."""
    return text[: num_tokens * 32]


def _text(reference: Candidate, ids: Sequence[int]) -> str:
    return b"".join(map(reference.token_bytes, ids)).decode("utf-8", "ignore")
