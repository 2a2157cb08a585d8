"""What is offered is as likely to come as it was behind matches of that length, by the same drafter."""

from __future__ import annotations

import pytest

from miaotui.adaptive.shares import (
    FIRST_SHARES,
    FIRST_SURE_SHARES,
    LEAST_CHANCE,
    LENGTHS,
    SURENESS,
    Offer,
    Shares,
    sureness,
)

RIGHT = list(range(200))
WRONG = [-1] * 200


def test_each_token_that_comes_makes_the_next_one_likelier() -> None:
    shares = dict(zip(LENGTHS, FIRST_SHARES, strict=True))
    chances = Shares().chances(Offer("past", 7, RIGHT), 3)
    assert chances == pytest.approx([shares[4], shares[4] * shares[8], shares[4] * shares[8] ** 2])


def test_only_tokens_likely_enough_are_offered() -> None:
    chances = Shares().chances(Offer("request", 2, RIGHT), 40)
    assert 0 < len(chances) < 40
    assert min(chances) >= LEAST_CHANCE
    assert Shares().chances(Offer("past", 128, RIGHT[:5]), 40) == pytest.approx([0.98**at for at in range(1, 6)])


def test_a_match_that_went_on_in_several_ways_is_worth_less_and_told_apart() -> None:
    shares, split = Shares(), Offer("request", 2, RIGHT, is_settled=False)
    settled = Offer("request", 2, RIGHT)
    before = shares.chances(settled, 1)
    assert shares.chances(split, 1) < before
    for _ in range(20):
        shares.observe(split, RIGHT[:1])
    assert shares.chances(split, 1) > before
    assert shares.chances(settled, 1) == before


@pytest.mark.parametrize(("came", "rises"), [(RIGHT[:9], True), (WRONG[:9], False)])
def test_what_came_tells_about_its_kind_alone(came: list[int], rises: bool) -> None:
    shares, offer = Shares(), Offer("past", 70, RIGHT)
    others = [Offer("request", 70, RIGHT), Offer("past", 20, RIGHT), Offer("past", 150, RIGHT)]
    before = [shares.chances(one, 1) for one in others]
    first = shares.chances(offer, 1)
    for _ in range(20):
        shares.observe(offer, came)
    assert (shares.chances(offer, 1) > first) == rises
    assert [shares.chances(one, 1) for one in others] == before


def test_what_comes_behind_the_last_token_offered_or_known_says_nothing() -> None:
    shares, offer = Shares(), Offer("past", 40, [1, 2])
    before = shares.chances(offer, 1)
    shares.observe(offer, [])
    assert shares.chances(offer, 1) == before
    for came in ([1, 2, 3], [1], [1, 2]):
        shares.observe(offer, came)
        assert shares.chances(offer, 1) > before


def test_a_text_begins_with_what_others_were_like() -> None:
    everybody = Shares()
    for _ in range(50):
        everybody.observe(Offer("past", 40, RIGHT), WRONG[:3])
    assert Shares(everybody).chances(Offer("past", 40, RIGHT), 9) == []
    assert len(Shares().chances(Offer("past", 40, RIGHT), 9)) == 9


def test_a_model_s_tokens_are_as_likely_as_those_that_it_was_as_sure_of() -> None:
    shares = Shares()
    sure, fair, unsure = sureness(0.999), sureness(0.6), sureness(0.1)
    assert (unsure, sure, sureness(float("nan"))) == (0, len(SURENESS), 0)
    offer = Offer("model", 0, [1, 2, 3], [sure, fair, sure])
    value, doubt = FIRST_SURE_SHARES[sure], FIRST_SURE_SHARES[fair]
    assert shares.chances(offer, 9) == pytest.approx([value, value * doubt, value * doubt * value])
    for _ in range(60):
        shares.observe(offer, [1, 9])
    assert shares.of_sureness(sure) > 0.98
    assert shares.of_sureness(fair) < 0.1
    assert len(shares.chances(offer, 9)) == 1
    assert len(shares.chances(offer, 0)) == 0
