"""When a draft model is asked: how far it is worth it (`whom`), what it costs (`RunCost`), if it pays (`Account`)."""

from __future__ import annotations

import time
from collections.abc import Callable
from collections.abc import Sequence as Row
from dataclasses import dataclass, replace

from miaotui.adaptive.best_size import best_size
from miaotui.adaptive.drafters.account import Account
from miaotui.adaptive.drafters.candidate import Candidate, Moment
from miaotui.adaptive.drafters.hopes import Hopes
from miaotui.adaptive.drafters.model import DraftModel, Guess
from miaotui.adaptive.drafters.run_cost import RunCost
from miaotui.adaptive.drafters.whom import MOST_GUESSES, USUALLY_UNREAD, who_goes_on, whom_to_ask
from miaotui.adaptive.shares import sureness
from miaotui.adaptive.step_cost import StepCost, ratio_of
from miaotui.engine.sequence import Sequence

NEAR = 8
"""Texts with at most so many tokens unread are read in the run that guesses."""
WINDOW, SHORT_WINDOW = 128, 32
"""Tokens of a text that are read at most: once guesses have paid, and before."""
READ_S, READ_BESIDE, LEAST_READ = 0.2, 0.3, 8
"""A step that reads takes so many seconds longer at most, with several answers such a share of a step; but so many
tokens are read at least."""
READ_WORTH = 2.0
"""Guesses are expected to earn so many times what reading costs, for answers may be shorter than others were."""
PLAIN_EVERY, PLAIN_STEPS = 48, 3
"""Of so many steps a few in a row go without, to learn what that takes: the first one still suffers from what the small
model left in the caches."""
MOST_DEBT = 24.0
"""Steps' time that reading one text may have taken without having been earned; then it is lost."""
MUCH = 1.0
"""Where so many free tokens are expected, nothing is tried."""
MOST_TEXTS = 32
"""Of more answers at a time, those that came first have guesses: there are no rows for all of them."""


@dataclass(slots=True)
class Told:
    """What was done so far: steps with guesses, guesses, tokens read before there were any, seconds of both."""

    num_asked: int = 0
    num_guesses: int = 0
    num_read: int = 0
    guess_s: float = 0.0
    read_s: float = 0.0


@dataclass(slots=True)
class _Asked:
    """A step with guesses: what they took, in steps without drafts, and how many drafted tokens there were and came."""

    moment: Moment
    spent: float
    num_drafted: int = 0
    num_accepted: int = 0


