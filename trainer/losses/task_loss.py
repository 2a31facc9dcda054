"""The loss of one task: cross-entropy over valid pixels, and what may be added for rare classes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from segmentation_models_pytorch.losses import LovaszLoss
from torch import Tensor, nn
from torch.nn import functional as F

from ..data.sample import UNLABELLED

__all__ = ["TaskLoss"]


class TaskLoss(nn.Module):
    """Loss of logits against class maps; ignored classes and unknown pixels do not count.

    Args:
        ignored: whether a class is left out, K of them.
        weights: of the classes in the cross-entropy, [K]; None weighs all alike. See `class_weights`.
        prior: logarithms of the classes' shares, [K], added to the logits while training, so that the network learns
            what makes a class likely beside its frequency; None adds nothing. See `log_prior`.
        strength: of the prior.
        lovasz: weight of a Lovasz-softmax term (Berman et al. 2018), which follows IoU; 0 leaves it out.

    Raises:
        ValueError: weights and prior at once, which would count frequencies twice; or a number that is negative.
    """

    weights: Tensor | None
    prior: Tensor | None
    ignored: Tensor

    def __init__(
        self,
        ignored: Sequence[bool],
        *,
        weights: Tensor | None = None,
        prior: Tensor | None = None,
        strength: float = 1.0,
        lovasz: float = 0.0,
    ) -> None:
        super().__init__()
        if weights is not None and prior is not None:
            raise ValueError("class weights and logit adjustment both answer frequencies; choose one of them")
        if strength < 0 or lovasz < 0:
            raise ValueError(f"strength {strength:g} and Lovasz weight {lovasz:g}, expected 0 or more; correct them")
        self.register_buffer("weights", weights, persistent=False)
        self.register_buffer("prior", None if prior is None else strength * prior, persistent=False)
        self.register_buffer("ignored", torch.tensor([*ignored, True]), persistent=False)
        self._classes = len(ignored)
        self._lovasz_weight = lovasz
        self._lovasz = LovaszLoss("multiclass", per_image=False, ignore_index=UNLABELLED, from_logits=True)

    def forward(
        self, logits: Tensor, labels: Tensor, *, averaged: Callable[[Tensor], Tensor] = lambda count: count
    ) -> Tensor:
        """Mean loss over the valid pixels; 0, with a gradient of 0, where there are none.

        Args:
            logits: [B, K, Y, X].
            labels: classes, integers [B, Y, X]; 255 where not known.
            averaged: mean over processes of the number that the sum is divided by. With it the mean of the losses and
                gradients of all processes is that of one process that has all patches.
        """
        known = torch.where(labels == UNLABELLED, self._classes, labels.long())
        target = torch.where(self.ignored[known], UNLABELLED, known)
        valid = target != UNLABELLED
        logits = logits.float()  # sums over a million pixels want more than bf16
        adjusted = logits if self.prior is None else logits + self.prior[:, None, None]
        loss = F.cross_entropy(adjusted, target, weight=self.weights, ignore_index=UNLABELLED, reduction="none")
        count = valid.sum().float() if self.weights is None else self.weights[target[valid]].sum()
        total = loss.sum() / averaged(count).clamp(min=torch.finfo(loss.dtype).tiny)
        if self._lovasz_weight and bool(valid.any()):
            term: Tensor = self._lovasz(logits, target)
            total = total + self._lovasz_weight * term
        return total
