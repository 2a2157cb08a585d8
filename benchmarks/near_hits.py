"""Near hits on labelled pairs of questions: how many of the same meaning are found, and how many others are served.

.venv/bin/python benchmarks/near_hits.py --model minilm --out build/bench/near_hits.json    # the plot beside it
.venv/bin/python benchmarks/near_hits.py --fit    # the prior, from the train half

The pairs fall into halves so that no question is in both. Word lists and prior were made with the train half; figures
are of the other. Vectors are computed once and kept (--embeddings).
"""

from __future__ import annotations

import argparse
import hashlib
import random
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from common import ROOT, machine_facts, write_record
from miaotui.answers.near.acceptance import Acceptance, Evidence, Prior
from miaotui.answers.near.guards import verdicts
from miaotui.answers.near.prior import UNKNOWN, prior_of
from miaotui.answers.near.reading import read
from near_hits_data import Pair, embed, load_halves
from near_hits_plot import draw
from near_hits_swaps import natural_swaps

DELTAS = (0.005, 0.01, 0.02, 0.05)
MODEL = "all-MiniLM-L6-v2"
ANCHORS = 3000
# Pairs of the test half that are labelled as different and were read one by one: whether they ask for the same answer.
# Named by a hash, the texts are not ours. ("Could someone read my palm?" and "Can someone read my palm?" are one.)
READ = {
    "c2e4cdc7957f": False, "ab8dd04bf0e4": False, "30b703b66e3f": True, "11ab7215f702": True,
    "c9a7899171e1": True, "318abff00f9c": True, "f8a8d7f48410": False, "679e4c76a493": True,
    "8cf4ae724c48": True, "6948b0c78cd0": False, "8395fdda85bd": False, "dcca782ada33": True,
    "7fcbb6699036": True, "5a9e7d0860ca": True, "6089e43d97cb": False,
}  # fmt: skip
THRESHOLDS = [round(0.70 + 0.005 * step, 3) for step in range(61)]


def main() -> None:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--embeddings", type=Path, default=ROOT / "build" / "bench" / "question_pairs.f32")
    parser.add_argument(
        "--model", help="minilm, or its folder: needed where its vectors are not kept yet, and for the swaps' cosines"
    )
    parser.add_argument("--out", type=Path, help="keep the figures here, the plot beside it")
    parser.add_argument("--fit", action="store_true", help="print the prior of the train half instead")
    arguments = parser.parse_args()
    train, test = load_halves(arguments.embeddings, arguments.model)
    if arguments.fit:
        print(as_code(fitted(train)))
        return
    report = {**machine_facts(), "model": MODEL, "train": size_of(train), "test": size_of(test)}
    report["policies"] = list(policies(train, test))
    report["curve"] = [outcome(f"cosine ≥ {limit}", test, lambda p, t=limit: p.similarity >= t) for limit in THRESHOLDS]
    report["swaps"] = swaps([pair.asked for pair in test], arguments.model, calibrated(train, 0.05))
    print(table(report))
    if arguments.out:
        write_record(report, arguments.out)
        arguments.out.with_suffix(".svg").write_text(draw(report), encoding="utf-8")


def policies(train: Sequence[Pair], test: Sequence[Pair]) -> Iterable[dict[str, Any]]:
    """What each way to decide would have served of the test half."""
    yield outcome("identical words", test, has_identical_words)
    for delta in DELTAS:
        limit = calibrated(train, delta)
        yield outcome(
            f"cosine ≥ {limit:.3f}, right for {1 - delta:.1%} of train", test, lambda p, t=limit: p.similarity >= t
        )
    clean = max((pair.similarity for pair in train if not pair.same), default=1.0)
    yield outcome(f"cosine > {clean:.3f}, no false hit in train", test, lambda p: p.similarity > clean)
    yield outcome("guards alone", test, lambda p: p.passes)
    prior = prior_of(MODEL)
    for delta in DELTAS:
        experience = Acceptance(prior, delta)
        yield outcome(f"near hits, δ = {delta:.1%}", test, lambda p, e=experience: accepted(e, p))
    for delta in DELTAS:
        yield learning(f"near hits, δ = {delta:.1%}, learning on", test, Acceptance(prior, delta))


def accepted(experience: Acceptance, pair: Pair) -> bool:
    """What `NearHits.find` would do."""
    return pair.passes and experience.decide(pair.entry, Evidence(pair.similarity, pair.distance)).accepted


def learning(name: str, pairs: Sequence[Pair], experience: Acceptance) -> dict[str, Any]:
    """The same, told after every refused candidate that passed the guards whether it would have been right."""
    order = list(pairs)
    random.Random(11).shuffle(order)
    served: dict[int, bool] = {}
    for pair in order:
        served[id(pair)] = accepted(experience, pair)
        if pair.passes and not served[id(pair)]:
            experience.observe(pair.entry, Evidence(pair.similarity, pair.distance), right=pair.same)
    return outcome(name, order, lambda pair: served[id(pair)])


