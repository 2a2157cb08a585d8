"""The step loop: schedule → run → sample → append → emit."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable
from collections.abc import Sequence as Row
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from miaotui.core import Request, SamplingParams
from miaotui.engine.admission import ContextLimit, check_capacity, check_token_ids, resolve_max_tokens
from miaotui.engine.end_watch import end_watch
from miaotui.engine.grammar import TokenGrammar
from miaotui.engine.masks import MaskWorker
from miaotui.engine.pages_ahead import PagesAhead
from miaotui.engine.prospect import Admit, Load, Prospect, fills
from miaotui.engine.results import Delta, FinishReason, TokenLogprob
from miaotui.engine.runner import Runner
from miaotui.engine.sampling import make_sampler, token_logprobs
from miaotui.engine.scheduler import Scheduler, Slice
from miaotui.engine.sequence import Sequence
from miaotui.engine.text import Decoder, TextStream
from miaotui.engine.tuner import Tuner
from miaotui.errors import ModelFileError


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """What the engine needs of a tokenizer: ids 0 … size - 1, those that end a turn, and fresh stream decoders.

    opens_reasoning: whether a prompt, as token ids, ends inside a block of reasoning.
    """

    size: int
    eos_ids: frozenset[int]
    new_decoder: Callable[[], Decoder]
    opens_reasoning: Callable[[Row[int]], bool] = lambda prompt: False


class Engine:
    """Runs any number of requests together. Not safe for concurrent use: one caller steps at a time.

    ahead: gets memory for pages while there is nothing to do; without it they get theirs when they are written.
    tuners: measure then what is fastest for the models that the steps run.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        runner: Runner,
        vocabulary: Vocabulary,
        context: ContextLimit,
        ahead: PagesAhead | None = None,
        tuners: Row[Tuner] = (),
    ) -> None:
        self.scheduler = scheduler
        self.runner = runner
        self.vocabulary = vocabulary
        self.context = context
        self.ahead = ahead
        self.tuners = list(tuners)
        self._masks = MaskWorker()
        self.slices: list[Slice] = []  # of the step under way, or of the last one
        self._request_ids = itertools.count()
        self._timed: list[Sequence] = []  # those with a deadline

    def add(
        self,
        prompt: Row[int],
        params: SamplingParams,
        *,
        grammar: TokenGrammar | None = None,
        first_scored: int = 1,
        tenant: str = "",
        priority: int = 0,
        keep: bool = True,
        admit: Admit | None = None,
    ) -> list[Sequence]:
        """Queue a tokenized prompt; its `params.n` sequences, each of which keeps to `grammar`.

        With prompt_logprobs, prompt tokens from position `first_scored` on are scored. Tenants take turns and share
        no pages; lower priorities go first. keep: whether the answer may be kept to draft later ones of the tenant
        from. admit: decides how it is run, and may refuse by raising. Raises InvalidRequestError for token ids outside
        the vocabulary, ContextLengthError and CapacityError for what can never be run.
        """
        max_tokens = resolve_max_tokens(len(prompt), params, self.context, self.scheduler.pool)
        check_token_ids(prompt, params, self.vocabulary.size)  # of what may be run only: others can be very long
        seed = params.seed if params.seed is not None else int.from_bytes(os.urandom(8), "little")
        request = Request(
            id=next(self._request_ids),
            prompt_token_ids=tuple(map(int, prompt)),
            sampling=params,
            seed=seed,
            arrival_s=time.monotonic(),
            first_scored=first_scored,
            tenant=tenant,
            priority=priority,
            keep=keep,
        )
        group: list[Sequence] = []
        for index in range(params.n):
            group.append(self._make_sequence(request, index, max_tokens, group[0] if group else None, grammar))
        check_capacity(group, self.scheduler)
        if admit is not None:
            self._admit(group, admit)
        self.scheduler.add(group)
        return list(group)

    def _admit(self, group: Row[Sequence], admit: Admit) -> None:
        """Have it decided how a request is to be run; raises what refuses it."""
        admission = admit(self.prospect(group))
        for sequence in group:
            sequence.plan, sequence.may_draft = admission.plan, admission.may_draft
            sequence.deadline_s = admission.deadline_s
        if admission.deadline_s is not None:
            self._timed += group

    def prospect(self, group: Row[Sequence]) -> Prospect:
        """A request, not added yet, as it stands before what there is to do already."""
        first, scheduler = group[0], self.scheduler
        params = first.request.sampling
        num_cached, others = scheduler.num_found_tokens(first), (*scheduler.running, *scheduler.waiting)
        own = first.num_prompt_tokens - num_cached
        return Prospect(
            num_prompt_tokens=first.num_prompt_tokens,
            num_cached_tokens=num_cached,
            max_tokens=first.max_tokens,
            load=self.load,
            num_tokens_before=sum(min(s.num_pending_tokens, own) for s in others if not s.is_answering),
            will_fill=fills(params) and first.constraint is None,
            num_sequences=len(group),
            can_draft=scheduler.drafter is not None and params.drafting,
        )

    @property
    def load(self) -> Load:
        """What there is to do."""
        running, waiting = self.scheduler.running, self.scheduler.waiting
        num_answering = sum(sequence.is_answering for sequence in running)
        limits = self.scheduler.limits
        return Load(num_answering, len(running) - num_answering, len(waiting), limits.max_sequences)

    def _make_sequence(
        self, request: Request, index: int, max_tokens: int, parent: Sequence | None, grammar: TokenGrammar | None
    ) -> Sequence:
        params, eos_ids = request.sampling, self.vocabulary.eos_ids
        sampler = make_sampler(request, index, vocab_size=self.vocabulary.size, eos_ids=eos_ids)
        # A grammar says what the answer looks like from its first token on: there is no reasoning before it.
        may_reason = params.stop_when is not None and grammar is None
        reasoning = may_reason and self.vocabulary.opens_reasoning(request.prompt_token_ids)
        text = TextStream(
            self.vocabulary.new_decoder(),
            params.stop,
            include_stop=params.include_stop_str_in_output,
            watch=end_watch(params.stop_when, reasoning=reasoning),
        )
        constraint = None if grammar is None else grammar.begin()
        return Sequence(request, index, max_tokens, eos_ids, sampler, text, parent, constraint)

    def step(self) -> list[tuple[Sequence, Delta]]:
        """Advance every sequence that the step has room for; what became of those that gained or ended.

        A sequence whose logits cannot be used ends alone, with its `error` set. If this raises, no sequence has lost
        anything and `cancel` works as usual.
        """
        self.slices = slices = self.scheduler.schedule()
        if not slices:
            return self._end_overdue()
        start_s = time.monotonic()
        with self._masks.computing(slices):
            logits = self.runner.run(slices)
            run_s = time.monotonic() - start_s
        self._observe(slices, run_s)
        updates: list[tuple[Sequence, Delta]] = []
        row = 0
        for part in slices:
            sequence = part.sequence
            if sequence.started_s is None:
                sequence.started_s = start_s
            try:
                delta = self._take(part, logits, row)
            except ModelFileError as error:
                delta = self._fail(sequence, error)
            if sequence.finish_reason is not None:
                self._ended(sequence)
            if delta is not None:
                updates.append((sequence, delta))
            row += part.num_logit_rows
        return updates + self._end_overdue() if self._timed else updates

    def _observe(self, slices: Row[Slice], seconds: float) -> None:
        """Let those learn what steps cost who decide how large they are."""
        num_drafted = num_answers = num_others = 0
        for part in slices:
            num_drafted += len(part.draft)
            if part.num_read == 1:
                num_answers += 1
            else:
                num_others += part.num_read
        if not num_drafted:
            self.scheduler.budget.observe(num_answers, num_others, seconds)
        if self.scheduler.drafter is not None and num_others == 0:
            self.scheduler.drafter.observe(num_answers, num_drafted, seconds)

    def _end_overdue(self) -> list[tuple[Sequence, Delta]]:
        """End those whose deadline has passed, wherever they are; what they said so far is theirs."""
        now_s = time.monotonic()
        self._timed = [sequence for sequence in self._timed if sequence.finish_reason is None]
        over = [
            sequence for sequence in self._timed if sequence.deadline_s is not None and sequence.deadline_s <= now_s
        ]
        return self._end(over, "deadline")

    def cancel(self, sequences: Row[Sequence]) -> list[tuple[Sequence, Delta]]:
        """End these sequences now and free their pages; what they said so far stays theirs."""
        return self._end(sequences, "cancelled")

    def _end(self, sequences: Row[Sequence], reason: FinishReason) -> list[tuple[Sequence, Delta]]:
        updates = []
        for sequence in sequences:
            if sequence.finish_reason is None:
                text = sequence.finish(reason, time.monotonic())
                updates.append((sequence, Delta(sequence.index, text, (), sequence.finish_reason)))
                self._ended(sequence)
            self.scheduler.finish(sequence)
        return updates

    def _ended(self, sequence: Sequence) -> None:
        if self.scheduler.drafter is not None:
            self.scheduler.drafter.ended(sequence)

    def save_prefixes(self, max_pages: int | None = None) -> bool:
        """Keep pages that nobody uses on disk, at most so many now; whether all that fit the limit are there.

        Without a bound, the disk's order of use becomes the memory's, and what is too much is removed.
        """
        pool, saved = self.scheduler.pool, self.scheduler.saved
        if saved is None or not saved.works:
            return True
        idle = pool.idle[-saved.max_pages :]
        keys = [pool.prefixes.key_of(block) for block in idle]
        new = [(key, block) for key, block in zip(keys, idle, strict=True) if key not in saved]
        for key, block in new[:max_pages]:
            saved.save(key, block)
        if max_pages is None:
            saved.touch(reversed(keys))
        if new:
            saved.make_room()
        return max_pages is None or len(new) <= max_pages

    def check_integrity(self) -> None:
        """Raise RuntimeError unless every KV page is free or owned by the sequences that run."""
        self.scheduler.check_integrity()

    def _take(self, part: Slice, logits: NDArray[np.float32], first_row: int) -> Delta | None:
        """Have a sequence go on with what the model said about its slice; None while its prompt is being read."""
        self._score_prompt(part, logits, first_row)
        self.scheduler.advance(part.sequence, part.num_read)
        if part.sequence.num_pending_tokens:
            return None
        last_row = first_row + part.num_logit_rows - 1
        if part.draft:
            return self._verify(part, logits, last_row - len(part.draft))
        return self._advance(part.sequence, logits, last_row)

    def _verify(self, part: Slice, logits: NDArray[np.float32], row: int) -> Delta:
        """Have a sequence go on for as long as it says what was drafted, and by one token more."""
        sequence, draft, num_accepted = part.sequence, part.draft, 0
        sequence.num_drafted_tokens += len(draft)
        whole = self._advance(sequence, logits, row)
        latest = whole.token_ids
        while True:
            num_same = _num_same(latest, draft[num_accepted:])
            num_accepted += num_same
            sequence.num_accepted_tokens += num_same
            if sequence.finish_reason is not None:
                break
            self.scheduler.accept(sequence, num_same)
            if num_same < len(latest):
                break
            if sequence.constraint is not None:
                sequence.constraint.compute()
            try:
                more = self._advance(sequence, logits, row + num_accepted)
            except ModelFileError as error:  # what was said before is said
                return whole.joined(self._fail(sequence, error))
            latest = more.token_ids
            whole = whole.joined(more)
        has_missed = num_same < len(latest) and num_accepted < len(draft)
        if self.scheduler.drafter is not None:
            self.scheduler.drafter.judge(sequence, num_accepted + has_missed, num_accepted)
        return whole

    def _fail(self, sequence: Sequence, error: ModelFileError) -> Delta:
        """End a sequence because of what the model computed for it: the others have nothing to do with that."""
        sequence.error = error
        text = sequence.fail(str(error), time.monotonic())
        self.scheduler.finish(sequence)
        return Delta(sequence.index, text, (), sequence.finish_reason)

    def _advance(self, sequence: Sequence, logits: NDArray[np.float32], row: int) -> Delta:
        """Sample the token behind a sequence that the model has read to its end, unless only reading was asked for."""
        sampled: tuple[int, ...] = ()
        logprobs: list[TokenLogprob] = []
        num_top = sequence.request.sampling.logprobs
        constraint = sequence.constraint
        if sequence.max_tokens == 0:
            text = sequence.finish("length", time.monotonic())
        elif constraint is not None and constraint.error:
            text = sequence.fail(constraint.error, time.monotonic())
        else:
            token_id = sequence.sampler.sample(logits, row, None if constraint is None else constraint.allowed)
            if num_top is not None:
                logprobs = token_logprobs(logits, row, [token_id], num_top)
                sequence.logprobs += logprobs
            now_s = time.monotonic()
            text, sampled = sequence.append(token_id, now_s), (token_id,)
            if constraint is not None:
                forced, more = sequence.append_forced(now_s)
                text, sampled = text + more, (token_id, *forced)
        if sequence.finish_reason is not None:
            self.scheduler.finish(sequence)
        shown = None if num_top is None else tuple(logprobs)
        return Delta(sequence.index, text, sampled, sequence.finish_reason, shown)

    @staticmethod
    def _score_prompt(part: Slice, logits: NDArray[np.float32], first_row: int) -> None:
        """Keep log-probabilities of the prompt tokens that this slice's logits predict, if they are wanted."""
        sequence = part.sequence
        if sequence.kept_logits is not None:
            sequence.kept_logits.append(logits[first_row : first_row + part.num_logit_rows].copy())
        num_top = sequence.request.sampling.prompt_logprobs
        if num_top is None or sequence.first_scored_position is None:
            return
        if sequence.num_computed_tokens >= sequence.num_prompt_tokens - 1:
            return
        end = sequence.num_computed_tokens + part.num_tokens + 1
        targets = sequence.token_ids[end - part.num_logit_rows : min(end, sequence.num_prompt_tokens)]
        sequence.prompt_logprobs += token_logprobs(logits, first_row, targets, num_top)


def _num_same(some: Row[int], others: Row[int]) -> int:
    """How many tokens at the beginning are equal."""
    count = 0
    while count < min(len(some), len(others)) and some[count] == others[count]:
        count += 1
    return count
