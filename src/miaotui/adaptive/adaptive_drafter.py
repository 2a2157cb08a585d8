"""How many tokens are drafted for whom: as many as make the most tokens per millisecond, none included."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from collections.abc import Sequence as Row
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from miaotui.adaptive.best_size import BESIDE_OTHERS, best_size
from miaotui.adaptive.drafters.candidate import Candidate
from miaotui.adaptive.drafters.lookup import PromptLookup
from miaotui.adaptive.drafters.model import DraftModel
from miaotui.adaptive.drafters.past import PastAnswers
from miaotui.adaptive.model_drafting import ModelDrafting
from miaotui.adaptive.shares import Offer, Shares
from miaotui.adaptive.step_cost import SIZES, StepCost
from miaotui.engine.sequence import Sequence

if TYPE_CHECKING:
    from miaotui.engine.loading import LoadedModel

log = logging.getLogger(__name__)

FIRST_ALLOWANCE, ALLOWANCE, MOST_ALLOWANCE = 2.0, 0.01, 3.0
"""Steps' time that drafts may cost that are tried although they do not seem to pay, for texts and machines change: at
first, and with each step."""
TRIAL_STEPS = 32
"""Where drafts pay, that often another number is tried, none and others in turn."""
LOOKUP_BYTES = 128 << 20
"""All texts that are looked up take no more, about half of it in fact: who begins when so much is reserved gets no
drafts from its own text."""
QUICK_MASK_S = 1e-4
"""A grammar that takes longer for a token gets no drafts: its masks would hold everybody up, one after the other."""


@dataclass(slots=True)
class _State:
    """Of one sequence. num_seen: its tokens when `offers` were made; best: the one that promises most.

    lookup_bytes: that its text may come to take; without `lookup` there was no room for it.
    """

    shares: Shares
    lookup: PromptLookup | None
    lookup_bytes: int = 0
    num_seen: int = 0
    offers: list[Offer] = field(default_factory=list)
    best: Row[int] = ()


class AdaptiveDrafter:
    """Drafts from a sequence's own text and from past answers, for one engine; see `engine.drafter.Drafter`.

    past: None leaves past answers out. A small model is asked, too, where `use_model` gave one.
    """

    def __init__(self, past: PastAnswers | None = None) -> None:
        self.costs = StepCost()
        self.past = past
        self.model: ModelDrafting | None = None
        self._shares = Shares()
        self._states: WeakKeyDictionary[Sequence, _State] = WeakKeyDictionary()
        self._num_chances = 0
        self._allowance = FIRST_ALLOWANCE
        self._is_trial = False

    def use_model(self, small: LoadedModel | None, large: LoadedModel) -> None:
        """See `engine.drafter.ModelDrafter.use_model`."""
        if small is None:
            self.model = None
            return
        share = small.compiled.weight_bytes / max(large.compiled.weight_bytes, 1)
        self.model = ModelDrafting(DraftModel.of(small, large.file.spec.vocab_size), share)

    def draft(self, answering: Row[Sequence], num_spare: int) -> Mapping[Sequence, Row[int]]:
        """See `Drafter.draft`. The likeliest tokens of all sequences first, up to where they stop to be worth it."""
        self._is_trial = False
        most = min(num_spare, SIZES[-1])
        if most < 1:
            return {}
        offered = {number: self._offer(one, most) for number, one in enumerate(answering) if _may_draft(one)}
        spent = self._spent(answering, offered, most)
        # how likely each further token is to come, and of which sequence
        offers = [(chance, number) for number, chances in offered.items() for chance in chances]
        if not offers:
            return {}
        offers.sort(key=_by_chance)  # stable: a sequence's own tokens stay in order
        num_taken = self._num_worth(len(answering), offers[:most], spent)
        counts: dict[int, int] = {}
        for _, number in offers[:num_taken]:
            counts[number] = counts.get(number, 0) + 1
        if self.model is not None:
            self.model.took(num_taken)
        return {answering[number]: self._states[answering[number]].best[:count] for number, count in counts.items()}

    def judge(self, sequence: Sequence, num_judged: int, num_accepted: int) -> None:
        """See `Drafter.judge`. The sequence's next tokens tell more: of all that was offered, taken or not."""
        if self.model is not None:
            self.model.accepted(num_accepted)

    def ended(self, sequence: Sequence) -> None:
        """See `Drafter.ended`. Answers that came to their end are kept for the same tenant's next ones."""
        if self.model is not None:
            self.model.ended(sequence)
        state = self._states.pop(sequence, None)
        if state is not None:
            self._look_back(state, sequence.token_ids)
        request = sequence.request
        is_whole = sequence.finish_reason in ("stop", "length", "repetition") and sequence.num_output_tokens > 0
        if self.past is not None and is_whole and request.keep:
            self.past.learn(request.tenant, sequence.token_ids, sequence.num_prompt_tokens)

    def observe(self, num_answers: int, num_drafted: int, seconds: float) -> None:
        """See `Drafter.observe`."""
        if self._is_trial:
            cost = self.costs.ratio(num_answers, seconds) - 1
            self._allowance -= min(max(cost, 0.0), MOST_ALLOWANCE)  # no more, for it may have been disturbed
        if num_drafted == 0 and self.model is not None and not self.model.left_alone:
            return  # what it left in the caches makes a plain step dearer than it is without it
        self.costs.observe(num_answers, num_drafted, seconds)

    def begin(self, sequence: Sequence) -> PromptLookup:
        """The text in which a sequence that has begun to answer is looked up; others may know of more."""
        return PromptLookup()

    def _begun(self, sequence: Sequence) -> _State:
        lookup = self.begin(sequence)
        most_bytes = lookup.most_bytes(len(sequence.token_ids) + sequence.num_draftable_tokens)
        if sum(state.lookup_bytes for state in self._states.values()) + most_bytes > LOOKUP_BYTES:
            return _State(Shares(self._shares), None)
        return _State(Shares(self._shares), lookup, most_bytes)

    def _offer(self, sequence: Sequence, most: int) -> list[float]:
        """How likely the tokens are to come that a sequence has to propose."""
        most = min(most, sequence.num_draftable_tokens)
        state = self._states.get(sequence)
        if state is None:
            self._states[sequence] = state = self._begun(sequence)
        self._look_back(state, sequence.token_ids)
        state.offers, state.best = self._offers(state.lookup, sequence, most), ()
        best: list[float] = []
        for offer in state.offers:
            chances = state.shares.chances(offer, most)
            if sum(chances) > sum(best):
                best, state.best = chances, offer.tokens
        return best

    def _spent(self, answering: Row[Sequence], offered: dict[int, list[float]], most: int) -> float:
        """As `_ask`. A small model that fails is left out from then on: nobody needs it."""
        if self.model is None:
            return 0.0
        try:
            return self._ask(self.model, answering, offered, most)
        except Exception as error:
            log.error("the draft model has failed and is not asked any more", exc_info=error)
            self.model = None
            return 0.0

    def _ask(self, model: ModelDrafting, answering: Row[Sequence], offered: dict[int, list[float]], most: int) -> float:
        """Put a small model's tokens in where they promise more; what they took, in steps without drafts."""
        candidates = {
            number: Candidate(
                answering[number],
                self._states[answering[number]].shares,
                min(most, answering[number].num_draftable_tokens),
                free,
            )
            for number, free in offered.items()
        }
        spent = model.ask(list(candidates.values()), len(answering), self.costs, most)
        for number, one in candidates.items():
            state, offer = self._states[one.sequence], one.offer
            if offer is None:
                continue
            state.offers.append(offer)
            chances = one.shares.chances(offer, one.most)
            if sum(chances) > sum(offered[number]):
                offered[number], state.best = chances, offer.tokens
        return spent

    def _offers(self, lookup: PromptLookup | None, sequence: Sequence, most: int) -> list[Offer]:
        """What each drafter has to say, the one with the longer match first."""
        ids, offers = sequence.token_ids, list[Offer]()
        if lookup is not None:
            lookup.read(ids)
            matched, tokens = lookup.find(most)
            if matched:
                offers.append(Offer("request", matched, tokens, is_settled=lookup.is_settled))
        if self.past is not None:
            matched, tokens = self.past.find(sequence.request.tenant, ids, most)
            if matched:
                at = int(bool(offers) and offers[0].matched >= matched)
                offers.insert(at, Offer("past", matched, tokens))
        return offers

    def _look_back(self, state: _State, token_ids: list[int]) -> None:
        """Learn from the tokens that came since the offers were made how good those were."""
        came = token_ids[state.num_seen :] if state.offers else ()
        for offer in state.offers:
            self._shares.observe(offer, came)
            state.shares.observe(offer, came)
        state.offers, state.num_seen = [], len(token_ids)

    def _num_worth(self, num_answers: int, offers: Row[tuple[float, int]], spent: float) -> int:
        """How many of the offers, likeliest first, give the most tokens per second; now and then another number.

        spent: on guessing, in steps without drafts: for what was dear, none is no trial.
        """
        ratios = self.costs.ratios(num_answers)
        self._num_chances += 1
        if not ratios:
            return 0
        count, _ = best_size(num_answers, [chance for chance, _ in offers], ratios, spent)
        self._allowance = min(self._allowance + ALLOWANCE, MOST_ALLOWANCE)
        if count and (spent or self._num_chances % TRIAL_STEPS):
            return count
        if count and self._num_chances % (2 * TRIAL_STEPS):
            return 0
        most_ratio = 1 + self._allowance if num_answers == 1 else min(1 + self._allowance, BESIDE_OTHERS)
        trial = self.costs.least_seen(num_answers, len(offers), most_ratio)
        self._is_trial = trial > 0
        return trial or count


def _may_draft(sequence: Sequence) -> bool:
    """Whether guesses for it may be read, and soon."""
    is_slow = sequence.constraint is not None and sequence.constraint.mean_s > QUICK_MASK_S
    return sequence.num_draftable_tokens > 0 and not is_slow


def _by_chance(offer: tuple[float, int]) -> float:
    return -offer[0]
