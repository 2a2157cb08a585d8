"""What loses is given up within a bounded loss and tried ever more seldom; what gains goes on."""

from __future__ import annotations

import random

import pytest

from miaotui.adaptive.drafters.account import CREDIT, MOST_CREDIT, PATIENCE, PROBES, Account


def steps(account: Account, count: int, took: float, worth: float, *, noise: float = 0.0) -> tuple[int, float]:
    """So many steps; in how many it was asked, and what was lost."""
    dice, num_asked, lost = random.Random(1), 0, 0.0
    for _ in range(count):
        if account.is_awake:
            gained = worth + dice.choice((-noise, noise))
            account.enter(took, gained)
            num_asked, lost = num_asked + 1, lost + took - gained
        else:
            account.rest()
    return num_asked, lost


@pytest.mark.parametrize("loss", [0.05, 0.3, 1.0])
def test_what_loses_costs_less_than_a_hundredth(loss: float) -> None:
    _, lost = steps(Account(), 20_000, 1 + loss, 1.0)
    assert lost <= 0.005 * 20_000  # each rest is longer than the one before
    assert lost > 0


def test_it_is_asked_ever_more_seldom() -> None:
    account = Account()
    early, _ = steps(account, 10_000, 1.4, 1.0)
    late, _ = steps(account, 50_000, 1.4, 1.0)
    assert 0 < late < 2 * early  # in five times as many steps


def test_what_gains_is_asked_in_each_step_although_single_guesses_fail() -> None:
    account = Account()
    num_asked, lost = steps(account, 5_000, 1.6, 1.8, noise=0.6)
    assert num_asked > 4_500
    assert lost < 0
    assert account.is_proven


def test_old_gains_do_not_pay_for_long() -> None:
    account = Account()
    steps(account, 5_000, 1.0, 1.5)
    assert account.balance > 1_000
    num_asked, lost = steps(account, 70, 1.5, 1.0)
    assert lost <= MOST_CREDIT + 0.5
    assert num_asked <= 2 * MOST_CREDIT + 1


def test_after_a_rest_it_is_asked_whatever_is_expected_a_few_times() -> None:
    account = Account()
    assert account.is_probing
    for _ in range(PROBES):
        account.enter(1.1, 1.1)
    assert not account.is_probing
    for _ in range(PATIENCE):
        assert account.is_awake
        account.decline()
    assert not account.is_awake
    while not account.is_awake:
        account.rest()
    assert account.is_probing
    assert not account.is_proven


def test_what_was_spent_for_nothing_counts_awake_and_at_rest() -> None:
    account = Account()
    account.charge(CREDIT - 1)
    assert account.is_awake
    account.charge(2)
    assert not account.is_awake
    count = 0
    while not account.is_awake:
        account.rest()
        count += 1
    other = Account()
    other.charge(CREDIT + 1)
    other.charge(10.0)
    for _ in range(count):
        other.rest()
    assert not other.is_awake
