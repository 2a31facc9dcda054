"""CPU hot loops, compiled from csrc/. Work is shared among `threads` threads; no result depends on their number."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .resize import AxisResize

def classify(
    logits: NDArray[np.float32],
    *,
    rows: AxisResize,
    columns: AxisResize,
    out: tuple[NDArray[np.uint8], NDArray[np.uint8]] | None = None,
    threads: int = 1,
    level: str | None = None,
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Resize the logits of one tile, take the largest and its softmax probability.

    Args:
        logits: float32 [K, h, w], K from 1 to 255; the last axis contiguous, the others at any stride.
        rows: how h becomes Y.
        columns: how w becomes X.
        out: labels and confidence, uint8 [Y, X] each, to be filled; the last axis contiguous. New arrays if None.
        threads: at least 1.
        level: one of `levels()`; the first if None.

    Returns:
        Labels (of equal logits the first) and confidence in percent, uint8 [Y, X]; the arrays of `out` if given.

    Raises:
        TypeError: a wrong type or dtype.
        ValueError: a wrong shape, stride, table or level; NaN or infinite logits, with their count.
    """

def prepare(
    tile: NDArray[Any],
    *,
    out: NDArray[np.float32],
    band: Sequence[int],
    minus: Sequence[int],
    mean: Sequence[float],
    std: Sequence[float],
    void: NDArray[np.bool_] | None = None,
    threads: int = 1,
    level: str | None = None,
) -> int:
    """Turn digital numbers into channels `(tile[band] - tile[minus] - mean) / std`, in float32 like PyTorch.

    Args:
        tile: uint8, uint16, int16 or float32 [C, Y, X] at any strides.
        out: float32 [channels, Y, X] to be filled, exactly 0 where void; the last axis contiguous. It shares no
            memory with `tile`.
        band: per channel the band it takes.
        minus: per channel the band subtracted from it, -1 for none.
        mean: per channel.
        std: per channel, above 0.
        void: bool [Y, X] at any strides, True where a pixel is void. Nothing is void if None.
        threads: at least 1.
        level: one of `levels()`; the first if None.

    Returns:
        How many values of the bands in use are NaN or infinite at pixels that are not void. Callers refuse the tile
        unless it is 0.

    Raises:
        TypeError: a wrong type or dtype.
        ValueError: a wrong shape, stride, band, std or level.
    """

def levels() -> tuple[str, ...]:
    """Name the instruction sets this processor runs, fastest first: "avx512", "avx2", "baseline"."""
