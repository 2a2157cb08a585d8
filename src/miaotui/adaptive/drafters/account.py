"""Whether drafts that cost time earn it: an account in the time of steps, and rests where it is overdrawn.

A drift to losses is noticed as by a cumulative sum (Page, "Continuous inspection schemes", Biometrika 41, 1954): by how
far the balance has fallen below its highest, so that neither single wrong guesses nor old gains decide.
"""

from __future__ import annotations

SHARE = 0.02
"""Of the time of all steps, what may be lost at first: so many steps pass after a loss. Further losses count for
less."""
CREDIT, MOST_CREDIT = 4.0, 12.0
"""Steps' time by which the balance may fall, at first and at most: half of what was gained may be lost again."""
PROVEN = 2.0
"""Steps' time that are to be gained before long texts are read."""
PROBES = 8
"""Guesses that are made at the beginning whatever is expected of them: nothing is known without them."""
PATIENCE = 64
"""So many times in a row nothing is expected to be gained, and the account rests."""
LEAST_LOSS = 1.0
"""A rest is as long as if so much had been lost, at least."""
MOST_DOUBLINGS = 6
"""Each rest in a row is twice as long as the one before, up to here."""


class Account:
    """Of one drafter. All times are in steps without drafts.

    balance: what was gained since the last rest. is_awake: whether to ask it at all.
    """

    def __init__(self) -> None:
        self.balance = 0.0
        self.num_rests = 0
        self._peak = 0.0
        self._num_asked = self._num_declined = self._num_lost = 0
        self._rest = 0.0

    @property
    def is_awake(self) -> bool:
        """Whether there is no rest to be taken."""
        return self._rest <= 0

    @property
    def is_probing(self) -> bool:
        """Whether to ask without knowing what that will bring."""
        return self._num_asked < PROBES

    @property
    def is_proven(self) -> bool:
        """Whether something was gained since the last rest."""
        return self._peak >= PROVEN

    def rest(self) -> None:
        """A step has passed without it."""
        self._rest = max(self._rest - 1, 0.0)

    def enter(self, took: float, worth: float) -> None:
        """A step with its guesses took so long, all included, and gave what otherwise would have taken so long."""
        self._num_asked += 1
        self._num_declined = 0
        self.balance += worth - took
        self._peak = max(self._peak, self.balance)
        self._look()

    def charge(self, took: float) -> None:
        """So long was spent for nothing."""
        if self.is_awake:
            self.balance -= took
            self._look()
        else:
            self._rest += took / SHARE

    def decline(self) -> None:
        """It could have been asked, but nothing was to be expected of it."""
        self._num_declined += 1
        if self._num_declined >= PATIENCE:
            self._begin_rest()

    def _look(self) -> None:
        if self._peak - self.balance > min(max(CREDIT, self._peak / 2), MOST_CREDIT):
            self._begin_rest()

    def _begin_rest(self) -> None:
        if self.balance < 0:
            self._num_lost += 1
        elif self.balance > 0:
            self._num_lost = 0
        doublings = min(max(self._num_lost - 1, 0), MOST_DOUBLINGS)
        self._rest = max(-self.balance, LEAST_LOSS) / SHARE * 2.0**doublings
        self.balance = self._peak = 0.0
        self._num_asked = self._num_declined = 0
        self.num_rests += 1
