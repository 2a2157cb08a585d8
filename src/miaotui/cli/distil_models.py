"""The models of `miaotui distil` on the engine, and what they are given to go on from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from miaotui.cli.parsing import open_llm
from miaotui.cli.text import read_text
from miaotui.compress.calibrate.prompts import Prompt, read_prompts
from miaotui.compress.distil.openings import openings
from miaotui.compress.distil.supply import BLOCK_SEQUENCES, Material, OpenWriter, Writer
from miaotui.errors import InvalidRequestError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from miaotui.compress.distil.settings import DistilSettings
    from miaotui.config import Config
    from miaotui.engine.llm import LLM

NUM_OPENINGS = 640


class EngineWriter:
    """A model on the engine, as `supply.Teacher` and `supply.Writer` want it."""

    def __init__(self, llm: LLM) -> None:
        self.llm = llm

    @classmethod
    @contextmanager
    def open(cls, config: Config, model: Path, num_tokens: int, **options: Any) -> Iterator[EngineWriter]:
        """Runs the model for texts of that length, as long as the context lasts."""
        from dataclasses import replace

        config = replace(config, model=str(model), context_length=2 * num_tokens)
        options |= {"max_logit_rows": max(num_tokens, BLOCK_SEQUENCES), "max_sequences": BLOCK_SEQUENCES}
        with open_llm(config, prefix_cache=False, drafter=None, **options) as llm:
            yield cls(llm)

    def write(self, prompts: Sequence[Sequence[int]], num_tokens: int, seed: int) -> list[list[int]]:
        """See `supply.Writer.write`. All go on for as long as the shortest prompt needs, and are cut."""
        most = num_tokens - min(len(prompt) for prompt in prompts)
        answers = self.llm.generate(
            [list(p) for p in prompts], temperature=1.0, seed=seed, max_tokens=most, ignore_eos=True, progress=False
        )
        return [[*p, *answer.token_ids][:num_tokens] for p, answer in zip(prompts, answers, strict=True)]

    def logits(self, ids: Sequence[int]) -> NDArray[np.float32]:
        """See `supply.Teacher.logits`."""
        return self.llm.logits([int(token) for token in ids])


def open_writer(config: Config, num_tokens: int) -> OpenWriter:
    """Runs files that are there for a moment only: nothing is kept of them on disk, nothing measured first."""

    @contextmanager
    def opened(path: Path) -> Iterator[Writer]:
        from dataclasses import replace

        with EngineWriter.open(replace(config, pack_cache_bytes=0), path, num_tokens, tune=False) as writer:
            yield writer

    return opened


def material_of(llm: LLM, settings: DistilSettings, text: str | None, prompts: str | None) -> Material:
    """The user's text and prompts in tokens; openings of our own where there are no prompts.

    Raises InvalidRequestError for files that cannot be read or do not hold what they should.
    """
    ids = np.array(llm.tokenizer.encode(read_text(text)) if text is not None else [], np.int32)
    if text is not None and len(ids) < settings.sequence_tokens:
        raise InvalidRequestError(
            f"the text has {len(ids)} tokens, a sequence {settings.sequence_tokens}; give more, or set --sequence."
        )
    if prompts is not None:
        return Material(ids, [_encode(llm, prompt) for prompt in _prompts_of(prompts)])
    return Material(ids, [llm.encode_prompt(opening) for opening in openings(NUM_OPENINGS, settings.seed)])


def _prompts_of(name: str) -> list[Prompt]:
    found = read_prompts(Path(name))
    if not found:
        raise InvalidRequestError(f"{name}: holds no prompts; give at least one.")
    return found


def _encode(llm: LLM, prompt: Prompt) -> list[int]:
    is_chat = llm.chat_template is not None or not isinstance(prompt, str)
    return llm.encode_chat(prompt) if is_chat else llm.encode_prompt(prompt)
