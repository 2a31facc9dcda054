"""Dates of a time series: days from the reference date, clear acquisitions, composites, padding.

Everything here is a function of its arguments; nothing is kept from one tile to the next.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import TileError
from .plan.manifest import SeriesFilter

__all__ = ["DATE_BUCKETS", "clear_dates", "composite", "date_bucket", "days_from_reference"]

DATE_BUCKETS = (8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 366)
"""Numbers of dates for which graphs are compiled; a series is padded to the next one with masked dates."""

_HALF_MONTH_DAY = 16


def days_from_reference(dates: Sequence[Any] | NDArray[Any], *, reference_day: str) -> NDArray[np.float32]:
    """Days of each acquisition from the reference day of its own year.

    Args:
        dates: [T] `datetime64`, or numbers that already are days from the reference date.
        reference_day: month and day, "05-15".

    Returns:
        [T] float32, from -134 (1 January) to 231 (31 December of a leap year) for 15 May.

    Raises:
        TileError: a date is not a date (NaT, text, NaN) or the array is not one-dimensional.
    """
    values = np.asarray(dates)
    if values.ndim != 1:
        raise TileError(f"dates have shape {values.shape}, expected one axis [T]; give one array of dates per tile")
    if values.size == 0:
        return np.zeros(0, np.float32)
    if np.issubdtype(values.dtype, np.datetime64):
        if np.isnat(values).any():
            raise TileError(
                f"{int(np.isnat(values).sum())} of {values.size} dates are NaT; give the date or drop its acquisition"
            )
        days = values.astype("datetime64[D]")
        reference = days.astype("datetime64[Y]").astype(str)
        origin = np.array([f"{year}-{reference_day}" for year in reference], "datetime64[D]")
        elapsed: NDArray[np.int64] = (days - origin).astype(np.int64)
        return elapsed.astype(np.float32)
    if not (np.issubdtype(values.dtype, np.integer) or np.issubdtype(values.dtype, np.floating)):
        raise TileError(
            f"dates are of type {values.dtype}, expected numpy.datetime64 or days from {reference_day}; "
            "convert text with numpy.array(dates, 'datetime64[D]')"
        )
    if not np.isfinite(values).all():
        raise TileError(f"{int((~np.isfinite(values)).sum())} of {values.size} days are not finite; give every date")
    return values.astype(np.float32)


def clear_dates(snow_cloud: NDArray[Any], *, rule: SeriesFilter) -> NDArray[np.intp]:
    """Acquisitions of one tile that the filter keeps.

    A date is kept when at least `rule.clear_fraction` of the tile's pixels have snow <= `max_snow` and cloud <=
    `max_cloud`. If no date is, snow alone decides. If snow rules out every date too, the answer is empty and the
    series enters the network without dates.

    Args:
        snow_cloud: [T, 2, Y, X] probabilities in percent, snow first.
        rule: thresholds of the plan.

    Returns:
        Indices of the kept dates in order, [0..T].
    """
    snow = snow_cloud[:, 0] <= rule.max_snow  # [T, Y, X]
    cloud = snow_cloud[:, 1] <= rule.max_cloud  # [T, Y, X]
    for clear in (snow & cloud, snow):
        kept = np.flatnonzero(clear.mean(axis=(1, 2)) >= rule.clear_fraction)
        if kept.size:
            return kept
    return np.zeros(0, np.intp)


def composite(
    values: NDArray[Any], *, dates: NDArray[np.datetime64], rule: SeriesFilter
) -> tuple[NDArray[Any], NDArray[np.datetime64]]:
    """Mean acquisition of every month or half month, where the filter asks for it.

    Args:
        values: [T, C, Y, X] digital numbers.
        dates: [T] `datetime64[D]`.
        rule: `composite` "none" gives back what came in.

    Returns:
        Values [P, C, Y, X] in the dtype that came in (rounded for integers) and the period's middle day [P]:
        the 15th of a month; the 8th or 23rd of a half month.
    """
    if rule.composite == "none" or not len(dates):
        return values, dates
    days = dates.astype("datetime64[D]")
    months = days.astype("datetime64[M]")
    middle = months.astype("datetime64[D]") + np.timedelta64(14, "D")
    if rule.composite == "semi-monthly":
        second = (days - months.astype("datetime64[D]")).astype(np.int64) + 1 >= _HALF_MONTH_DAY
        middle = months.astype("datetime64[D]") + np.where(second, 22, 7).astype("timedelta64[D]")
    periods = np.unique(middle)
    means = [values[middle == period].mean(axis=0, dtype=np.float64) for period in periods]
    stacked = np.stack(means)
    if np.issubdtype(values.dtype, np.integer):
        stacked = np.rint(stacked)
    return stacked.astype(values.dtype), periods


def date_bucket(dates: int) -> int:
    """Smallest number of dates in `DATE_BUCKETS` that holds `dates`.

    Raises:
        TileError: more dates than the largest bucket.
    """
    for bucket in DATE_BUCKETS:
        if dates <= bucket:
            return bucket
    raise TileError(
        f"a series has {dates} dates, expected at most {DATE_BUCKETS[-1]}; keep one year or average by month"
    )
