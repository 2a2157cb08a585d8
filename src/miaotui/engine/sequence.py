"""One running generation of a request: its tokens, its pages, how far the model has read, and why it ended."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from miaotui.core import Plan, Receipt, Request
from miaotui.engine.grammar import Constraint
from miaotui.engine.pages import BLOCK_TOKENS, num_blocks_for
from miaotui.engine.prefix_tree import Key, root_key
from miaotui.engine.repetition import CircleWatch
from miaotui.engine.results import Completion, FinishReason, TokenLogprob
from miaotui.engine.text import TextStream
from miaotui.errors import ModelFileError

if TYPE_CHECKING:
    from miaotui import _native


MOST_FORCED_TOKENS = 16
"""More tokens than these that a grammar forced are read like a prompt, in the steps' spare room."""


@dataclass(slots=True, eq=False, weakref_slot=True)
class Sequence:
    """Mutable state of one generation; the scheduler alone changes its pages, the engine the rest.

    token_ids: prompt, then output. num_computed_tokens: tokens whose keys and values are in the pages.
    parent: the request's first sequence, which reads the prompt for this one, too.
    kept_logits: rows of the scored positions, collected where this is a list.
    block_table: page numbers by position // 16; pages are this sequence's only while it runs.
    page_keys: what its full pages can be found by, behind its tenant's root, as far as anybody has asked.
    num_cached_tokens: of the prompt, in pages that others had filled.
    num_drafted_tokens, num_accepted_tokens: guessed, and guessed rightly, so that one step read several.
    num_read_before: tokens that it had read when it gave its pages up; it may have to read them again.
    has_place: whether it runs. placed_at: how many tokens of prompts had been read, of everybody's, when it began to.
    turn_end: once so many tokens have been computed, others may have its place.
    constraint: what the output has to look like, and how far it has come; None allows everything.
    circles: whether the output goes round in circles; None where nobody asked.
    num_forced_tokens: of the output, those that the constraint left no choice about.
    error: what ended it where that was no fault of the request; for whoever waits for it to raise.
    plan: what was chosen for it. deadline_s: monotonic seconds at which it ends, wherever it is. may_draft: whether
        tokens of it may be guessed.
    """

    request: Request
    index: int
    max_tokens: int
    eos_ids: frozenset[int]
    sampler: _native.Sampler
    text: TextStream
    parent: Sequence | None = None
    constraint: Constraint | None = None
    circles: CircleWatch | None = field(init=False)
    token_ids: list[int] = field(init=False)
    block_table: NDArray[np.int32] = field(default_factory=lambda: np.empty(0, np.int32))
    page_keys: list[Key] = field(init=False)
    num_computed_tokens: int = 0
    num_cached_tokens: int = 0
    num_forced_tokens: int = 0
    num_drafted_tokens: int = 0
    num_accepted_tokens: int = 0
    num_read_before: int = 0
    has_place: bool = False
    placed_at: int = 0
    turn_end: int = 0
    has_looked_on_disk: bool = False
    finish_reason: FinishReason | None = None
    stop_reason: str | int | None = None
    error: ModelFileError | None = None
    plan: Plan | None = None
    deadline_s: float | None = None
    may_draft: bool = True
    logprobs: list[TokenLogprob] = field(default_factory=list)
    prompt_logprobs: list[TokenLogprob | None] = field(default_factory=list)
    kept_logits: list[NDArray[np.float32]] | None = None
    started_s: float | None = None
    first_token_s: float | None = None
    finished_s: float | None = None

    def __post_init__(self) -> None:
        self.token_ids = list(self.request.prompt_token_ids)
        self.page_keys = [root_key(self.request.tenant)]
        wanted = self.request.sampling.repetition_detection
        self.circles = None if wanted is None else CircleWatch(wanted)
        self._begin_scores()

    def _begin_scores(self) -> None:
        self.prompt_logprobs = [None] * min(self.request.first_scored, self.num_prompt_tokens)
        if self.kept_logits is not None:
            self.kept_logits.clear()

    @property
    def num_prompt_tokens(self) -> int:
        """Tokens of the prompt."""
        return len(self.request.prompt_token_ids)

    @property
    def num_output_tokens(self) -> int:
        """Tokens generated so far."""
        return len(self.token_ids) - len(self.request.prompt_token_ids)

    @property
    def num_draftable_tokens(self) -> int:
        """Tokens that may be drafted: as many as it may still say but one, for the last is never read."""
        if not (self.may_draft and self.request.sampling.drafting):
            return 0
        return max(self.max_tokens - self.num_output_tokens - 1, 0)

    @property
    def num_pending_tokens(self) -> int:
        """Tokens the model has not read yet: 1 while decoding."""
        return len(self.token_ids) - self.num_computed_tokens

    @property
    def is_answering(self) -> bool:
        """Whether what is pending comes behind text that the model has read: what it said, or was forced to say."""
        num_pending = self.num_pending_tokens
        return num_pending == 1 or (
            num_pending <= MOST_FORCED_TOKENS and self.num_computed_tokens >= self.num_prompt_tokens
        )

    @property
    def num_prompt_pages(self) -> int:
        """Full pages of the prompt that the request's other sequences can use, too; one token is left to read."""
        return (self.num_prompt_tokens - 1) // BLOCK_TOKENS

    @property
    def num_blocks(self) -> int:
        """Pages for everything this sequence may become; the last output token is never read."""
        return num_blocks_for(self.num_prompt_tokens + max(self.max_tokens - 1, 0))

    @property
    def num_missing_blocks(self) -> int:
        """Pages that the tokens it has so far need beside those it owns."""
        return num_blocks_for(len(self.token_ids)) - len(self.block_table)

    @property
    def is_ready(self) -> bool:
        """Whether the pages it shares have been written, or nobody will write them."""
        parent = self.parent
        return (
            parent is None
            or parent.finish_reason is not None
            or parent.num_computed_tokens >= self.num_prompt_pages * BLOCK_TOKENS
        )

    @property
    def first_scored_position(self) -> int | None:
        """First position whose logits score a prompt token; None where no scores are wanted or all have been given."""
        return self.request.first_scored - 1 if self.scores_prompt and not self.num_output_tokens else None

    @property
    def scores_prompt(self) -> bool:
        """Whether log-probabilities of the prompt are wanted of this sequence: of a request's first one only."""
        return self.request.sampling.prompt_logprobs is not None and self.parent is None

    def add_blocks(self, blocks: list[int]) -> None:
        """Own more pages."""
        self.block_table = np.append(self.block_table, np.array(blocks, np.int32))

    def begin_turn(self, num_found_tokens: int, quantum_tokens: int) -> None:
        """It has a place, and pages with its first tokens; it gets on by `quantum_tokens` before others have its turn.

        What it has to read again does not count, and is to be worth it: it gets on by as many tokens at least.
        """
        if not self.num_read_before:
            self.num_cached_tokens = num_found_tokens
        num_known = max(num_found_tokens, self.num_read_before)
        self.num_computed_tokens = num_found_tokens
        self.turn_end = num_known + max(quantum_tokens, num_known - num_found_tokens)

    @property
    def has_had_its_turn(self) -> bool:
        """Whether it has got on far enough since it took its place to give it up for others."""
        return self.num_computed_tokens >= self.turn_end

    def restart(self) -> None:
        """Its pages are gone: the model has to read all tokens again. What was said stays said."""
        self.num_read_before = max(self.num_read_before, self.num_computed_tokens)
        self.num_computed_tokens = 0
        if self.num_output_tokens == 0:
            self._begin_scores()

    def append(self, token_id: int, now_s: float) -> str:
        """Take a sampled token; the text that became safe with it. Sets `finish_reason` if it was the last one."""
        params = self.request.sampling
        self.token_ids.append(token_id)
        self.sampler.accept(token_id)
        if self.first_token_s is None:
            self.first_token_s = now_s
        num_said = self.num_output_tokens
        may_stop = num_said >= params.min_tokens
        if token_id in params.stop_token_ids:
            return self._end(token_id, now_s, stop_reason=token_id)
        if token_id in self.eos_ids and not (params.ignore_eos and self.constraint is None):
            return self._end(token_id, now_s, stop_reason=None)
        text = self.text.push(token_id, may_stop=may_stop)
        pattern_size = 0 if self.circles is None else self.circles.push(token_id)
        if self.text.stopped_by is not None:
            self.finish("stop", now_s)
        elif self.constraint is not None and self._ends_constraint(self.constraint, token_id):
            text += self.fail(why, now_s) if (why := self.constraint.error) else self.finish("stop", now_s)
        elif pattern_size and may_stop:
            self.stop_reason = f"a pattern of {pattern_size} tokens, again and again"
            text += self.finish("repetition", now_s)
        elif num_said >= self.max_tokens:
            text += self.finish("length", now_s)
        return text

    def _ends_constraint(self, constraint: Constraint, token_id: int) -> bool:
        """Whether nothing can come behind this token: the output is complete, or cannot be checked any further."""
        constraint.accept(token_id)
        return constraint.is_complete or bool(constraint.error)

    def append_forced(self, now_s: float) -> tuple[tuple[int, ...], str]:
        """Take the tokens that the constraint leaves no choice about; these, and the text that became safe."""
        if self.constraint is None or self.finish_reason is not None or self.request.sampling.logprobs is not None:
            return (), ""  # log-probabilities are the model's, which has to be asked for them
        forced, text = self.constraint.forced(), ""
        for count, token_id in enumerate(forced, 1):
            text += self.append(token_id, now_s)
            self.num_forced_tokens += 1
            if self.finish_reason is not None:
                return tuple(forced[:count]), text
        return tuple(forced), text

    def _end(self, token_id: int, now_s: float, *, stop_reason: int | None) -> str:
        self.stop_reason = stop_reason
        kept = self.text.push(token_id) if self.request.sampling.include_stop_str_in_output else ""
        return kept + self.finish("stop", now_s)

    def finish(self, reason: FinishReason, now_s: float) -> str:
        """End the sequence and give out text still held back.

        Where that holds the answer's end or a stop string, the answer is complete, whatever else would have ended it.
        """
        text = "" if self.text.stopped_by is not None else self.text.finish(cut=reason != "stop")
        if self.text.stopped_by is not None and reason not in ("cancelled", "error"):
            self.stop_reason, reason = self.text.stopped_by, "stop"
        self.finished_s = now_s
        self.finish_reason = reason  # at last: other threads take this for the end
        return text

    def fail(self, why: str, now_s: float) -> str:
        """End the sequence because it cannot go on; text still held back."""
        self.stop_reason = why
        return self.finish("error", now_s)

    def completion(self, others: tuple[Completion, ...] = ()) -> Completion:
        """The result as it stands; the sequence must have finished."""
        if self.finish_reason is None:
            raise RuntimeError("an unfinished sequence has no completion")
        params = self.request.sampling
        return Completion(
            text=self.text.text,
            token_ids=tuple(self.token_ids[self.num_prompt_tokens :]),
            finish_reason=self.finish_reason,
            stop_reason=self.stop_reason,
            logprobs=None if params.logprobs is None else tuple(self.logprobs),
            receipt=self.receipt(),
            prompt_logprobs=tuple(self.prompt_logprobs) if self.scores_prompt else None,
            others=others,
        )

    def receipt(self) -> Receipt:
        """What it has cost so far."""
        arrival_s = self.request.arrival_s
        end_s = arrival_s if self.finished_s is None else self.finished_s
        started_s = end_s if self.started_s is None else self.started_s
        first_token_s = end_s if self.first_token_s is None else self.first_token_s
        why = "the model computed every token"
        if self.num_cached_tokens:
            why = f"the model computed every token but the first {self.num_cached_tokens}, which its memory held"
        if self.finish_reason == "deadline":
            why += "; its deadline ended it"
        return Receipt(
            path="model",
            why=why,
            prompt_tokens=self.num_prompt_tokens,
            cached_tokens=self.num_cached_tokens,
            forced_tokens=self.num_forced_tokens,
            drafted_tokens=self.num_drafted_tokens,
            accepted_tokens=self.num_accepted_tokens,
            output_tokens=self.num_output_tokens,
            queue_s=started_s - arrival_s,
            prefill_s=first_token_s - started_s,
            decode_s=end_s - first_token_s,
            seed=self.request.seed,
            plan=self.plan,
        )
