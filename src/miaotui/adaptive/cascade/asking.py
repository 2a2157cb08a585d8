"""How every prompt of a cascade is asked: the same of each model, when it is calibrated and when it is used."""

from __future__ import annotations

from collections.abc import Sequence as Row
from dataclasses import dataclass

from miaotui.adaptive.cascade.answer import Answer, Position
from miaotui.adaptive.cascade.choosing import choosing
from miaotui.adaptive.cascade.work import Asks, Work, done_by
from miaotui.core import MAX_CHOICES, MAX_LOGPROBS, MAX_TOKEN_COUNT, SamplingParams
from miaotui.engine.llm import LLM
from miaotui.engine.messages import Message
from miaotui.errors import InvalidRequestError, brief
from miaotui.formats.tokenizer import Tokenizer

MAX_INSTRUCTION_CHARACTERS = 64 << 10
MAX_CHOICE_CHARACTERS = 1024


@dataclass(frozen=True, slots=True)
class Asking:
    """instruction: put in front of each text, so that models keep it in memory; choices: the only answers there are.

    max_tokens: of an answer without choices. Answers are the likeliest text (temperature 0), or no gate could vouch.
    Raises InvalidRequestError for a number of choices that is 1 or too large, and for what is not of its type.
    """

    instruction: str = ""
    choices: tuple[str, ...] = ()
    max_tokens: int = 256

    def __post_init__(self) -> None:
        if not isinstance(self.instruction, str) or len(self.instruction) > MAX_INSTRUCTION_CHARACTERS:
            raise InvalidRequestError(f"instruction must be a text of at most {MAX_INSTRUCTION_CHARACTERS} characters.")
        texts = [one for one in self.choices if isinstance(one, str) and 0 < len(one.strip()) <= MAX_CHOICE_CHARACTERS]
        if len(texts) != len(self.choices) or len(texts) == 1 or len(texts) > MAX_CHOICES:
            raise InvalidRequestError(
                f"choices must be none, or 2 to {MAX_CHOICES} texts of at most {MAX_CHOICE_CHARACTERS} characters, not "
                f"{brief(self.choices)}."
            )
        count = self.max_tokens
        if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= MAX_TOKEN_COUNT:
            raise InvalidRequestError(f"max_tokens must be a whole number from 1 on, not {brief(count)}.")


@dataclass(frozen=True, slots=True)
class Asked:
    """A prompt as one model reads it. messages: the conversation; None where the model continues a text, `text`."""

    ids: list[int]
    text: str
    messages: tuple[Message, ...] | None


def prompt_for(llm: LLM, asking: Asking, given: str | Row[Message]) -> Asked:
    """A text with the instruction in front, as a user's message where the model has a chat template.

    A conversation is taken as it is. Raises what `LLM.encode_prompt` does.
    """
    if not isinstance(given, str):
        return Asked(llm.encode_chat(given), "", tuple(given))
    text = f"{asking.instruction}\n\n{given}" if asking.instruction else given
    if llm.chat_template is None:
        if asking.instruction:
            text += "\n"
        return Asked(llm.encode_prompt(text), text, None)
    messages = ({"role": "user", "content": text},)
    return Asked(llm.encode_chat(messages), text, messages)


def answers(llm: LLM, asking: Asking, asked: Row[Asked], *, sure: bool = True, tenant: str = "") -> list[Answer]:
    """As `answering`, done by this model. Raises what `LLM.generate` raises, too."""
    return done_by(llm, answering(llm.tokenizer, asking, asked, sure=sure), tenant)


def answering(tokenizer: Tokenizer, asking: Asking, asked: Row[Asked], *, sure: bool = True) -> Asks[list[Answer]]:
    """What a model says to each prompt; they run together. sure: whether it is to be told how sure the model is.

    Raises InvalidRequestError for choices that the model's tokens cannot tell apart.
    """
    prompts = [one.ids for one in asked]
    if asking.choices:
        return (yield from choosing(tokenizer, prompts, asking.choices))
    logprobs = MAX_LOGPROBS if sure else None
    done = yield Work(prompts, SamplingParams(temperature=0.0, max_tokens=asking.max_tokens, logprobs=logprobs))
    return [Answer(one, tuple(map(Position.of, one.logprobs or ()))) for one in done]
