"""The divergence of the kept tokens is the whole one in the mean, and is computed in pieces without a difference."""

from __future__ import annotations

import pytest
import torch

from miaotui.compress.distil.loss import Targets, accumulate, divergence, top_of

ROWS, VOCABULARY, KEPT = 6, 30, 5


def logits(seed: int) -> torch.Tensor:
    return 2 * torch.randn(ROWS, VOCABULARY, generator=torch.Generator().manual_seed(seed))


def targets(teacher: torch.Tensor, k: int, next_ids: torch.Tensor | None = None) -> Targets:
    return Targets(*top_of(teacher, k), torch.full((len(teacher),), -1) if next_ids is None else next_ids)


def full_gradient(teacher: torch.Tensor, student: torch.Tensor) -> tuple[float, torch.Tensor]:
    q = student.clone().requires_grad_()
    p = teacher.log_softmax(dim=-1)
    loss = (p.exp() * (p - q.log_softmax(dim=-1))).sum()
    loss.backward()
    return float(loss.detach()), q.grad


def test_with_all_tokens_kept_it_is_the_whole_divergence() -> None:
    teacher, student = logits(1), logits(2).requires_grad_()
    kept, tail = divergence(student, targets(teacher, VOCABULARY))
    (kept + tail).backward()
    expected, gradient = full_gradient(teacher, student.detach())
    assert float(kept.detach()) == pytest.approx(expected, rel=1e-4)
    torch.testing.assert_close(student.grad, gradient, rtol=1e-3, atol=1e-4)


def test_over_what_the_teacher_draws_next_the_mean_gradient_is_that_of_the_whole_divergence() -> None:
    teacher = logits(3)
    shares = teacher.softmax(dim=-1)
    mean = torch.zeros(ROWS, VOCABULARY)
    for token in range(VOCABULARY):  # every token may come, as often as the teacher would say it
        student = logits(4).requires_grad_()
        kept, tail = 0, 0
        for row in range(ROWS):
            drawn = targets(teacher[row : row + 1], KEPT, torch.tensor([token]))
            first, second = divergence(student[row : row + 1], drawn)
            kept, tail = kept + first * shares[row, token], tail + second * shares[row, token]
        (kept + tail).backward()
        mean += student.grad
    torch.testing.assert_close(mean, full_gradient(teacher, logits(4))[1], rtol=1e-3, atol=1e-4)


def test_a_teacher_is_no_distance_from_itself() -> None:
    teacher = logits(5).requires_grad_()
    kept, tail = divergence(teacher, targets(teacher.detach(), KEPT))
    kept.backward()
    assert float(kept.detach()) == pytest.approx(0, abs=1e-4)
    assert float(tail.detach()) == 0
    assert float(teacher.grad.abs().max()) < 1e-4


def test_pieces_of_the_rows_give_the_same_gradient() -> None:
    rng = torch.Generator().manual_seed(7)
    head, hidden = torch.randn(VOCABULARY, 8, generator=rng), torch.randn(ROWS, 8, generator=rng)
    next_ids = torch.tensor([3, -1, 7, 8, 29, 0])
    gradients, shown = [], []
    for rows in (2, ROWS):
        x = hidden.clone().requires_grad_()
        shown.append(accumulate(lambda h: h @ head.T, x * 2, targets(logits(6), KEPT, next_ids), 0.5, rows))
        gradients.append(x.grad)
    assert shown[0] == pytest.approx(shown[1], rel=1e-5)
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-5)
