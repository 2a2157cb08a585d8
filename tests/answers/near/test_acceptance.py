from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from miaotui.answers.near.acceptance import Acceptance, Evidence, Prior
from miaotui.answers.near.prior import PRIORS, UNKNOWN, prior_of

MINILM = prior_of("all-MiniLM-L6-v2")


def test_the_encoder_that_is_fetched_by_a_short_name_has_its_prior() -> None:
    assert prior_of("minilm") is MINILM is not UNKNOWN


CLOSE = Evidence(0.99)


def test_nothing_is_served_where_nothing_was_ever_observed() -> None:
    decision = Acceptance(prior_of("an embedding model nobody measured"), 0.05).decide(b"e", Evidence(1.0))
    assert not decision.accepted
    assert decision.threshold is None
    assert decision.tau > 0.8
    assert decision.num_observations == 0


@pytest.mark.parametrize("prior", PRIORS.values())
def test_a_tighter_bound_asks_for_more_similarity(prior: Prior) -> None:
    thresholds = [Acceptance(prior, delta).decide(b"e", Evidence(0.9)).threshold for delta in (0.005, 0.01, 0.02, 0.05)]
    known = [1.01 if threshold is None else threshold for threshold in thresholds]
    assert known == sorted(known, reverse=True)
    assert known[-1] < 0.99, "the model's prior would serve nothing"


@given(similarity=st.floats(0, 1), distance=st.floats(0, 1), delta=st.sampled_from([0.005, 0.02, 0.2]))
def test_an_answer_is_served_just_where_its_error_is_within_the_bound(
    similarity: float, distance: float, delta: float
) -> None:
    decision = Acceptance(MINILM, delta).decide(b"e", Evidence(similarity, distance))
    assert decision.accepted == (1 - decision.p <= delta)
    assert (decision.tau == 0) == decision.accepted, "vCache's policy explores just where ours refuses"
    assert f"{decision.p:.4f}" in decision.why


def test_the_threshold_is_where_acceptance_begins() -> None:
    experience = Acceptance(MINILM, 0.02)
    threshold = experience.decide(b"e", Evidence(0.5)).threshold
    assert threshold is not None
    assert experience.decide(b"e", Evidence(threshold)).accepted
    assert not experience.decide(b"e", Evidence(threshold - 0.003)).accepted


def test_one_wrong_answer_stops_the_entry_and_hardly_its_neighbours() -> None:
    experience = Acceptance(MINILM, 0.05)
    before = experience.decide(b"bad", CLOSE), experience.decide(b"other", CLOSE)
    experience.observe(b"bad", CLOSE, right=False)
    after = experience.decide(b"bad", CLOSE), experience.decide(b"other", CLOSE)
    assert before[0].accepted
    assert not after[0].accepted
    assert after[0].num_observations == 1
    assert before[0].p - after[0].p > before[1].p - after[1].p > 0


def test_an_answer_is_not_served_again_where_it_was_wrong() -> None:
    experience = Acceptance(MINILM, 0.05)
    experience.observe(b"e", Evidence(0.99), right=False)
    for _ in range(100):
        experience.observe(b"e", Evidence(0.999), right=True)
    assert not experience.decide(b"e", Evidence(0.99)).accepted
    assert "wrong at a similarity of 0.99" in experience.decide(b"e", Evidence(0.985)).why
    assert experience.decide(b"e", Evidence(0.999)).accepted


def test_right_answers_lower_the_threshold_for_all() -> None:
    experience = Acceptance(UNKNOWN, 0.05)
    assert not experience.decide(b"new", CLOSE).accepted
    for number in range(300):
        experience.observe(b"entry %d" % number, Evidence(0.9 + 0.1 * (number % 10) / 10), right=True)
    assert experience.decide(b"new", CLOSE).accepted


def test_the_order_of_observations_does_not_matter_once_settled() -> None:
    rng = np.random.default_rng(3)
    seen = [(b"%d" % (i % 20), Evidence(float(rng.uniform(0.8, 1))), bool(rng.random() < 0.9)) for i in range(60)]
    results = []
    for order in (seen, seen[::-1]):
        experience = Acceptance(MINILM, 0.05)
        for entry, evidence, right in order:
            experience.observe(entry, evidence, right=right)
        experience.settle(20)
        results.append(experience.decide(b"new", CLOSE).p)
    assert results[0] == pytest.approx(results[1], abs=1e-4)


def test_an_entry_of_many_observations_counts_once_for_the_others() -> None:
    one, many = Acceptance(MINILM, 0.05), Acceptance(MINILM, 0.05)
    one.observe(b"e", CLOSE, right=False)
    for _ in range(50):
        many.observe(b"e", CLOSE, right=False)
    before = Acceptance(MINILM, 0.05).decide(b"x", CLOSE).p
    assert before - many.decide(b"x", CLOSE).p < 4 * (before - one.decide(b"x", CLOSE).p)
    assert many.decide(b"x", CLOSE).accepted, "one bad entry must not stop all others"


@pytest.mark.parametrize("delta", [0.02, 0.1])
@pytest.mark.parametrize("seed", range(2))
def test_the_share_of_wrong_answers_stays_within_the_bound_while_learning(delta: float, seed: int) -> None:
    """Entries with curves of their own, questions drawn at random; those refused are computed, and so observed."""
    rng = np.random.default_rng(seed)
    experience = Acceptance(UNKNOWN, delta)
    offsets = rng.normal(0.0, 0.5, 40)
    served = wrong = 0
    for _ in range(2500):
        entry, similarity = int(rng.integers(40)), float(rng.uniform(0.85, 1.0))
        evidence = Evidence(similarity)
        truth = 1 / (1 + np.exp(-(6.5 + offsets[entry] - 2.0 * evidence.features[1])))
        right = bool(rng.random() < truth)
        if experience.decide(b"%d" % entry, evidence).accepted:
            served, wrong = served + 1, wrong + (not right)
        else:
            experience.observe(b"%d" % entry, evidence, right=right)
    assert served > 80, "a bound kept by serving nothing is none"
    # Four standard errors: the test is about the method, not about luck.
    assert wrong / served <= delta + 4 * np.sqrt(delta * (1 - delta) / served)


@pytest.mark.parametrize("delta", [0.0, 1.0, -0.1, float("nan")])
def test_a_bound_that_is_none_is_refused(delta: float) -> None:
    with pytest.raises(ValueError, match="error bound"):
        Acceptance(MINILM, delta)


def test_forgetting_an_entry_drops_what_was_seen_of_it() -> None:
    experience = Acceptance(MINILM, 0.05)
    experience.observe(b"e", CLOSE, right=False)
    experience.forget(b"e")
    assert experience.decide(b"e", CLOSE).num_observations == 0
