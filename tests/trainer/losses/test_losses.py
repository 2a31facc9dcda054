"""Losses against their definitions, in float64 and on cases that can be read."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from uperfuse.trainer.losses import TaskLoss, class_weights, log_prior

IGNORED = (False, False, False, True)
PIXELS = np.array([800, 150, 50, 4000])


def drawn(*, seed: int = 0, unknown: float = 0.2) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(seed)
    logits = torch.randn(2, 4, 9, 7, requires_grad=True)
    labels = torch.randint(0, 4, (2, 9, 7))
    labels[torch.rand(labels.shape) < unknown] = 255
    return logits, labels.to(torch.uint8)


def valid_pixels(logits: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits [N, K] and classes [N] of the pixels that count."""
    counts = labels < 3
    return logits.detach().movedim(1, -1)[counts].double(), labels[counts].long()


def test_cross_entropy_counts_valid_pixels_alone():
    logits, labels = drawn()
    loss = TaskLoss(IGNORED)(logits, labels)
    assert loss.item() == pytest.approx(F.cross_entropy(*valid_pixels(logits, labels)).item(), rel=1e-6)
    loss.backward()
    gradient = logits.grad.movedim(1, -1)
    assert not gradient[labels >= 3].any()
    assert gradient[labels < 3].abs().sum(-1).min() > 0


def test_weights_make_rare_classes_heavier():
    logits, labels = drawn()
    weights = class_weights(PIXELS, ignored=IGNORED)
    assert weights[3] == 0
    share = torch.tensor([0.8, 0.15, 0.05])
    torch.testing.assert_close(weights[:3] / weights[0], (share / 0.8) ** -0.5)
    assert (weights[:3] * share).sum().item() == pytest.approx(1)
    x, y = valid_pixels(logits, labels)
    expected = F.cross_entropy(x, y, weight=weights.double())
    assert TaskLoss(IGNORED, weights=weights)(logits, labels).item() == pytest.approx(expected.item(), rel=1e-6)
    np.testing.assert_allclose(class_weights(PIXELS, ignored=IGNORED, power=0)[:3], 1)
    even = class_weights(PIXELS, ignored=IGNORED, power=1)[:3] * share
    torch.testing.assert_close(even, even[:1].expand(3))


def test_logit_adjustment_learns_what_is_left_beside_frequency():
    logits, labels = drawn()
    prior = log_prior(PIXELS, ignored=IGNORED)
    torch.testing.assert_close(prior.exp(), torch.tensor([0.8, 0.15, 0.05, 0.05]))
    x, y = valid_pixels(logits, labels)
    expected = F.cross_entropy(x + 0.5 * prior.double(), y)
    loss = TaskLoss(IGNORED, prior=prior, strength=0.5)(logits, labels)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    # a constant network that has learnt nothing but frequencies has no reason to move
    flat = torch.zeros(1, 4, 1, 1000, requires_grad=True)
    truth = torch.from_numpy(np.repeat([0, 1, 2], [800, 150, 50])).to(torch.uint8).view(1, 1, 1000)
    three = log_prior(PIXELS[:3], ignored=IGNORED[:3])
    TaskLoss(IGNORED[:3], prior=three)(flat[:, :3], truth).backward()
    assert flat.grad.sum(-1).abs().max() < 1e-6


def test_the_lovasz_term_is_the_loss_of_iou_for_hard_maps():
    truth = torch.tensor([[[0, 0, 0, 1, 1, 2, 255, 3]]], dtype=torch.uint8)
    found = torch.tensor([[[0, 0, 1, 1, 1, 2, 0, 1]]])
    hard = 50.0 * F.one_hot(found, 4).movedim(-1, 1).float()
    term = TaskLoss(IGNORED, lovasz=1.0)(hard, truth) - TaskLoss(IGNORED)(hard, truth)
    ious = [2 / 3, 2 / 3, 1.0]
    assert term.item() == pytest.approx(1 - np.mean(ious), abs=1e-5)


def test_without_a_valid_pixel_the_loss_is_zero_and_so_is_its_gradient():
    logits, labels = drawn()
    for kind in (TaskLoss(IGNORED), TaskLoss(IGNORED, lovasz=1.0), TaskLoss(IGNORED, weights=torch.ones(4))):
        loss = kind(logits, torch.full_like(labels, 255))
        loss.backward()
        assert loss.item() == 0
        assert not logits.grad.any()
        logits.grad = None


def test_bf16_logits_lose_nothing_in_the_sum():
    logits, labels = drawn()
    short = logits.detach().bfloat16()
    assert TaskLoss(IGNORED)(short, labels).item() == TaskLoss(IGNORED)(short.float(), labels).item()


def test_what_does_not_go_together_is_refused():
    with pytest.raises(ValueError, match="choose one of them"):
        TaskLoss(IGNORED, weights=torch.ones(4), prior=torch.zeros(4))
    with pytest.raises(ValueError, match="expected 0 or more"):
        TaskLoss(IGNORED, lovasz=-1)
    with pytest.raises(ValueError, match="no pixel of an evaluated class"):
        class_weights(np.array([0, 0, 0, 9]), ignored=IGNORED)
    with pytest.raises(ValueError, match=r"pixels of \(3,\) classes, expected 4"):
        log_prior(PIXELS[:3], ignored=IGNORED)
    with pytest.raises(ValueError, match="power of -1"):
        class_weights(PIXELS, ignored=IGNORED, power=-1)
