"""Bilinear resizing as one table per axis, so that several resizes cost one, and rows and columns are resized apart."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .errors import PlanError

__all__ = ["MAX_TAPS", "AxisResize", "axis_resize", "resize"]

MAX_TAPS = 4
"""Most neighbours that an output pixel may have along an axis; what the native loops are built for."""


@dataclass(frozen=True, eq=False)
class AxisResize:
    """How each pixel of a resized axis is made: `out[i] = sum(weight[i, t] * in[start[i] + t] for t in range(taps))`.

    Attributes:
        start: int32 [n_out], never decreasing; `start + taps` stays within the axis that is read.
        weight: float32 [n_out, taps], each row adding up to 1.
    """

    start: NDArray[np.int32]
    weight: NDArray[np.float32]


def axis_resize(source_px: int, *, steps: Sequence[tuple[int, bool]]) -> AxisResize:
    """Compose bilinear resize steps along one axis, each as `torch.nn.functional.interpolate` computes it.

    Args:
        source_px: length of the axis before the first step.
        steps: per step the length after it and whether the corner pixels' centres stay in place (`align_corners`);
            none at all leaves the axis as it is.

    Returns:
        The table of all steps together.

    Raises:
        PlanError: a length below 1, or steps that together read more than `MAX_TAPS` neighbours.

    Example:
        >>> table = axis_resize(2, steps=[(3, True)])
        >>> table.start.tolist(), table.weight.tolist()
        ([0, 0, 0], [[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]])
    """
    lengths = [source_px, *(px for px, _ in steps)]
    if min(lengths) < 1:
        raise PlanError(f"resize steps have the lengths {lengths} px; expected at least 1 px each")
    start, weight = np.arange(source_px), np.ones((source_px, 1))
    for before_px, (after_px, align_corners) in zip(lengths, steps, strict=False):
        below, above, share = _neighbours(before_px, after_px, align_corners=align_corners)
        taps = np.arange(weight.shape[1])
        apart = start[above] - start[below]  # >= 0: starts never decrease
        mixed = np.zeros((after_px, len(taps) + apart.max()))
        mixed[:, : len(taps)] = (1 - share)[:, None] * weight[below]
        mixed[np.arange(after_px)[:, None], apart[:, None] + taps] += share[:, None] * weight[above]
        start, weight = start[below], mixed
    return _trimmed(start, weight, source_px)


def resize(maps: NDArray[np.float32], *, rows: AxisResize, columns: AxisResize) -> NDArray[np.float32]:
    """Resize the last two axes of some maps.

    Args:
        maps: float32 [..., Y, X].
        rows: table of the Y axis.
        columns: table of the X axis.

    Returns:
        float32 [..., rows, columns].

    Example:
        >>> corners = np.array([[0.0, 1.0], [2.0, 3.0]], np.float32)
        >>> both = axis_resize(2, steps=[(3, True)])
        >>> resize(corners, rows=both, columns=both)[1].tolist()
        [1.0, 1.5, 2.0]
    """
    taps = range(columns.weight.shape[1])
    stretched = sum((maps[..., columns.start + t] * columns.weight[:, t] for t in taps), np.float32(0))
    taps = range(rows.weight.shape[1])
    return sum((stretched[..., rows.start + t, :] * rows.weight[:, t, None] for t in taps), np.float32(0))


def _neighbours(
    before_px: int, after_px: int, *, align_corners: bool
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float64]]:
    """Give for each new pixel the two old ones it lies between, and the share of the second.

    In float32 where PyTorch computes in float32: its rounding decides the weights of long axes.
    """
    place = np.arange(after_px, dtype=np.float32)
    if after_px == before_px:
        source = place
    elif align_corners:
        source = place * np.float32((before_px - 1) / max(after_px - 1, 1))
    else:
        scale = np.float32(before_px) / np.float32(after_px)
        source = np.maximum(scale * (place + np.float32(0.5)) - np.float32(0.5), np.float32(0))
    below = np.minimum(source.astype(np.intp), before_px - 1)
    share = source - below.astype(np.float32)
    above = np.where(share > 0, np.minimum(below + 1, before_px - 1), below)
    return below, above, share.astype(np.float64)


def _trimmed(start: NDArray[np.intp], weight: NDArray[np.float64], source_px: int) -> AxisResize:
    """Keep of each pixel's neighbours those that count, as many for every pixel, none beyond the axis."""
    used = weight != 0
    skipped = used.argmax(axis=1)
    taps = int((used.shape[1] - used[:, ::-1].argmax(axis=1) - skipped).max())
    if taps > MAX_TAPS:
        raise PlanError(
            f"resize steps read {taps} neighbours per pixel along an axis; expected at most {MAX_TAPS}, "
            "so no step but the last may make the axis shorter"
        )
    first = np.minimum(start + skipped, source_px - taps)
    column = (first - start)[:, None] + np.arange(taps)  # of `weight`; one outside it counts nothing
    inside = (column >= 0) & (column < weight.shape[1])
    kept = np.take_along_axis(weight, column.clip(0, weight.shape[1] - 1), axis=1)
    table = AxisResize(start=first.astype(np.int32), weight=np.where(inside, kept, 0).astype(np.float32))
    table.start.setflags(write=False)
    table.weight.setflags(write=False)
    return table
