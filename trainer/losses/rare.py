"""Numbers that follow from how often classes occur."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["class_weights", "log_prior"]

_LEAST_SHARE = 1e-6


def class_weights(pixels: NDArray[np.integer], *, ignored: Sequence[bool], power: float = 0.5) -> Tensor:
    """Weights that grow as classes get rarer: one over a power of the share, with mean 1 over the valid pixels.

    Args:
        pixels: of each class in training, [K].
        ignored: whether a class is left out, K of them.
        power: 0 weighs all classes alike, 1 gives every class the same say.

    Returns:
        float32 [K]; 0 for classes that are ignored or do not occur.

    Raises:
        ValueError: no valid pixel, or a power that is negative.
    """
    share = _shares(pixels, ignored)
    if power < 0:
        raise ValueError(f"power of {power:g}, expected 0 or more; it makes rare classes heavier")
    occurs = share > 0
    weights = np.where(occurs, np.maximum(share, _LEAST_SHARE) ** -power, 0.0)
    return torch.tensor(weights / (weights * share).sum(), dtype=torch.float32)


def log_prior(pixels: NDArray[np.integer], *, ignored: Sequence[bool]) -> Tensor:
    """Logarithms of the classes' shares, for logit adjustment (Menon et al. 2021).

    Args:
        pixels: of each class in training, [K].
        ignored: whether a class is left out, K of them.

    Returns:
        float32 [K]; a class that is ignored or does not occur counts as the rarest that does.

    Raises:
        ValueError: no valid pixel.
    """
    share = _shares(pixels, ignored)
    least = max(share[share > 0].min(), _LEAST_SHARE)
    return torch.tensor(np.log(np.maximum(share, least)), dtype=torch.float32)


def _shares(pixels: NDArray[np.integer], ignored: Sequence[bool]) -> NDArray[np.float64]:
    if pixels.shape != (len(ignored),):
        raise ValueError(f"pixels of {pixels.shape} classes, expected {len(ignored)}; give a count for each")
    valid = np.where(np.array([*ignored], np.bool_), 0, pixels).astype(np.float64)
    if valid.sum() <= 0:
        raise ValueError("no pixel of an evaluated class, expected some; look at the labels with `uperfuse data check`")
    share: NDArray[np.float64] = valid / valid.sum()
    return share
