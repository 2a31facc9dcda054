"""Footprints: what coarse pixels see of a fine world.

The sides of all sensors' pixels fit 51.2 m: 256 aerial pixels, 128 historical, 32 SPOT, 5 Sentinel. A world is
therefore built on a whole number of such blocks, and every sensor's raster covers it.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from .noise import Floats

__all__ = ["BLOCK_M", "BLOCK_PX", "Footprints", "cell_means", "cells_in", "pixel_means"]

BLOCK_M = 51.2
BLOCK_PX = 256
_CELLS = 5


def cells_in(size_px: int) -> int:
    """Return how many 10.24 m cells cover `size_px` aerial pixels, rounded up."""
    return -(-size_px * _CELLS // BLOCK_PX)


def pixel_means(values: Floats, factor: int) -> Floats:
    """Average the last two axes over squares of `factor` pixels."""
    height, width = values.shape[-2] // factor, values.shape[-1] // factor
    squares = values.reshape(*values.shape[:-2], height, factor, width, factor)
    means: Floats = squares.mean((-3, -1), dtype=np.float32)
    return means


def cell_means(values: Floats) -> Floats:
    """Average a raster [Y, X] of aerial pixels, whole blocks of it, over 10.24 m cells that share border pixels."""
    edges = np.arange(_CELLS + 1) * (BLOCK_PX / _CELLS)
    pixels = np.arange(BLOCK_PX)[None, :]
    overlap = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    weights = (np.clip(overlap, 0, 1) * (_CELLS / BLOCK_PX)).astype(np.float32)  # [5, 256]
    height, width = values.shape
    rows = weights @ values.reshape(-1, BLOCK_PX, width)
    cells: Floats = rows.reshape(-1, width // BLOCK_PX, BLOCK_PX) @ weights.T
    return cells.reshape(height * _CELLS // BLOCK_PX, width * _CELLS // BLOCK_PX)


class Footprints:
    """The shares that surfaces have in each 10.24 m cell of a raster of surfaces [Y, X], whole blocks of it."""

    def __init__(self, entity: NDArray[np.int16]) -> None:
        height, width = entity.shape
        rows, self._columns = height * _CELLS // BLOCK_PX, width * _CELLS // BLOCK_PX
        column = ((np.arange(width) + 0.5) * _CELLS / BLOCK_PX).astype(np.intp)
        edges = np.round(np.arange(rows + 1) * (BLOCK_PX / _CELLS)).astype(int)
        self._rows: list[tuple[NDArray[np.intp], Floats]] = []
        kinds = int(entity.max()) + 1
        for top, bottom in pairwise(edges):
            counts = np.bincount((column * kinds + entity[top:bottom]).ravel(), minlength=self._columns * kinds)
            counts = counts.reshape(self._columns, kinds)
            present = np.flatnonzero(counts.any(0))
            shares = counts[:, present] / counts.sum(1, keepdims=True)
            self._rows.append((present, shares.astype(np.float32)))

    def mean(self, values: Floats) -> Floats:
        """Return the mean over each cell of `values`, given per surface: float32 [N, ...] -> [Y, X, ...]."""
        flat = values.reshape(len(values), -1)
        cells = np.stack([shares @ flat[present] for present, shares in self._rows])
        return cells.reshape(len(self._rows), self._columns, *values.shape[1:])
