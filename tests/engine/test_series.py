"""Days, clear acquisitions, composites and buckets."""

from __future__ import annotations

import datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from uperfuse.engine import TileError
from uperfuse.engine.plan.network import SeriesFilter
from uperfuse.engine.series import DATE_BUCKETS, clear_dates, composite, date_bucket, days_from_reference


@pytest.mark.parametrize(
    ("date", "days"),
    [("2021-05-15", 0), ("2021-01-01", -134), ("2020-12-31", 230), ("2020-01-01", -135), ("2019-05-16", 1)],
)
def test_days_count_from_the_reference_day_of_their_own_year(date, days):
    assert days_from_reference(np.array([date], "datetime64[D]"), reference_day="05-15") == [days]


def test_dates_of_any_unit_are_days():
    stamps = np.array(["2021-05-14T23:59:59", "2021-05-15T00:00:01"], "datetime64[ns]")
    assert days_from_reference(stamps, reference_day="05-15").tolist() == [-1, 0]


def test_numbers_are_days_already():
    assert days_from_reference([-3, 7.5], reference_day="05-15").tolist() == [-3, 7.5]
    elapsed = np.array([-48, 36], "timedelta64[h]")
    assert days_from_reference(elapsed, reference_day="05-15").tolist() == [-2, 1.5]


def test_dates_of_the_standard_library_are_dates():
    stamps = [datetime.date(2021, 5, 14), datetime.datetime(2021, 5, 15, 23, 59, tzinfo=datetime.timezone.utc)]
    assert days_from_reference(stamps, reference_day="05-15").tolist() == [-1, 0]


@pytest.mark.parametrize(
    ("dates", "message"),
    [
        (np.array(["2021-01-01", "NaT"], "datetime64[D]"), "1 of 2 dates are NaT"),
        ([0.0, np.nan], "1 of 2 days are not finite"),
        (["2021-01-01"], "convert text with"),
        (np.zeros((2, 2)), "expected one axis"),
        ([[1], [2, 3]], "are not an array"),
        ([20210514, 20210529], "days run from 20210514 to 20210529, expected at most 1000 before or after 05-15"),
        (np.array(["2021-05"], "datetime64[M]"), r"datetime64\[M\], which has no days"),
        (np.array([1, "NaT"], "timedelta64[D]"), "1 of 2 days are not finite"),
        ([datetime.date(2021, 1, 1), None], "of type object"),
    ],
)
def test_what_is_no_date_is_refused(dates, message):
    with pytest.raises(TileError, match=message):
        days_from_reference(dates, reference_day="05-15")


def test_a_reference_day_that_a_year_lacks_is_refused():
    assert days_from_reference(np.array(["2024-03-01"], "datetime64[D]"), reference_day="02-29") == [1]
    with pytest.raises(TileError, match="no day 02-29 in the year of every date"):
        days_from_reference(np.array(["2023-03-01"], "datetime64[D]"), reference_day="02-29")


def masks(*dates: tuple[float, float]) -> np.ndarray:
    """[T, 2, 10, 10]: per date the fraction of pixels under snow and under cloud."""
    result = np.zeros((len(dates), 2, 100), np.uint8)
    for place, shares in enumerate(dates):
        for kind, share in enumerate(shares):
            result[place, kind, : round(100 * share)] = 100
    return result.reshape(len(dates), 2, 10, 10)


def test_a_date_is_clear_at_95_percent():
    found = clear_dates(masks((0, 0), (0, 0.05), (0, 0.06), (0.06, 0), (0.05, 0.05)), rule=SeriesFilter())
    assert found.tolist() == [0, 1, 4]


def test_snow_alone_decides_where_no_date_is_clear():
    assert clear_dates(masks((0, 1), (1, 0), (0.02, 0.5)), rule=SeriesFilter()).tolist() == [0, 2]


def test_where_snow_rules_out_every_date_none_is_left():
    assert clear_dates(masks((1, 0), (0.5, 1)), rule=SeriesFilter()).size == 0
    assert clear_dates(masks(), rule=SeriesFilter()).size == 0


def test_one_percent_is_still_clear():
    mask = np.ones((1, 2, 4, 4), np.uint8)
    assert clear_dates(mask, rule=SeriesFilter()).tolist() == [0]
    assert clear_dates(2 * mask, rule=SeriesFilter()).size == 0


def test_filtering_keeps_no_state():
    first, second = masks((0, 1), (0, 0)), masks((0, 0), (0, 1))
    before = first.copy()
    assert clear_dates(first, rule=SeriesFilter()).tolist() == [1]
    assert clear_dates(second, rule=SeriesFilter()).tolist() == [0]
    np.testing.assert_array_equal(first, before)


@pytest.mark.parametrize(
    ("kind", "days"), [("monthly", ["02-15", "03-15"]), ("semi-monthly", ["02-08", "02-23", "03-23"])]
)
def test_composites_are_means_of_their_period(kind, days):
    dates = np.array(["2021-02-03", "2021-02-15", "2021-02-16", "2021-03-31"], "datetime64[D]")
    values = np.arange(4 * 2 * 3 * 5, dtype=np.uint16).reshape(4, 2, 3, 5)
    got, when = composite(values, dates=dates, rule=SeriesFilter(composite=kind))
    assert [str(day)[5:] for day in when] == days
    assert got.dtype == values.dtype
    members = [3, 1] if kind == "monthly" else [2, 1, 1]
    first = 0
    for place, count in enumerate(members):
        expected = np.rint(values[first : first + count].mean(0)).astype(np.uint16)
        np.testing.assert_array_equal(got[place], expected)
        first += count


def test_without_a_composite_nothing_changes():
    values, dates = np.ones((2, 1, 1, 1)), np.array(["2021-01-01", "2021-01-02"], "datetime64[D]")
    got, when = composite(values, dates=dates, rule=SeriesFilter())
    assert got is values
    assert when is dates


@given(st.integers(0, DATE_BUCKETS[-1]))
def test_the_bucket_is_the_smallest_that_holds_the_dates(dates):
    bucket = date_bucket(dates)
    assert bucket >= dates
    assert all(smaller < dates for smaller in DATE_BUCKETS if smaller < bucket)


def test_more_dates_than_a_year_are_refused():
    with pytest.raises(TileError, match="a series has 367 dates, expected at most 366"):
        date_bucket(367)
