"""Prompts of a wanted number of tokens, no two alike unless their shapes share blocks."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec

from miaotui.load.shapes import Shape
from miaotui.load.words import random_words


@dataclass(frozen=True, slots=True)
class Scale:
    """How words become tokens with a server: overhead_tokens, of a template for example, and so many a word.

    source: where that was learnt: "/tokenize", "usage", or "guess" where the server tells nothing.
    """

    tokens_per_word: float = 1.0
    overhead_tokens: float = 0.0
    source: str = "guess"

    def num_words(self, num_tokens: int) -> int:
        """Words of a prompt that has so many tokens, its overhead included; at least one."""
        return max(1, round((num_tokens - self.overhead_tokens) / self.tokens_per_word))


@dataclass(frozen=True, slots=True)
class Job:
    """One request, ready to send: its number in its run, its shape, and the body."""

    number: int
    shape: Shape
    body: bytes


@dataclass(frozen=True, slots=True)
class Writer:
    """Turns shapes into request bodies for one server and endpoint ("chat" or "completions").

    shared_prefix_tokens: so many tokens stand in front of every prompt, the same for all. exact_output: ask that the
    end-of-text token be ignored, in the words of vLLM's API. with_receipt: ask for miaotui's receipt.
    """

    model: str
    endpoint: str = "chat"
    scale: Scale = Scale()
    seed: int = 0
    shared_prefix_tokens: int = 0
    exact_output: bool = False
    with_receipt: bool = False

    def prompt(self, shape: Shape, *where: object) -> str:
        """Text for a shape; `where`, such as run and number, tells prompts apart that share no blocks."""
        num_words = self.scale.num_words(shape.prompt_tokens)
        block_words = max(1, round(shape.block_tokens / self.scale.tokens_per_word))
        run, *_ = where
        pieces = (random_words(block_words, self.seed, run, "block", block) for block in shape.blocks)
        words = list(itertools.islice(itertools.chain.from_iterable(pieces), num_words))
        words += random_words(num_words - len(words), self.seed, *where)
        return " ".join(self._prefix() + words)

    def _prefix(self) -> list[str]:
        num_words = round(self.shared_prefix_tokens / self.scale.tokens_per_word)
        return random_words(num_words, self.seed, "prefix")

    def body(self, prompt: str, output_tokens: int, *, stream: bool = True) -> bytes:
        """The request's JSON."""
        body: dict[str, Any] = {"model": self.model, "max_tokens": output_tokens, "temperature": 0}
        if self.endpoint == "chat":
            body["messages"] = [{"role": "user", "content": prompt}]
        else:
            body["prompt"] = prompt
        if stream:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        if self.exact_output:
            body |= {"ignore_eos": True, "min_tokens": output_tokens}
        if self.with_receipt:
            body["miaotui"] = True
        return msgspec.json.encode(body)

    def jobs(self, shapes: Iterator[Shape], run: object) -> Iterator[Job]:
        """Requests for the shapes, each made when it is asked for; other runs get other prompts."""
        for number, shape in enumerate(shapes):
            yield Job(number, shape, self.body(self.prompt(shape, run, number), shape.output_tokens))
