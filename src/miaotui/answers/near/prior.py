"""What is known of an embedding model's similarities before the first observation."""

from __future__ import annotations

from typing import Final

from miaotui.answers.near.acceptance import Prior

# Nothing is served until much has been observed: even at a similarity of 1 the answer is right with a probability of
# about 0.6 only, and hardly anything is known of how that falls with the similarity.
UNKNOWN: Final = Prior((1.0, -1.0, -1.0), ((9.0, 0.0, 0.0), (0.0, 9.0, 0.0), (0.0, 0.0, 9.0)), (0.5, 0.0, 0.0))

# Fitted by benchmarks/near_hits.py --fit: pairs that pass the guards, and the same words asked again.
PRIORS: Final[dict[str, Prior]] = {
    "all-MiniLM-L6-v2": Prior(
        mean=(7.759, -2.837, 0.26),
        covariance=((0.6383, -0.374, 0.0467), (-0.374, 0.6321, -1.1511), (0.0467, -1.1511, 3.8098)),
        entry_variance=(0.5, 0.0, 0.0),
        num_pairs=154,
    ),
}


def prior_of(embedding_model: str) -> Prior:
    """The prior of an embedding model by its name, UNKNOWN for one that was never measured."""
    return PRIORS.get(embedding_model, UNKNOWN)
