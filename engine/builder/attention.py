"""A series' temporal attention between the two halves of its encoder, in plain NumPy: the truth that a cut is held to.

The formulas are those of the kernels `temporal_attention` and `temporal_aggregate`; all sums are float64.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .part_graph import AttentionArrays

__all__ = ["EPSILON", "aggregate", "attend", "positions"]

EPSILON = 1e-5
"""Added to the variance by the normalisation in front of the attention."""

_Array = NDArray[np.floating[Any]]
_Float64 = NDArray[np.float64]


def positions(days: _Array, *, entries: int, period: float) -> _Float64:
    """Sinusoids of days, sine on even and cosine on odd entries.

    Args:
        days: [B, T] days from the reference date.
        entries: of a position, P.
        period: of the slowest sinusoid, in days over 2 pi.

    Returns:
        [B, T, P].
    """
    index = np.arange(entries)
    angle = days.astype(np.float64)[..., None] / period ** (2 * (index // 2) / entries)
    return np.where(index % 2 == 0, np.sin(angle), np.cos(angle))


def attend(features: _Array, days: _Array, mask: _Array, *, arrays: AttentionArrays) -> tuple[_Float64, _Float64]:
    """Weigh the dates of every pixel.

    Args:
        features: [B, T, Y, X, C].
        days: [B, T] days from the reference date.
        mask: [B, T], 1 for a real date, 0 for padding.
        arrays: parameters.

    Returns:
        Context [B, Y, X, D], heads outermost among its channels, and attention [B, T, Y, X, H]; both are zero where
        every date is masked.
    """
    B, T, Y, X, C = features.shape
    H, P = arrays.score_position.shape
    real = (mask != 0)[:, :, None, None, None]
    grouped = np.where(real, features, 0).astype(np.float64).reshape(B, T, Y, X, H, C // H)
    count = np.maximum((mask != 0).sum(1) * (C // H), 1).reshape(B, 1, 1, 1, 1, 1)
    mean = grouped.sum((1, 5), keepdims=True) / count
    centred = (grouped - mean) * real[..., None]
    deviation = np.sqrt((centred**2).sum((1, 5), keepdims=True) / count + EPSILON)
    normal = (centred / deviation).reshape(B, T, Y, X, C) * arrays.norm_scale + arrays.norm_shift
    position = positions(days, entries=P, period=arrays.period)  # [B, T, P]

    by_date = position @ arrays.score_position.T.astype(np.float64) + arrays.score_bias  # [B, T, H]
    scores = normal @ arrays.score.T.astype(np.float64) + by_date[:, :, None, None]
    scores = np.where(real, scores, -np.inf)
    highest = scores.max(1, keepdims=True, initial=np.finfo(np.float64).min)
    share = np.exp(scores - highest) * real
    total = share.sum(1, keepdims=True)
    attention = share / np.where(total == 0, 1, total)

    gathered = np.einsum("btyxh,btyxc->byxhc", attention, normal)
    context = np.einsum("byxhc,hpc->byxhp", gathered, arrays.embed.reshape(H, P, C).astype(np.float64))
    context += attention.sum(1)[..., None] * arrays.embed_bias.reshape(H, P)
    context += np.einsum("btyxh,btp->byxhp", attention, position)
    return context.reshape(B, Y, X, H * P), attention


def aggregate(maps: _Array, attention: _Float64) -> _Float64:
    """Sum maps over dates; head h of the attention weighs the h-th share of the channels.

    Args:
        maps: [B, T, Y, X, C].
        attention: [B, T, Y, X, H], zero on masked dates.

    Returns:
        [B, Y, X, C].
    """
    B, T, Y, X, C = maps.shape
    H = attention.shape[-1]
    shares = maps.astype(np.float64).reshape(B, T, Y, X, H, C // H) * attention[..., None]
    total: _Float64 = shares.sum(1).reshape(B, Y, X, C)
    return total
