"""How a raster lies on the disk: in blocks, each of which GDAL decodes as a whole."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from .grid import Grid

__all__ = ["BlockLayout"]

_COMPLEX_INT16 = "complex_int16"  # NumPy has no such type


@dataclass(frozen=True)
class BlockLayout:
    """The blocks of a raster.

    Attributes:
        grid: its pixels.
        block_yx: rows and columns of a block.
        pixel_bytes: of all bands of a pixel, decoded.
    """

    grid: Grid
    block_yx: tuple[int, int]
    pixel_bytes: int

    @classmethod
    def of(cls, dataset: Any, grid: Grid) -> BlockLayout:
        """The layout of an open raster."""
        rows, columns = dataset.block_shapes[0]
        sizes = (4 if dtype == _COMPLEX_INT16 else np.dtype(dtype).itemsize for dtype in dataset.dtypes)
        return cls(grid, (rows, columns), sum(sizes))

    @property
    def in_strips(self) -> bool:
        """Whether a block is as wide as the raster."""
        return self.block_yx[1] >= self.grid.shape_yx[1]

    def bytes_around(self, height: float, width: float) -> int:
        """Bytes of all blocks that a rectangle of so many pixels touches, wherever it lies, at most."""
        if not height or not width:
            return 0
        touched = [
            min(math.ceil((side - 1) / block) + 1, math.ceil(whole / block)) * block
            for side, block, whole in zip((height, width), self.block_yx, self.grid.shape_yx, strict=True)
        ]
        return touched[0] * touched[1] * self.pixel_bytes
