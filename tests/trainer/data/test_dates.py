"""Dates of series: a date that cannot be read is an error, never a shift."""

from __future__ import annotations

import json

import numpy as np
import pyogrio.raw
import pytest

from uperfuse.trainer.data import DataSet, DataSetError, PatchId
from uperfuse.trainer.data.dates import DateTable, parse_acquisitions, read_rows, write_dates

PATCH = PatchId.parse("D012-2019_AF-S1-V27_5-10")
DAYS = np.array(["2019-01-04", "2019-12-31", "2019-02-28"], "datetime64[D]")


def rows_of(path, names, values, key="patch_id", value="acquisition_dates"):
    pyogrio.raw.write(
        path,
        geometry=None,
        field_data=[np.array(names, object), np.array(values, object)],
        fields=[key, value],
        geometry_type=None,
        driver="GPKG",
    )


def test_dates_follow_their_numbers_and_not_their_order_in_the_text():
    text = json.dumps({str(number): f"2021{number:02d}01" for number in range(12, 0, -1)})
    assert np.array_equal(parse_acquisitions(text), np.arange("2021-01", "2022-01", dtype="datetime64[M]"))


def test_no_acquisition_at_all_is_a_series_without_dates():
    assert parse_acquisitions("{}").shape == (0,)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"1": "20210230"}', "acquisition 1: '20210230' is no day of the calendar"),
        ('{"1": "20210101", "2": "2021"}', "acquisition 2: '2021' is not a date"),
        ('{"1": "20210101", "2": null}', "acquisition 2: 'None' is not a date"),
        ('{"1": "20210101", "3": "20210102"}', "no date of acquisition 2, and 2 dates"),
        ('{"first": "20210101"}', "'first' numbers no acquisition"),
        ('["20210101"]', "is no JSON object"),
        ("2021-01-01", "is no JSON"),
    ],
)
def test_a_date_that_cannot_be_read_is_refused_and_named(text, said):
    with pytest.raises(ValueError, match=said):
        parse_acquisitions(text)


def test_what_is_written_is_read(tmp_path):
    write_dates(tmp_path / "a.gpkg", {str(PATCH): DAYS}, centres_m={str(PATCH): (600_000.0, 6_800_000.0)})
    rows = read_rows(tmp_path / "a.gpkg")
    assert rows == {str(PATCH): '{"1": "20190104", "2": "20191231", "3": "20190228"}'}
    assert np.array_equal(DateTable(tmp_path / "a.gpkg", rows).of(PATCH), DAYS)


@pytest.mark.parametrize("key", [str(PATCH), "D012-2019_AF-S1-V27", "AF-S1-V27"])
@pytest.mark.parametrize("column", ["patch_id", "zone_id"])
def test_dates_are_given_by_patch_or_by_region(tmp_path, key, column):
    rows_of(tmp_path / "a.gpkg", [key, "D001-2020_AA-S1-1"], ['{"1": "20190104"}', "{}"], key=column)
    table = DateTable(tmp_path / "a.gpkg", read_rows(tmp_path / "a.gpkg"))
    assert table.of(PATCH).astype(str).tolist() == ["2019-01-04"]
    assert table.only([PATCH]).of(PATCH).astype(str).tolist() == ["2019-01-04"]
    with pytest.raises(DataSetError, match="has no dates of D001-2020_AA-S1-1_1-1"):
        table.only([PATCH]).of(PatchId.parse("D001-2020_AA-S1-1_1-1"))


def test_the_row_of_the_patch_wins_over_that_of_its_region(tmp_path):
    rows_of(tmp_path / "a.gpkg", [PATCH.region, str(PATCH)], ['{"1": "20190104"}', '{"1": "20190105"}'])
    table = DateTable(tmp_path / "a.gpkg", read_rows(tmp_path / "a.gpkg"))
    assert table.of(PATCH).astype(str).tolist() == ["2019-01-05"]


def test_two_rows_that_disagree_are_refused(tmp_path):
    rows_of(tmp_path / "a.gpkg", ["AF-S1-V27"] * 2, ['{"1": "20190104"}', '{"1": "20190105"}'])
    with pytest.raises(DataSetError, match="has two different rows for AF-S1-V27"):
        read_rows(tmp_path / "a.gpkg")


def test_a_table_without_the_columns_is_refused(tmp_path):
    rows_of(tmp_path / "a.gpkg", ["x"], ["{}"], value="dates")
    with pytest.raises(DataSetError, match="has columns patch_id, dates, expected acquisition_dates and one of"):
        read_rows(tmp_path / "a.gpkg")


def test_what_is_no_geopackage_is_refused(tmp_path):
    (tmp_path / "a.gpkg").write_text("404: not found")
    with pytest.raises(DataSetError, match="cannot be read as a GeoPackage"):
        read_rows(tmp_path / "a.gpkg")


def test_an_unreadable_date_is_refused_when_the_data_set_is_opened(breakable):
    series = "SENTINEL1-ASC_TS"
    rows = read_rows(breakable.dates(series))
    name = str(breakable.patch.id)
    said = json.loads(rows[name]) | {"7": "2021-13-01"}
    breakable.dates(series).unlink()
    rows_of(breakable.dates(series), [name], [json.dumps(said)])
    with pytest.raises(DataSetError, match=f"dates of {name} in .*acquisition 7: '2021-13-01' is no day of the calend"):
        DataSet.open(breakable.root)


def test_a_series_without_its_table_is_refused(breakable):
    breakable.dates("SENTINEL2_TS").unlink()
    with pytest.raises(DataSetError, match=r"GLOBAL_SENTINEL2_MTD_DATES\.gpkg is not there, and SENTINEL2_TS needs"):
        DataSet.open(breakable.root)
