"""How many tokens are drafted for whom: as many as make the most tokens per millisecond, none included."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence as Row
from dataclasses import dataclass
from weakref import WeakKeyDictionary

from miaotui.adaptive.drafters.lookup import PromptLookup
from miaotui.adaptive.drafters.past import PastAnswers
from miaotui.adaptive.shares import LENGTHS, Offer, Shares
from miaotui.adaptive.step_cost import SIZES, StepCost
from miaotui.engine.sequence import Sequence

WORTH_IT = 1.05
"""A draft is to be so many times faster than none: costs are known no better, and looking for one takes time, too."""
LARGER = 1.04
"""A larger number of tokens is to be so many times better than a smaller one, for the same reason."""
BESIDE_OTHERS = 1.8
"""With several answers, a step may take at most so many times as long for drafts: as long as for prompts."""
FIRST_ALLOWANCE, ALLOWANCE, MOST_ALLOWANCE = 2.0, 0.01, 3.0
"""Steps' time that drafts may cost that are tried although they do not seem to pay, for texts and machines change: at
first, and with each step."""
TRIAL_STEPS = 32
"""Where drafts pay, that often another number is tried, none and others in turn."""
QUICK_MASK_S = 1e-4
"""A grammar that takes longer for a token gets no drafts: its masks would hold everybody up, one after the other."""


@dataclass(slots=True)
class _State:
    """Of one sequence. num_seen: its tokens when `offers` were made; best: the one that promises most."""

    shares: Shares
    lookup: PromptLookup
    num_seen: int = 0
    offers: Row[Offer] = ()
    best: Row[int] = ()


class AdaptiveDrafter:
    """Drafts from a sequence's own text and from past answers, for one engine; see `engine.drafter.Drafter`.

    past: None leaves past answers out.
    """

    def __init__(self, past: PastAnswers | None = None) -> None:
        self.costs = StepCost()
        self.past = past
        self._shares = Shares()
        self._states: WeakKeyDictionary[Sequence, _State] = WeakKeyDictionary()
        self._num_chances = 0
        self._allowance = FIRST_ALLOWANCE
        self._is_trial = False

    def draft(self, answering: Row[Sequence], num_spare: int) -> Mapping[Sequence, Row[int]]:
        """See `Drafter.draft`. The likeliest tokens of all sequences first, up to where they stop to be worth it."""
        self._is_trial = False
        most = min(num_spare, SIZES[-1])
        if most < 1:
            return {}
        offers: list[tuple[float, int]] = []  # how likely each further token is to come, and of which sequence
        for number, sequence in enumerate(answering):
            offers += [(chance, number) for chance in self._offer(sequence, most)]
        if not offers:
            return {}
        offers.sort(key=_by_chance)  # stable: a sequence's own tokens stay in order
        num_taken = self._num_worth(len(answering), offers[:most])
        counts: dict[int, int] = {}
        for _, number in offers[:num_taken]:
            counts[number] = counts.get(number, 0) + 1
        return {answering[number]: self._states[answering[number]].best[:count] for number, count in counts.items()}

    def judge(self, sequence: Sequence, num_judged: int, num_accepted: int) -> None:
        """See `Drafter.judge`. Nothing new: the sequence's next tokens tell of all that was offered, taken or not."""

    def ended(self, sequence: Sequence) -> None:
        """See `Drafter.ended`. Answers that came to their end are kept for the same tenant's next ones."""
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
        self.costs.observe(num_answers, num_drafted, seconds)

    def begin(self, sequence: Sequence) -> PromptLookup:
        """The text in which a sequence that has begun to answer is looked up; others may know of more."""
        return PromptLookup()

    def _offer(self, sequence: Sequence, most: int) -> list[float]:
        """How likely the tokens are to come that a sequence has to propose."""
        most = min(most, sequence.num_draftable_tokens)
        if most < 1 or (sequence.constraint is not None and sequence.constraint.mean_s > QUICK_MASK_S):
            return []
        state = self._states.get(sequence)
        if state is None:
            self._states[sequence] = state = _State(Shares(self._shares), self.begin(sequence))
        self._look_back(state, sequence.token_ids)
        state.offers = self._offers(state.lookup, sequence, most)
        best: list[float] = []
        for offer in state.offers:
            chances = state.shares.chances(offer, most)
            if sum(chances) > sum(best):
                best, state.best = chances, offer.tokens
        return best

    def _offers(self, lookup: PromptLookup, sequence: Sequence, most: int) -> Row[Offer]:
        """What each drafter has to say, the one with the longer match first."""
        ids, offers = sequence.token_ids, list[Offer]()
        lookup.read(ids)
        matched, tokens = lookup.find(most)
        if matched >= LENGTHS[0]:
            offers.append(Offer("request", matched, tokens))
        if self.past is not None:
            matched, tokens = self.past.find(sequence.request.tenant, ids, most)
            if matched >= LENGTHS[0]:
                at = int(bool(offers) and offers[0].matched >= matched)
                offers.insert(at, Offer("past", matched, tokens))
        return offers

    def _look_back(self, state: _State, token_ids: list[int]) -> None:
        """Learn from the tokens that came since the offers were made how good those were."""
        came = token_ids[state.num_seen :] if state.offers else ()
        for offer in state.offers:
            self._shares.observe(offer, came)
            state.shares.observe(offer, came)
        state.offers, state.num_seen = (), len(token_ids)

    def _num_worth(self, num_answers: int, offers: Row[tuple[float, int]]) -> int:
        """How many of the offers, likeliest first, give the most tokens per second; now and then another number."""
        ratios = self.costs.ratios(num_answers)
        self._num_chances += 1
        if not ratios:
            return 0
        best, count, expected = WORTH_IT, 0, float(num_answers)
        at = 1
        for number, (chance, _) in enumerate(offers, 1):
            expected += chance
            if number < SIZES[at]:
                continue
            gain, ratio = expected / num_answers / ratios[at], ratios[at]
            at += 1
            if gain > best * (LARGER if count else 1.0) and (num_answers == 1 or ratio <= BESIDE_OTHERS):
                best, count = gain, number
            if at == len(ratios):
                break
        self._allowance = min(self._allowance + ALLOWANCE, MOST_ALLOWANCE)
        if count and self._num_chances % TRIAL_STEPS:
            return count
        if count and self._num_chances % (2 * TRIAL_STEPS):
            return 0
        most_ratio = 1 + self._allowance if num_answers == 1 else min(1 + self._allowance, BESIDE_OTHERS)
        trial = self.costs.least_seen(num_answers, len(offers), most_ratio)
        self._is_trial = trial > 0
        return trial or count


def _by_chance(offer: tuple[float, int]) -> float:
    return -offer[0]
