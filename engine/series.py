"""Dates of a time series: days from the reference date, clear acquisitions, composites, padding.

Everything here is a function of its arguments; nothing is kept from one tile to the next.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import TileError
from .plan.network import SeriesFilter

__all__ = ["DATE_BUCKETS", "clear_dates", "composite", "date_bucket", "days_from_reference"]

DATE_BUCKETS = (8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 366)
"""Numbers of dates for which graphs are compiled; a series is padded to the next one with masked dates."""

_HALF_MONTH_DAY = 16
_FARTHEST_DAY = 1000


def days_from_reference(dates: Sequence[Any] | NDArray[Any], *, reference_day: str) -> NDArray[np.float32]:
    """Days of each acquisition from the reference day of its own year.

    Args:
        dates: [T] `datetime64` or `datetime.date`, or numbers that already are days from the reference date.
        reference_day: month and day, "05-15".

    Returns:
        [T] float32; for 15 May from -134 (1 January; -135 in a leap year) to 230 (31 December).

    Raises:
        TileError: a date is not a date (NaT, text, NaN, a whole month), a number cannot be a count of days from the
            reference date, or the array is not one-dimensional.
    """
    try:
        values = np.asarray(dates)
    except ValueError as error:
        raise TileError(f"dates are not an array: {error}; give one array of dates per tile") from error
    if values.ndim != 1:
        raise TileError(f"dates have shape {values.shape}, expected one axis [T]; give one array of dates per tile")
    if values.size == 0:
        return np.zeros(0, np.float32)
    # a missing date (pandas' NaT) is a date, too, and differs from itself
    if values.dtype == np.object_ and all(isinstance(value, date) and value == value for value in values):
        values = np.array([date(value.year, value.month, value.day) for value in values], "datetime64[D]")
    if values.dtype.kind == "M":
        return _elapsed(values, reference_day=reference_day)
    if values.dtype.kind == "m":
        values = values / np.timedelta64(1, "D")  # NaT becomes NaN
    if values.dtype.kind not in "uif":
        raise TileError(
            f"dates are of type {values.dtype}, expected numpy.datetime64 or days from {reference_day}; "
            "convert text with numpy.array(dates, 'datetime64[D]')"
        )
    if not np.isfinite(values).all():
        raise TileError(f"{int((~np.isfinite(values)).sum())} of {values.size} days are not finite; give every date")
    if max(values.max(), -values.min()) > _FARTHEST_DAY:
        raise TileError(
            f"days run from {values.min():.8g} to {values.max():.8g}, expected at most {_FARTHEST_DAY} before or after "
            f"{reference_day}; give calendar dates as numpy.datetime64"
        )
    return values.astype(np.float32)


def _elapsed(dates: NDArray[np.datetime64], *, reference_day: str) -> NDArray[np.float32]:
    missing = int(np.isnat(dates).sum())
    if missing:
        raise TileError(f"{missing} of {dates.size} dates are NaT; give the date or drop its acquisition")
    unit = np.datetime_data(dates.dtype)[0]
    if unit in ("Y", "M", "W"):
        raise TileError(f"dates are of type {dates.dtype}, which has no days; give each acquisition's own day")
    days = dates.astype("datetime64[D]")
    years = days.astype("datetime64[Y]").astype(str)
    try:
        origin = np.array([f"{year}-{reference_day}" for year in years], "datetime64[D]")
    except ValueError as error:
        raise TileError(f"no day {reference_day} in the year of every date: {error}; correct the plan") from error
    elapsed: NDArray[np.int64] = (days - origin).astype(np.int64)
    return elapsed.astype(np.float32)


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


def date_bucket(dates: int, *, buckets: Sequence[int] = DATE_BUCKETS) -> int:
    """Smallest of some numbers of dates, rising, that holds `dates`.

    Raises:
        TileError: more dates than the largest.
    """
    for bucket in buckets:
        if dates <= bucket:
            return bucket
    more = "" if buckets[-1] >= DATE_BUCKETS[-1] else f", or run `uperfuse build` for more dates (--dates {dates})"
    raise TileError(
        f"a series has {dates} dates, expected at most {buckets[-1]}; keep one year or average by month{more}"
    )