def outcome(name: str, pairs: Sequence[Pair], serves: Callable[[Pair], bool]) -> dict[str, Any]:
    """Counts. wrong_bound: 95 % upper bound (Clopper and Pearson) of the share of hits that are wrong."""
    served = [pair for pair in pairs if serves(pair)]
    right = sum(pair.same for pair in served)
    wrong = len(served) - right
    read = [READ.get(name_of(pair)) for pair in served if not pair.same]
    num_same = sum(pair.same for pair in pairs)
    return {
        "name": name, "right": right, "wrong": wrong, "recall": right / num_same,
        "wrong_as_read": None if None in read else read.count(False),
        "wrong_share": wrong / max(1, right + wrong), "wrong_bound": upper_bound(wrong, right + wrong),
    }  # fmt: skip


def name_of(pair: Pair) -> str:
    """A pair in `READ`."""
    return hashlib.sha256(repr((pair.asked, pair.kept)).encode()).hexdigest()[:12]


def upper_bound(failures: int, cases: int) -> float:
    """The share at which so few failures have a probability of 5 %."""
    if failures == cases:
        return 1.0
    low, high = failures / cases, 1.0
    for _ in range(60):
        share = (low + high) / 2
        terms = np.cumsum([0.0, *(np.log(cases - k) - np.log(k + 1) for k in range(failures))])
        k = np.arange(failures + 1)
        probability = float(np.exp(terms + k * np.log(share) + (cases - k) * np.log1p(-share)).sum())
        low, high = (share, high) if probability > 0.05 else (low, share)
    return high


def calibrated(pairs: Sequence[Pair], delta: float) -> float:
    """The lowest cosine from which on at most a share delta of the pairs is wrong."""
    ordered = sorted(pairs, key=lambda pair: -pair.similarity)
    wrong, best = 0, 1.0
    for count, pair in enumerate(ordered, 1):
        wrong += not pair.same
        if wrong <= delta * count:
            best = pair.similarity
    return best


def has_identical_words(pair: Pair) -> bool:
    """The same words, as often, in whatever order, case and punctuation."""
    one, other = (sorted(re.findall(r"[\w+#]+", text.casefold())) for text in (pair.asked, pair.kept))
    return one == other


def swaps(questions: Sequence[str], model: str | None, limit: float) -> dict[str, dict[str, float | None]]:
    """Of real questions with one thing changed: how many the guards would let through at any similarity, and the share
    (of 60 each) whose cosine is above a limit; that takes the model."""
    result: dict[str, dict[str, float | None]] = {}
    made = natural_swaps(questions)
    for kind in dict.fromkeys(swap[0] for swap in made):
        some = [swap for swap in made if swap[0] == kind][:60]
        result[kind] = {"made": 0, "served": 0, "close": close_share(some, model, limit) if model else None}
    for kind, question, changed in made:
        counts = result[kind]
        counts["made"] += 1
        if not any(verdicts(read(changed), read(question)).values()):
            counts["served"] += 1
            print(f"served, {kind}: {question!r} for {changed!r}")
    return result


def close_share(some: Sequence[tuple[str, str, str]], model: str, limit: float) -> float:
    """How many of the swaps have a cosine above the limit."""
    one, other = (embed([swap[side] for swap in some], model) for side in (1, 2))
    return float(np.mean(np.sum(one * other, axis=1) >= limit))


def fitted(pairs: Sequence[Pair]) -> Prior:
    """What the pairs that pass the guards teach, from knowing nothing. `prior` says why it keeps an older fit.

    Questions asked again in the same words hold the curve at a similarity of 1: their answer is right.
    """
    experience = Acceptance(UNKNOWN, 0.01)
    passing = [pair for pair in pairs if pair.passes]
    for pair in passing:
        experience.observe(pair.entry, Evidence(pair.similarity, pair.distance), right=pair.same)
    for number in range(ANCHORS):
        experience.observe(b"itself %d" % number, Evidence(1.0, 0.0), right=True)
    experience.settle(5)
    mean, covariance = experience.population()
    rounded = tuple(tuple(round(float(x), 4) for x in row) for row in covariance)
    return Prior(tuple(round(float(x), 3) for x in mean), rounded, UNKNOWN.entry_variance, len(passing))


def as_code(prior: Prior) -> str:
    """A line for `answers/near/prior.py`."""
    return f'    "{MODEL.lower()}": {prior!r},'


def size_of(pairs: Sequence[Pair]) -> dict[str, int]:
    """How many pairs, and how many of the same meaning."""
    return {"pairs": len(pairs), "same": sum(pair.same for pair in pairs)}


def table(report: dict[str, Any]) -> str:
    """Markdown."""
    lines = [
        f"Test half: {report['test']['pairs']} pairs, {report['test']['same']} of the same meaning.", "",
        "| served if | right | recall | wrong, as labelled | wrong of all served | 95 % bound | wrong, as read |",
        "|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    lines += [
        f"| {row['name']} | {row['right']} | {row['recall']:.1%} | {row['wrong']} | {row['wrong_share']:.1%} "
        f"| {row['wrong_bound']:.1%} | {'–' if row['wrong_as_read'] is None else row['wrong_as_read']} |"
        for row in report["policies"]
    ]
    lines += [
        "",
        "| real questions with one thing changed | made | guards let through | cosine above the 5 % limit |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| {kind} | {row['made']} | {row['served']} | {'–' if row['close'] is None else format(row['close'], '.0%')} |"
        for kind, row in report["swaps"].items()
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
