"""Digital numbers as they come from a file: which pixels hold none, and whether the rest fits the plan's type."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["cast", "missing_pixels"]


def missing_pixels(raw: NDArray[Any], *, nodata: Sequence[float | None], target: np.dtype[Any]) -> NDArray[np.bool_]:
    """Pixels without a measured number.

    A nodata value that the sensor could have measured, like 0 in uint8, hides a pixel only where every band holds it.
    Any other nodata value, NaN and infinity hide it where one band does.

    Args:
        raw: [T, C, Y, X] as read.
        nodata: nodata value of each of the T x C bands, or None.
        target: type that the plan takes.

    Returns:
        [T, Y, X], True where void.
    """
    floating = raw.dtype.kind == "f"
    void = ~np.isfinite(raw).all(axis=1) if floating else np.zeros((raw.shape[0], *raw.shape[2:]), np.bool_)
    values = [value for value in nodata if value is not None and _can_hold(raw.dtype, value)]
    if not values:
        return void
    holds = np.zeros(raw.shape, np.bool_)  # [T, C, Y, X]
    flat, flat_holds = raw.reshape(-1, *raw.shape[2:]), holds.reshape(-1, *raw.shape[2:])
    if len(values) == len(nodata) and len(set(values)) == 1:  # as almost every file has it
        np.equal(raw, raw.dtype.type(values[0]), out=holds)
    else:
        for band, value in enumerate(nodata):
            if value is not None and _can_hold(raw.dtype, value):
                np.equal(flat[band], raw.dtype.type(value), out=flat_holds[band])
    largest = np.iinfo(target if target.kind in "iu" else raw.dtype).max if not floating else 0
    measurable = not floating and all(0 <= value <= largest for value in values)
    return void | (holds.all(axis=1) if measurable else holds.any(axis=1))


def cast(raw: NDArray[Any], *, void: NDArray[np.bool_], target: np.dtype[Any]) -> NDArray[Any]:
    """Bring numbers to the plan's type, 0 where void.

    Args:
        raw: [T, C, Y, X] as read.
        void: [T, Y, X].
        target: type that the plan takes; floating numbers are not cast to integers.

    Raises:
        ValueError: a number does not fit; says the smallest and the largest.
    """
    clean = np.where(void[:, None], raw.dtype.type(0), raw) if void.any() else raw
    if clean.dtype == target or not clean.size:
        return clean.astype(target, copy=False)
    if target.kind in "iu":
        limits, low, high = np.iinfo(target), int(clean.min()), int(clean.max())
        if low < limits.min or high > limits.max:
            raise ValueError(f"numbers from {low} to {high} do not fit {target} ({limits.min} to {limits.max})")
    return clean.astype(target)


def _can_hold(dtype: np.dtype[Any], value: float) -> bool:
    if dtype.kind == "f":
        return not np.isnan(value)  # NaN is void in any case
    limits = np.iinfo(dtype)
    return float(value).is_integer() and limits.min <= value <= limits.max
