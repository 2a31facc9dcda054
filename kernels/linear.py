"""The linear resize of one axis as a matrix, whose transpose takes gradients back."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["resize_weights"]


def resize_weights(source: int, size: int, *, like: Tensor) -> Tensor:
    """Weights of a half-pixel-centred linear resize without smoothing, as `interpolate` has them.

    Args:
        source: entries of the axis.
        size: entries of the resized axis.
        like: tensor whose device and dtype the weights take; they are made in float32 at least.

    Returns:
        [size, source]; rows sum to one.

    Example:
        >>> resize_weights(2, 4, like=torch.zeros(()))[1]
        tensor([0.7500, 0.2500])
    """
    dtype = torch.promote_types(like.dtype, torch.float32)
    place = (torch.arange(size, device=like.device, dtype=dtype) + 0.5) * (source / size) - 0.5
    distance = place.clamp(0, source - 1)[:, None] - torch.arange(source, device=like.device, dtype=dtype)
    return (1 - distance.abs()).clamp(min=0).to(like.dtype)
