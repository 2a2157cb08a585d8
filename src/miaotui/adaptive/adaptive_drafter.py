"""How many tokens are drafted for whom: as many as make the most tokens per millisecond, none included."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence as Row
from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

from miaotui.adaptive.drafters.lookup import PromptLookup
from miaotui.adaptive.step_cost import SIZES, StepCost
from miaotui.engine.sequence import Sequence

FIRST_SHARES = {8: 0.8, 4: 0.6, 2: 0.35}
"""Of drafted tokens that are taken to come, by how many agreed before them, as long as nothing was seen."""
FIRST_WEIGHT = 4.0
"""What that counts, in tokens seen."""
FORGETTING = 0.98
"""What an observation still counts with each one behind it."""
LEAST_CHANCE = 0.1
"""Tokens less likely than this to come are not offered."""
WORTH_IT = 1.05
"""A draft is to be so many times faster than none: costs are known no better, and looking for one takes time, too."""
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
class Share:
    """How many of the tokens that were judged came, of late."""

    came: float
    judged: float

    def observe(self, num_judged: int, num_accepted: int) -> None:
        """So many were judged, the first so many of them came."""
        self.came = FORGETTING * self.came + num_accepted
        self.judged = FORGETTING * self.judged + num_judged

    @property
    def value(self) -> float:
        """The share."""
        return self.came / self.judged


@dataclass(slots=True)
class _State:
    """Of one sequence. at, matched: where the draft under way is from, and how many tokens agreed before it."""

    lookup: PromptLookup = field(default_factory=PromptLookup)
    shares: dict[int, Share] = field(default_factory=dict)
    at: int = 0
    matched: int = 0


class AdaptiveDrafter:
    """Drafts by prompt lookup for the sequences of one engine; see `engine.drafter.Drafter`."""

    def __init__(self) -> None:
        self.costs = StepCost()
        self._shares = {size: Share(share * FIRST_WEIGHT, FIRST_WEIGHT) for size, share in FIRST_SHARES.items()}
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
            self._offer(number, sequence, most, offers)
        self._forget(answering)
        if not offers:
            return {}
        offers.sort(key=_by_chance)  # stable: a sequence's own tokens stay in order
        num_taken = self._num_worth(len(answering), offers[:most])
        counts: dict[int, int] = {}
        for _, number in offers[:num_taken]:
            counts[number] = counts.get(number, 0) + 1
        found: dict[Sequence, Row[int]] = {}
        for number, count in counts.items():
            state = self._states[answering[number]]
            found[answering[number]] = state.lookup.behind(state.at, count)
        return found

    def judge(self, sequence: Sequence, num_judged: int, num_accepted: int) -> None:
        """See `Drafter.judge`."""
        state = self._states[sequence]
        for share in (self._shares[state.matched], self._share(state)):
            share.observe(num_judged, num_accepted)

    def observe(self, num_answers: int, num_drafted: int, seconds: float) -> None:
        """See `Drafter.observe`."""
        if self._is_trial:
            cost = self.costs.ratio(num_answers, seconds) - 1
            self._allowance -= min(max(cost, 0.0), MOST_ALLOWANCE)  # no more, for it may have been disturbed
        self.costs.observe(num_answers, num_drafted, seconds)

    def _offer(self, number: int, sequence: Sequence, most: int, offers: list[tuple[float, int]]) -> None:
        """Add what a sequence has to propose, token by token."""
        if sequence.constraint is not None and sequence.constraint.mean_s > QUICK_MASK_S:
            return
        state = self._states.get(sequence)
        if state is None:
            self._states[sequence] = state = _State()
        state.lookup.read(sequence.token_ids)
        state.at, state.matched = state.lookup.find()
        if state.matched == 0:
            return
        share = chance = self._share(state).value
        for _ in range(min(most, sequence.num_draftable_tokens)):
            if chance < LEAST_CHANCE:
                break
            offers.append((chance, number))
            chance *= share

    def _share(self, state: _State) -> Share:
        """A sequence's own, which begins with what others were like."""
        if state.matched not in state.shares:
            first = self._shares[state.matched].value
            state.shares[state.matched] = Share(first * FIRST_WEIGHT, FIRST_WEIGHT)
        return state.shares[state.matched]

    def _forget(self, answering: Row[Sequence]) -> None:
        """Others may hold sequences that have ended for long."""
        if len(self._states) > 2 * len(answering):
            for sequence in [one for one in self._states if one.finish_reason is not None]:
                del self._states[sequence]

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
            if gain > best and (num_answers == 1 or ratio <= BESIDE_OTHERS):
                best, count = gain, number
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