class ModelDrafting:
    """Asks one draft model for one engine. share: its weights in those of the large model. clock: in seconds."""

    def __init__(self, model: DraftModel, share: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.model, self.account, self.told, self.hopes = model, Account(), Told(), Hopes()
        self._guess_cost, self._read_cost = RunCost(share), RunCost(share)
        self._clock = clock
        self._num_steps = PLAIN_STEPS
        self._ran = self._ran_before = False
        self._alone = 0.0
        self._asked: _Asked | None = None

    def ask(self, candidates: Row[Candidate], num_answers: int, costs: StepCost, most: int) -> float:
        """Guess for those for whom that seems to pay, at most so many tokens; what it took, in steps without drafts."""
        self._settle()
        self._ran_before, self._ran = self._ran, False
        if not self.account.is_awake:
            self.account.rest()
            return 0.0
        alone, self._num_steps = costs.alone(num_answers), self._num_steps + 1
        if alone is None or not candidates or self._num_steps % PLAIN_EVERY < PLAIN_STEPS:
            return 0.0
        self._alone = alone
        moment = Moment(num_answers, alone, costs.ratios(num_answers), most)
        free = sorted((chance for one in candidates for chance in one.free), reverse=True)
        moment = replace(moment, base=max(best_size(num_answers, free, moment.ratios)[1], 1.0))
        chosen = self._choose(candidates, moment, costs)
        if not chosen:
            return 0.0
        spent = self._guess(chosen, moment, costs) / alone
        self._asked = _Asked(moment, spent + sum(map(self.hopes.repay, chosen)) / alone)
        return spent

    @property
    def left_alone(self) -> bool:
        """Whether the small model ran neither before this step nor before the last one."""
        return not (self._ran or self._ran_before)

    def took(self, num_drafted: int) -> None:
        """So many tokens are drafted in this step, whoever offered them."""
        if self._asked is not None:
            self._asked.num_drafted = num_drafted

    def accepted(self, num_tokens: int) -> None:
        """Of a sequence's draft so many tokens came."""
        if self._asked is not None:
            self._asked.num_accepted += num_tokens

    def ended(self, sequence: Sequence) -> None:
        """That sequence has ended."""
        self.model.forget(sequence)
        lost = self.hopes.ended(sequence)
        if lost > 0:
            self.account.charge(lost / self._alone)

    def _settle(self) -> None:
        """Enter what came of the last step's guesses, by what such steps usually take."""
        asked, self._asked = self._asked, None
        if asked is not None:
            moment = asked.moment
            took = ratio_of(moment.ratios, asked.num_drafted) + asked.spent
            self.account.enter(took, (1 + asked.num_accepted / moment.num_answers) / moment.base)

    def _choose(self, candidates: Row[Candidate], moment: Moment, costs: StepCost) -> Row[Candidate]:
        """Whom to guess for: nobody where texts are read instead, or where nothing is to be expected of it."""
        self.model.begin_step()
        window = WINDOW if self.account.is_proven else SHORT_WINDOW
        for one in candidates[:MOST_TEXTS]:
            one.num_unread = self.model.follow(one.sequence, window)
        ready = [one for one in candidates[:MOST_TEXTS] if one.num_unread <= NEAR]
        behind = [one for one in candidates[:MOST_TEXTS] if one.num_unread > NEAR]
        behind.sort(key=_num_unread)
        if self.account.is_probing:
            return self._probe(ready, behind, moment, costs)
        if behind and self._read(self._worth_reading(ready, behind, candidates, moment), moment, costs):
            return ()
        chosen, _ = whom_to_ask(ready, candidates, moment, self.hopes, self._guess_cost)
        if not chosen:
            self.account.decline()
        return chosen

    def _probe(self, ready: Row[Candidate], behind: Row[Candidate], moment: Moment, costs: StepCost) -> Row[Candidate]:
        """One text to guess for, whatever is expected of that; if none is ready, one is read."""
        ready = [one for one in ready if sum(one.free) < MUCH]
        if not ready:
            self._read([one for one in behind if sum(one.free) < MUCH][:1], moment, costs)
        return ready[:1]

    def _worth_reading(
        self, ready: Row[Candidate], behind: Row[Candidate], candidates: Row[Candidate], moment: Moment
    ) -> list[Candidate]:
        """Those for whom guesses will earn what reading costs, with all of the window or only its end."""
        as_if_read = [*ready, *behind]
        left = {one: one.num_unread for one in behind}
        for one in behind:
            one.num_unread = USUALLY_UNREAD
        _, gain = whom_to_ask(as_if_read, candidates, moment, self.hopes, self._guess_cost)
        for one in behind:
            one.num_unread = left[one]
        saved = (1 - moment.base / gain) * moment.alone / moment.num_answers
        return [one for one in behind if self._earns(one, saved, moment)]

    def _earns(self, one: Candidate, saved: float, moment: Moment) -> bool:
        """Whether so much saved with each token will be more than reading takes."""
        for window in (WINDOW, SHORT_WINDOW):
            if one.num_unread > window:
                one.num_unread = self.model.follow(one.sequence, window)
            if self.hopes.num_left(one) * saved > READ_WORTH * self._read_cost.of(one.num_unread, moment.alone):
                return True
        return False

    def _read(self, behind: Row[Candidate], moment: Moment, costs: StepCost) -> bool:
        """Read as much as nobody has to wait for long; whether there was anything to read, and room for it."""
        most_s = costs.scaled(READ_S) if moment.num_answers == 1 else READ_BESIDE * moment.alone
        most = max(self._read_cost.tokens_within(most_s, moment.alone), LEAST_READ)
        start_s = self._clock()
        counts = self.model.read([one.sequence for one in behind], most)
        self._ran = True
        seconds, num_tokens = self._clock() - start_s, sum(counts)
        if not num_tokens:
            return False
        self._read_cost.observe(num_tokens, costs.scaled(seconds))
        cost = self._read_cost.of(num_tokens, moment.alone)
        for one, count in zip(behind, counts, strict=True):
            if self.hopes.owe(one.sequence, cost * count / num_tokens) > MOST_DEBT * moment.alone:
                self.account.charge(self.hopes.write_off(one.sequence) / moment.alone)
        self.told.num_read += num_tokens
        self.told.read_s += seconds
        return True

    def _guess(self, chosen: Row[Candidate], moment: Moment, costs: StepCost) -> float:
        """Guess token after token for as long as each is worth its time; what all took, in scaled seconds."""
        spent, active, self._ran = 0.0, chosen, True
        self.told.num_asked += 1
        for _ in range(MOST_GUESSES):
            start_s, num_tokens = self._clock(), sum(map(_num_unread, active))
            guesses = self.model.guess([one.sequence for one in active])
            seconds = self._clock() - start_s
            guessed = [one for one, guess in zip(active, guesses, strict=True) if self._note(one, guess)]
            if not guessed:
                break
            if len(guessed) == len(active):  # else fewer tokens were read
                self._guess_cost.observe(num_tokens, costs.scaled(seconds))
            spent += self._guess_cost.of(num_tokens, moment.alone)
            self.told.guess_s += seconds
            active = who_goes_on(guessed, chosen, moment, self.hopes, self._guess_cost, spent / moment.alone)
            if not active:
                break
        return spent

    def _note(self, one: Candidate, guess: Guess | None) -> bool:
        """Keep a guess, if there was room for it."""
        if guess is None:
            return False
        kind = sureness(guess.probability)
        chance = one.shares.of_sureness(kind)
        one.tokens.append(guess.token_id)
        one.classes.append(kind)
        one.chances.append(chance * (one.chances[-1] if one.chances else 1.0))
        one.num_unread = 1
        self.hopes.learn(one.sequence, chance)
        self.told.num_guesses += 1
        return True


def _num_unread(one: Candidate) -> int:
    return one.num_unread
