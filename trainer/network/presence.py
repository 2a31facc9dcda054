"""Which tiles of a batch have a modality: these are encoded, and its stand-in takes the place of the others."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["looked_twice", "rows_to_encode", "spread", "substituted"]

Maps = list[Tensor]


def rows_to_encode(present: Tensor) -> Tensor:
    """Indices of the rows that are present [B], and absent ones that make them two, if there are two.

    Processes that train together wait for each other in every layer, so that none may leave a sensor out; and a batch
    norm learns nothing from a single value, which a single row's pooled map is.
    """
    ordered = present.bool().logical_not().sort(stable=True).indices
    least = min(2, len(present))
    return ordered[: max(int(present.sum()), least)].sort().values


def spread(values: Tensor, rows: Tensor, count: int) -> Tensor:
    """Of `count` rows those that are given, and zeros."""
    return values.new_zeros((count, *values.shape[1:])).index_copy(0, rows, values)


def substituted(maps: Sequence[Tensor], stand_in: Sequence[Tensor], present: Tensor) -> Maps:
    """Maps [B, C_l, Y, X] of the rows that are present [B], and the stand-in [1, C_l, 1, 1] in the others."""
    there = present.bool()[:, None, None, None]
    return [torch.where(there, each, other) for each, other in zip(maps, stand_in, strict=True)]


def looked_twice(maps: Sequence[Tensor], again: Sequence[Tensor]) -> Maps:
    """Maps of first looks, and below them those of second ones."""
    return [torch.cat(both) for both in zip(maps, again, strict=True)]
