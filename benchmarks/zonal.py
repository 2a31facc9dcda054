"""A raster mapped as FLAIR-HUB's zonal tool maps it, in plain PyTorch: the peer where that tool itself is not given.

Its habits, from its documentation and shipped settings: squares of 2,048 px, each read through one window that may
reach beyond the raster (zeros there), with a margin of 512 px on every side that is thrown away; one square at a time;
float32; logits of all classes at full size go to NumPy, which takes the largest; labels alone are written, as LZW.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
import torch
from numpy.typing import NDArray
from rasterio.windows import Window

from uperfuse.engine.flairhub import MODALITIES

__all__ = ["EQUAL", "SHIPPED", "Squares", "map_zonally"]

_FACTS = MODALITIES["AERIAL_RGBI"]

Network = Callable[[torch.Tensor], torch.Tensor]
"""From normalised pixels [1, C, Y, X] to logits [1, K, Y, X]."""


@dataclass(frozen=True)
class Squares:
    """How a raster is cut.

    Attributes:
        side_px: of a square.
        margin_px: of its rim that is thrown away.
    """

    side_px: int
    margin_px: int

    def __str__(self) -> str:
        return f"squares of {self.side_px} px, margin {self.margin_px} px"

    def corners(self, length_px: int) -> list[int]:
        """First pixels along one axis; the first square begins a margin outside, the last is shifted inwards."""
        step, last = self.side_px - 2 * self.margin_px, length_px + self.margin_px - self.side_px
        starts = range(-self.margin_px, length_px + self.margin_px, step)
        return sorted({min(start, last) for start in starts})

    def count(self, length_px: int) -> int:
        """Squares of a raster of so many rows and columns."""
        return len(self.corners(length_px)) ** 2


SHIPPED = Squares(2048, 512)
"""The tool's shipped settings."""

EQUAL = Squares(512, 64)
"""The overlap of our own tiles."""


def map_zonally(network: Network, path: Path, out: Path, *, squares: Squares) -> Path:
    """Write the labels of a raster.

    Args:
        network: in PyTorch, for squares of this size.
        path: of an aerial raster in the published networks' bands.
        out: of the map.
        squares: how the raster is cut.
    """
    means, deviations = (
        np.array([_FACTS.statistics[band][place] for band in _FACTS.usual], np.float32)[:, None, None]
        for place in (0, 1)
    )
    with rasterio.open(path) as raster:
        profile = {**raster.profile, "count": 1, "dtype": "uint8", "compress": "lzw", "predictor": 1}
        with rasterio.open(out, "w", **profile) as labels:
            for row, column in _places(squares, raster.height, raster.width):
                window = Window(column, row, squares.side_px, squares.side_px)
                pixels = raster.read(window=window, boundless=True, fill_value=0)
                found = _largest(network, (pixels - means) / deviations, margin_px=squares.margin_px)
                _write(labels, found, row=row + squares.margin_px, column=column + squares.margin_px)
    return out


def _places(squares: Squares, height: int, width: int) -> Iterator[tuple[int, int]]:
    return ((row, column) for column in squares.corners(width) for row in squares.corners(height))


def _largest(network: Network, pixels: NDArray[np.float32], *, margin_px: int) -> NDArray[np.uint8]:
    with torch.no_grad():
        logits = network(torch.from_numpy(pixels)[None])[0].numpy()
    core = slice(margin_px, logits.shape[1] - margin_px)
    found: NDArray[np.uint8] = logits[:, core, core].argmax(0).astype(np.uint8)
    return found


def _write(labels: rasterio.io.DatasetWriter, found: NDArray[np.uint8], *, row: int, column: int) -> None:
    """Paste a core; what lies outside of the raster is dropped."""
    top, left = max(-row, 0), max(-column, 0)
    cut = found[top : labels.height - row, left : labels.width - column]
    window = Window(column + left, row + top, cut.shape[1], cut.shape[0])
    labels.write(cut, 1, window=window)
