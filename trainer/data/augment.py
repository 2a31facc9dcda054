"""Augmentation of samples: one turn for all modalities, other light for images, other dates for series.

It works on raw digital numbers, before they are prepared: what a camera could have delivered that day.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...engine.flairhub import MODALITIES
from ...engine.rasters.source import Pixels
from .errors import DataSetError
from .sample import Sample, Series

__all__ = ["Augmentation", "quarter", "turn"]

# Photographs; elevation is no light.
_LIT = ("AERIAL_RGBI", "AERIAL-RLT_PAN", "SPOT_RGBI")

# How much of the haze is seen in each band: air scatters short waves.
_VEIL = {"B": 1.0, "G": 0.8, "R": 0.6, "NIR": 0.25, "PAN": 0.7}
_HAZE_STDS = 1.5
"""Standard deviations above its mean at which a band sees nothing but haze."""


@dataclass(frozen=True)
class Augmentation:
    """What may change from one epoch to the next.

    Attributes:
        quarters: keep one of the four quarters of the patch, which costs a quarter to learn from.
        turns: flip and turn by quarters, all modalities and labels alike.
        brightness: standard deviation of the logarithm of an image's brightness.
        haze: largest share of an image's light that is haze.
        dropped_dates: largest share of a series' acquisitions that is left out; one at least stays.
        max_dates: largest number of acquisitions that stays; None keeps all.
        jitter_days: largest number of days by which an acquisition is dated earlier or later.
        jitter: standard deviation of the logarithm of an acquisition's brightness.

    Raises:
        DataSetError: a setting is negative, a share is above 1, or no date would stay.
    """

    quarters: bool = False
    turns: bool = True
    brightness: float = 0.1
    haze: float = 0.15
    dropped_dates: float = 0.4
    max_dates: int | None = None
    jitter_days: int = 2
    jitter: float = 0.03

    def __post_init__(self) -> None:
        limits = {"brightness": np.inf, "haze": 1, "dropped_dates": 1, "jitter_days": np.inf, "jitter": np.inf}
        for name, most in limits.items():
            value = getattr(self, name)
            if not 0 <= value <= most:
                upper = f" and at most {most}" if np.isfinite(most) else ""
                raise DataSetError(f"{name} is {value}, expected at least 0{upper}; correct it")
        if self.max_dates is not None and self.max_dates < 1:
            raise DataSetError(f"max_dates is {self.max_dates}, expected at least 1; correct it or leave it out")

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """Change a sample at random.

        Args:
            sample: with the acquisitions that count, from `choose`.
            rng: source of chance; the same one in the same state changes the same sample alike.
        """
        if self.quarters:
            sample = quarter(sample, row=int(rng.integers(2)), column=int(rng.integers(2)))
        if self.turns:
            sample = turn(sample, quarters=int(rng.integers(4)), flip=bool(rng.integers(2)))
        images = {
            name: self._relit(pixels, name, rng) if name in _LIT else pixels for name, pixels in sample.images.items()
        }
        series = {name: self._jittered(self._thinned(one, rng), rng) for name, one in sample.series.items()}
        return replace(sample, images=images, series=series)

    def _relit(self, pixels: Pixels, modality: str, rng: np.random.Generator) -> Pixels:
        factor = float(np.exp(rng.normal(0, self.brightness)))
        haze = float(rng.uniform(0, self.haze))
        if (factor, haze) == (1.0, 0.0):
            return pixels
        facts = MODALITIES[modality]
        values = np.empty_like(pixels.values)
        for place, band in enumerate(facts.bands):
            mean, std = facts.statistics[band]
            share = haze * _VEIL[band]
            lit = pixels.values[:, place] * np.float32(factor * (1 - share))
            lit += np.float32(share * (mean + _HAZE_STDS * std))
            values[:, place] = _fitted(lit, values.dtype)
        if pixels.void.any():
            values[np.broadcast_to(pixels.void[:, None], values.shape)] = 0
        return Pixels(values, pixels.void)

    def _thinned(self, series: Series, rng: np.random.Generator) -> Series:
        count = len(series.dates)
        share = float(rng.uniform(0, self.dropped_dates))
        keep = max(round(count * (1 - share)), min(count, 1))
        if self.max_dates is not None:
            keep = min(keep, self.max_dates)
        if keep == count:
            return series
        kept = np.sort(rng.choice(count, keep, replace=False))
        return _taken(series, kept)

    def _jittered(self, series: Series, rng: np.random.Generator) -> Series:
        count = len(series.dates)
        days = rng.integers(-self.jitter_days, self.jitter_days + 1, count)
        gain = np.exp(rng.normal(0, self.jitter, count)).astype(np.float32)
        values = series.pixels.values
        if self.jitter > 0:
            values = _fitted(values * gain[:, None, None, None], values.dtype)
        return replace(
            series,
            pixels=Pixels(values, series.pixels.void),
            dates=_within_year(series.dates, days.astype("timedelta64[D]")),
        )


def turn(sample: Sample, *, quarters: int, flip: bool) -> Sample:
    """Turn everything that has pixels, labels and masks included.

    Args:
        sample: any.
        quarters: turns of 90 degrees, counter-clockwise.
        flip: whether columns are reversed afterwards.
    """

    def turned(raster: NDArray[Any]) -> NDArray[Any]:
        rotated = np.rot90(raster, quarters, axes=(-2, -1))
        return np.ascontiguousarray(rotated[..., ::-1] if flip else rotated)

    return _mapped(sample, turned)


def quarter(sample: Sample, *, row: int, column: int) -> Sample:
    """Cut one of the four quarters of a patch from all of its rasters.

    Args:
        sample: any; sides of rasters are even.
        row: 0 or 1, the upper or the lower half.
        column: 0 or 1, the left or the right half.
    """

    def cut(raster: NDArray[Any]) -> NDArray[Any]:
        height, width = (side // 2 for side in raster.shape[-2:])
        part = raster[..., row * height : (row + 1) * height, column * width : (column + 1) * width]
        return np.ascontiguousarray(part)

    return _mapped(sample, cut)


def _mapped(sample: Sample, change: Callable[[NDArray[Any]], NDArray[Any]]) -> Sample:
    def pixels(given: Pixels) -> Pixels:
        return Pixels(change(given.values), change(given.void))

    return Sample(
        sample.patch,
        {name: pixels(one) for name, one in sample.images.items()},
        {
            name: Series(pixels(one.pixels), one.dates, None if one.snow_cloud is None else pixels(one.snow_cloud))
            for name, one in sample.series.items()
        },
        {task: change(label) for task, label in sample.labels.items()},
    )


def _taken(series: Series, kept: NDArray[np.intp]) -> Series:
    def pixels(given: Pixels) -> Pixels:
        return Pixels(given.values[kept], given.void[kept])

    mask = None if series.snow_cloud is None else pixels(series.snow_cloud)
    return Series(pixels(series.pixels), series.dates[kept], mask)


def _within_year(dates: NDArray[np.datetime64], shift: NDArray[np.timedelta64]) -> NDArray[np.datetime64]:
    """Shifted dates; one that would leave its year stays, for its days are counted within the year."""
    moved = dates + shift
    same = moved.astype("datetime64[Y]") == dates.astype("datetime64[Y]")
    return np.where(same, moved, dates)


def _fitted(values: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Rounded and clipped to an integer type."""
    if dtype.kind == "f":
        return values.astype(dtype)
    limits = np.iinfo(dtype)
    fitted: NDArray[Any] = np.clip(np.rint(values), limits.min, limits.max).astype(dtype)
    return fitted
