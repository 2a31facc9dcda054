"""Which acquisitions of a series enter the network, decided for each tile from this tile alone."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..plan.network import SeriesFilter
from ..series import clear_dates, composite
from .source import Pixels

__all__ = ["Acquisitions", "Clearness", "choose_acquisitions"]

_CLOUDED = 100


class Clearness(Enum):
    """How a tile came by its acquisitions."""

    CLEAR = "clear"
    SNOW_ONLY = "snow only"
    NONE = "none"


@dataclass(frozen=True)
class Acquisitions:
    """The acquisitions of one tile: values [T, C, Y, X], void [T, Y, X] and their dates [T]."""

    pixels: Pixels
    dates: NDArray[np.datetime64]
    clearness: Clearness


def choose_acquisitions(
    pixels: Pixels, *, dates: NDArray[np.datetime64], snow_cloud: Pixels | None, rule: SeriesFilter | None
) -> Acquisitions:
    """Keep the acquisitions that see the tile and that the plan's filter calls clear, and average where it says so.

    An acquisition without a single valid pixel in the tile is left out. A pixel that an acquisition did not see, or
    whose mask is not known, counts as clouded; pixels that no acquisition sees do not count.

    Args:
        pixels: all acquisitions, values [T, C, Y, X].
        dates: [T].
        snow_cloud: values [T, 2, Y, X] in percent, or None where no mask was given: then no date is clouded.
        rule: the plan's filter, or None.
    """
    seen = np.flatnonzero(~pixels.void.all(axis=(1, 2)))
    clearness = Clearness.CLEAR
    if rule is not None and snow_cloud is not None and seen.size:
        percent = _percent_of_seen(_take(pixels, seen), _take(snow_cloud, seen))
        kept = clear_dates(percent, rule=rule)
        clearness = _clearness(percent[kept], rule)
        seen = seen[kept]
    chosen, chosen_dates = _take(pixels, seen), dates[seen]
    if rule is not None and rule.composite != "none" and seen.size:
        chosen, chosen_dates = _average(chosen, chosen_dates, rule)
    return Acquisitions(chosen, chosen_dates, clearness)


def _take(pixels: Pixels, indices: NDArray[np.intp]) -> Pixels:
    return Pixels(pixels.values[indices], pixels.void[indices])


def _percent_of_seen(pixels: Pixels, snow_cloud: Pixels) -> NDArray[Any]:
    """Snow and cloud [T, 2, 1, N] of the N pixels that any acquisition sees."""
    percent = snow_cloud.values.copy()
    unknown = pixels.void | snow_cloud.void  # [T, Y, X]
    percent[:, 1][unknown] = _CLOUDED
    percent[:, 0][unknown] = 0
    seen: NDArray[Any] = percent[:, :, ~pixels.unseen]
    return seen[:, :, None]


def _clearness(kept: NDArray[Any], rule: SeriesFilter) -> Clearness:
    if not len(kept):
        return Clearness.NONE
    free = (kept[0, 0] <= rule.max_snow) & (kept[0, 1] <= rule.max_cloud)
    return Clearness.CLEAR if free.mean() >= rule.clear_fraction else Clearness.SNOW_ONLY


def _average(
    pixels: Pixels, dates: NDArray[np.datetime64], rule: SeriesFilter
) -> tuple[Pixels, NDArray[np.datetime64]]:
    """Means over a period's valid pixels; void values are 0, so the mean over all is scaled by the valid share."""
    share, periods = composite((~pixels.void[:, None]).astype(np.float64), dates=dates, rule=rule)
    total, _ = composite(pixels.values.astype(np.float64), dates=dates, rule=rule)
    void = share[:, 0] == 0
    means = np.divide(total, share, out=np.zeros_like(total), where=share > 0)
    dtype = pixels.values.dtype
    return Pixels((np.rint(means) if dtype.kind in "iu" else means).astype(dtype), void), periods
