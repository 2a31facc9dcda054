"""Logits to labels and confidence at the map's size, in plain PyTorch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["VOID", "Classified", "Resize", "classify", "naive"]

VOID = 255
"""Label and confidence of a pixel that has none."""


@dataclass(frozen=True)
class Resize:
    """One bilinear resize, as `torch.nn.functional.interpolate` computes it.

    Attributes:
        shape_yx: rows and columns after it.
        align_corners: the corner pixels' centres stay in place; otherwise the map's corners do (half-pixel centres).
    """

    shape_yx: tuple[int, int]
    align_corners: bool


class Classified(NamedTuple):
    """What `classify` finds.

    Attributes:
        labels: uint8 [B, Y, X], the class with the largest logit, of equals the first; 255 where the pixel is void, and
            where a logit that counts is NaN or infinite.
        confidence: uint8 [B, Y, X], its softmax probability in percent, rounded half up; 255 as in the labels.
        broken: int64 [B], how many pixels are 255 without being void. A map in which this is not 0 must be refused; it
            stays on the device, so that the caller chooses when to wait for it.
    """

    labels: Tensor
    confidence: Tensor
    broken: Tensor


def classify(logits: Tensor, *, resizes: Sequence[Resize] = (), void: Tensor | None = None) -> Classified:
    """Resize logits, take the largest and its softmax probability, and leave out what is void.

    Args:
        logits: [B, K, Y, X] at the decoder's size, K up to 255.
        resizes: from there to the size of the map, in order; none at all classifies the logits as they are.
        void: bool or uint8 [B, Y, X] at the map's size, not 0 where a pixel is void.

    Returns:
        Labels, confidence and the number of broken pixels.
    """
    full = logits if logits.dtype == torch.float64 else logits.float()
    # an infinity beside finite logits would vanish in the softmax
    full = torch.where(full.isfinite(), full, torch.nan)
    for resize in resizes:
        full = F.interpolate(full, size=resize.shape_yx, mode="bilinear", align_corners=resize.align_corners)
    best, label = full.max(dim=1)  # NaN where any logit is
    probability = 1 / (full - best[:, None]).exp().sum(dim=1)
    good = best.isfinite()
    broken = ~good
    if void is not None:
        seen = void == 0
        good, broken = good & seen, broken & seen
    percent = torch.where(good, (100 * probability + 0.5).floor(), VOID)
    return Classified(
        labels=torch.where(good, label, VOID).to(torch.uint8),
        confidence=percent.to(torch.uint8),
        broken=broken.sum(dim=(1, 2)),
    )


def naive(logits: Tensor, *, resizes: Sequence[Resize] = (), void: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Labels and confidence of finite logits, pixel by pixel."""
    B, _, *shape = logits.shape
    Y, X = resizes[-1].shape_yx if resizes else shape
    labels, confidence = (torch.empty(B, Y, X, dtype=torch.uint8) for _ in range(2))
    for b in range(B):
        for y in range(Y):
            for x in range(X):
                if void is not None and void[b, y, x]:
                    labels[b, y, x] = confidence[b, y, x] = VOID
                    continue
                at = _at(logits[b], y, x, resizes)
                labels[b, y, x] = int((at == at.max()).nonzero()[0])
                confidence[b, y, x] = int(100 * at.softmax(0).max() + 0.5)
    return labels, confidence


def _at(logits: Tensor, y: int, x: int, resizes: Sequence[Resize]) -> Tensor:
    """Logits [K] of one pixel after the resizes: a weighted mean of four pixels before the last one."""
    if not resizes:
        return logits[:, y, x]
    *before, last = resizes
    shape = before[-1].shape_yx if before else logits.shape[1:]
    (y0, y1, fy), (x0, x1, fx) = (
        _neighbours(place, source, size, align_corners=last.align_corners)
        for place, source, size in zip((y, x), shape, last.shape_yx, strict=True)
    )
    upper = (1 - fx) * _at(logits, y0, x0, before) + fx * _at(logits, y0, x1, before)
    lower = (1 - fx) * _at(logits, y1, x0, before) + fx * _at(logits, y1, x1, before)
    return (1 - fy) * upper + fy * lower


def _neighbours(place: int, source: int, size: int, *, align_corners: bool) -> tuple[int, int, float]:
    at = place * (source - 1) / max(size - 1, 1) if align_corners else max((place + 0.5) * source / size - 0.5, 0.0)
    first = min(int(at), source - 1)
    return first, min(first + 1, source - 1), at - first
