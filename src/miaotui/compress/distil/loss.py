"""How far the student's next-token distribution is from the teacher's, of which only the most likely tokens are kept.

With p the teacher's distribution, q the student's, and `rest` all tokens that were not kept, forward KL falls in two:

    KL(p || q) = KL over the kept tokens and the rest as one  +  p(rest) KL(p given rest || q given rest)

The first is computed. The second's gradient is that of the mean of -log q(x given rest) over tokens x that the teacher
draws; in text that it wrote itself the next token is such a draw. So on teacher-written text the gradient is that of
the whole divergence, in the mean, however few tokens are kept.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

LOGIT_ROWS = 256
"""Of logits that are there at once."""
_LEAST = 1e-6
"""What the rest may shrink to: below it float32 cannot tell 1 minus a sum of probabilities from 0."""


@dataclass(frozen=True, slots=True)
class Targets:
    """What is to be said at each row: the kept tokens int64 [rows, k] and their log-probabilities [rows, k].

    next_ids: the token that came, int64 [rows]; -1 where it says nothing about the teacher (the student wrote it).
    """

    top_ids: Tensor
    top_logprobs: Tensor
    next_ids: Tensor

    def rows(self, first: int, last: int) -> Targets:
        """Some of the rows."""
        return Targets(self.top_ids[first:last], self.top_logprobs[first:last], self.next_ids[first:last])


def divergence(logits: Tensor, targets: Targets) -> tuple[Tensor, Tensor]:
    """Sums over the rows of logits [rows, vocabulary]: the first part of the divergence, and the stand-in for the rest.

    The first is a figure to show, at least 0; their sum is what to minimize.
    """
    total = logits.logsumexp(dim=-1)
    q = logits.gather(-1, targets.top_ids) - total[:, None]
    p = targets.top_logprobs
    p_rest, q_rest = _log_rest(p), _log_rest(q)
    kept = (p.exp() * (p - q)).sum() + (p_rest.exp() * (p_rest - q_rest)).sum()
    drawn = (targets.next_ids >= 0) & (targets.top_ids != targets.next_ids[:, None]).all(dim=-1)
    rare = targets.next_ids.clamp(min=0)[:, None]
    tail = (q_rest - (logits.gather(-1, rare)[:, 0] - total)) * drawn
    return kept, tail.sum()


def _log_rest(logprobs: Tensor) -> Tensor:
    return (1 - logprobs.exp().sum(dim=-1)).clamp(min=_LEAST).log()


def accumulate(
    student_logits: Callable[[Tensor], Tensor], hidden: Tensor, targets: Targets, weight: float, rows: int = LOGIT_ROWS
) -> float:
    """Backpropagate `weight` times the divergence summed over hidden [tokens, width], some rows of logits at a time.

    Gives the sum's first part. Logits of a whole batch would take 4 bytes x tokens x vocabulary, three times over.
    """
    leaf = hidden.detach().requires_grad_()
    shown = 0.0
    for first in range(0, len(leaf), rows):
        logits = student_logits(leaf[first : first + rows]).float()
        kept, tail = divergence(logits, targets.rows(first, first + rows))
        ((kept + tail) * weight).backward()  # type: ignore[no-untyped-call]
        shown += float(kept.detach())
    hidden.backward(leaf.grad)  # type: ignore[no-untyped-call]
    return shown


def top_of(logits: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Ids and log-probabilities of each row's k most likely tokens, most likely first: [rows, k] both."""
    values, ids = torch.topk(logits, min(k, logits.shape[-1]), dim=-1)
    return ids, values - logits.logsumexp(dim=-1, keepdim=True)
