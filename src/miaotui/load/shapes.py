"""What is asked: lengths of prompts and answers, made up here or replayed from a trace."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from miaotui.errors import ConfigError
from miaotui.load.words import dice

MAX_LENGTH_SCALE = 1e6


@dataclass(frozen=True, slots=True)
class Shape:
    """One request: lengths in tokens, when it came in its trace, and which shared blocks its prompt begins with.

    arrival_s: seconds since the trace's first request; None where arrivals are made up. blocks: ids of pieces of text;
    equal ids are equal text, each of block_tokens tokens but the last, which the prompt's length cuts.
    capped: whether a length was cut to what the user allowed.
    """

    prompt_tokens: int
    output_tokens: int
    arrival_s: float | None = None
    blocks: tuple[int, ...] = ()
    block_tokens: int = 0
    capped: bool = False


@dataclass(frozen=True, slots=True)
class Demand:
    """A named source of shapes; `shapes()` begins anew at each call. num_shapes: None where they never end."""

    name: str
    shapes: Callable[[], Iterator[Shape]]
    num_shapes: int | None = None
    has_arrivals: bool = False


@dataclass(frozen=True, slots=True)
class Limits:
    """How shapes are fitted to a model: first every length is scaled, then cut to the caps, in tokens."""

    length_scale: float = 1.0
    max_prompt_tokens: int | None = None
    max_output_tokens: int | None = None

    def __post_init__(self) -> None:
        """Raises ConfigError for a scale that is none."""
        if not 0 < self.length_scale <= MAX_LENGTH_SCALE:
            raise ConfigError(
                f"--length-scale must be more than 0, at most {MAX_LENGTH_SCALE:g}, not {self.length_scale}"
            )

    def fit(self, shape: Shape) -> Shape:
        """The shape within the limits; never shorter than one token."""
        prompt, output, block = (
            max(1, round(tokens * self.length_scale))
            for tokens in (shape.prompt_tokens, shape.output_tokens, shape.block_tokens)
        )
        fitted_prompt = min(prompt, self.max_prompt_tokens or prompt)
        fitted_output = min(output, self.max_output_tokens or output)
        capped = (fitted_prompt, fitted_output) != (prompt, output)
        return replace(
            shape, prompt_tokens=fitted_prompt, output_tokens=fitted_output, block_tokens=block, capped=capped
        )


def fixed(prompt_tokens: int, output_tokens: int) -> Demand:
    """The same lengths for all requests."""

    def shapes() -> Iterator[Shape]:
        while True:
            yield Shape(prompt_tokens, output_tokens)

    return Demand(f"fixed, {prompt_tokens} + {output_tokens} tokens", shapes)


def sharegpt(seed: int) -> Demand:
    """Lengths spread as ShareGPT's are: log-normal, most short and some very long.

    Medians of 40 and 190 tokens; the means, 161 and 338 before caps, are those of the vLLM paper's traces (Kwon et al.,
    SOSP 2023, figure 11).
    """

    def shapes() -> Iterator[Shape]:
        lengths = dice("sharegpt", seed)
        while True:
            prompt, output = lengths.lognormvariate(3.7, 1.66), lengths.lognormvariate(5.25, 1.07)
            yield Shape(max(4, round(prompt)), max(4, round(output)))

    return Demand("ShareGPT-like", shapes)


def limited(demand: Demand, limits: Limits) -> Demand:
    """The same demand with each shape within the limits."""
    return replace(demand, shapes=lambda: map(limits.fit, demand.shapes()))
