"""Sum of a series' maps over its dates, weighted by an attention, in plain PyTorch."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

__all__ = ["naive", "temporal_aggregate"]


def temporal_aggregate(features: Tensor, attention: Tensor) -> Tensor:
    """Sum features over dates; head h of the attention weighs the h-th share of the channels.

    Args:
        features: [B, T, C, Y, X], finite; C is a multiple of H.
        attention: [B, H, T, Y', X'], zero on masked dates; resized bilinearly where its size is another.

    Returns:
        [B, C, Y, X]; zero with T = 0.
    """
    B, T, C, Y, X = features.shape
    H = attention.shape[1]
    if attention.shape[-2:] != (Y, X) and T > 0:
        flat = F.interpolate(attention.flatten(1, 2), size=(Y, X), mode="bilinear", align_corners=False)
        attention = flat.reshape(B, H, T, Y, X)
    weight = attention.transpose(1, 2)[:, :, :, None]  # [B, T, H, 1, Y, X]
    return (features.reshape(B, T, H, C // H, Y, X) * weight).sum(1).reshape(B, C, Y, X)


def naive(features: Tensor, attention: Tensor) -> Tensor:
    """The same as `temporal_aggregate` for equal sizes, one channel and date after the other."""
    B, T, C, Y, X = features.shape
    H = attention.shape[1]
    total = features.new_zeros(B, C, Y, X)
    for channel in range(C):
        for date in range(T):
            total[:, channel] += features[:, date, channel] * attention[:, channel // (C // H), date]
    return total
