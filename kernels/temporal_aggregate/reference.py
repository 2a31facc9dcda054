"""Sums of a series' maps over its dates, weighted by an attention, in plain PyTorch."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional as F

__all__ = ["backward", "naive", "temporal_aggregate"]


def temporal_aggregate(maps: Sequence[Tensor], attention: Tensor) -> list[Tensor]:
    """Sum maps over dates; head h of the attention weighs the h-th share of the channels.

    Args:
        maps: [B, T, C_i, Y_i, X_i] each, finite; C_i is a multiple of H.
        attention: [B, H, T, Y, X], zero on masked dates; resized bilinearly (half-pixel centres) where a map's size is
            another.

    Returns:
        [B, C_i, Y_i, X_i] each; zero with T = 0.
    """
    return [_aggregate(features, attention) for features in maps]


def _aggregate(features: Tensor, attention: Tensor) -> Tensor:
    B, T, C, Y, X = features.shape
    H = attention.shape[1]
    weight = resized(attention, size=(Y, X)).transpose(1, 2)[:, :, :, None]  # [B, T, H, 1, Y, X]
    return (features.reshape(B, T, H, C // H, Y, X) * weight).sum(1).reshape(B, C, Y, X)


def resized(attention: Tensor, *, size: tuple[int, int]) -> Tensor:
    """The attention [B, H, T, *size] at a map's size."""
    B, H, T = attention.shape[:3]
    if attention.shape[-2:] == size or T == 0:
        return attention.reshape(B, H, T, *size) if T == 0 else attention
    return F.interpolate(attention.flatten(1, 2), size=size, mode="bilinear", align_corners=False).reshape(
        B, H, T, *size
    )


def backward(maps: Sequence[Tensor], attention: Tensor, gradients: Sequence[Tensor]) -> tuple[list[Tensor], Tensor]:
    """Gradients of `temporal_aggregate` for maps of the attention's size.

    Args:
        maps: [B, T, C_i, Y, X] each.
        attention: [B, H, T, Y, X].
        gradients: of the sums, [B, C_i, Y, X] each.

    Returns:
        Gradients of the maps and of the attention.
    """
    B, H, T, Y, X = attention.shape
    weight = attention.transpose(1, 2)[:, :, :, None]  # [B, T, H, 1, Y, X]
    to_maps = []
    to_attention = attention.new_zeros(B, T, H, Y, X)
    for features, gradient in zip(maps, gradients, strict=True):
        arrived = gradient.reshape(B, 1, H, -1, Y, X)
        to_maps.append((arrived * weight).reshape(features.shape))
        to_attention = to_attention + (features.reshape(B, T, H, -1, Y, X) * arrived).sum(3)
    return to_maps, to_attention.transpose(1, 2)


def naive(features: Tensor, attention: Tensor) -> Tensor:
    """The sum of one map of the attention's size, one channel and date after the other."""
    B, T, C, Y, X = features.shape
    H = attention.shape[1]
    total = features.new_zeros(B, C, Y, X)
    for channel in range(C):
        for date in range(T):
            total[:, channel] += features[:, date, channel] * attention[:, channel // (C // H), date]
    return total
