"""The study of crops, from a table of parcels to the page."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from benchmarks.real import crops
from benchmarks.real.crops import compare
from benchmarks.real.folds import Fold, Learning, by_forest, by_network, folds
from benchmarks.real.parcels import OPTICAL, RADAR, grid_cells, read_parcels
from benchmarks.real.seasons import TASK, Seasons, describe
from tests.benchmarks.real.examples import MONTHS, parcel_table, write_parcels
from uperfuse.trainer.data import Augmentation, DataSetError, Draw

SMALL = Learning(epochs=20, batch=8, networks=1)


@pytest.fixture
def parcels(tmp_path):
    path = tmp_path / "parcels.geoparquet"
    write_parcels(path, parcel_table())
    return read_parcels(path)


def test_rows_in_any_order_come_to_parcels_and_months(parcels):
    table = parcel_table()
    assert len(parcels) == 46
    assert parcels.bands == {OPTICAL: ("B04", "B08"), RADAR: ("VV", "VH")}, "no parcel has a number of B8A"
    for row in (0, 100, 500):
        parcel = int(table["sample_id"][row][1:])
        month = int(np.searchsorted(MONTHS, table["timestamp"][row].astype("datetime64[M]")))
        assert parcels.values[OPTICAL][parcel, month, 1] == table["S2-L2A-B08"][row]
        decibels = 20 * np.log10(float(table["S1-SIGMA0-VV"][row])) - 83
        assert parcels.values[RADAR][parcel, month, 0] == pytest.approx(decibels, abs=1e-4)
    assert np.isnan(parcels.values[OPTICAL][7, 4, 0])
    assert np.isnan(parcels.values[OPTICAL]).sum() == 1


def test_rare_crops_are_one_class(parcels):
    assert parcels.classes == ("11", "22", "2 rarer crops")
    assert np.bincount(parcels.labels).tolist() == [24, 20, 2]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda table: table.pop("lon"), "lacks the columns lon"),
        (lambda table: table.update({name: values[1:] for name, values in table.items()}), "one for each pair"),
        (lambda table: table["ewoc_code"].__setitem__(0, 99), "changes from month to month"),
        (lambda table: [table.pop(f"S1-SIGMA0-{band}") for band in ("VV", "VH")], "no number of SENTINEL1"),
    ],
)
def test_tables_that_do_not_tell_are_refused(tmp_path, change, said):
    table = parcel_table()
    change(table)
    write_parcels(tmp_path / "broken.geoparquet", table)
    with pytest.raises(DataSetError, match=said):
        read_parcels(tmp_path / "broken.geoparquet")


def test_folds_part_the_parcels_and_tear_no_square_apart(parcels):
    cells = grid_cells(parcels.lon_lat, side_km=5)
    assert len(np.unique(cells)) > 5
    tested = []
    for fold in folds(parcels, count=2, side_km=5, seed=1):
        assert not set(cells[fold.train]) & set(cells[fold.test])
        assert sorted([*fold.train, *fold.test]) == list(range(len(parcels)))
        tested += fold.test.tolist()
    assert sorted(tested) == list(range(len(parcels)))


def test_squares_have_the_side_that_is_asked_for():
    # ten kilometres to the east and to the north at 42 degrees
    lon_lat = np.array(
        [[9.0, 42.0], [9.0 + 10 / (111.32 * np.cos(np.deg2rad(42.045))), 42.0], [9.0, 42.0 + 10 / 111.32]]
    )
    assert len(np.unique(grid_cells(lon_lat, side_km=9.9))) == 3
    assert len(np.unique(grid_cells(lon_lat, side_km=1000))) == 1


def seasons(parcels, rows, **changed) -> Seasons:
    settings = {"augmentation": Augmentation(turns=False), "seed": 2}
    return Seasons(parcels, rows, modalities=describe(parcels, np.arange(len(parcels))), **(settings | changed))


def test_a_parcel_is_a_tile_of_equal_pixels_without_the_months_it_lacks(parcels):
    prepared = seasons(parcels, [3, 7])[1]
    optical, radar = prepared.series[OPTICAL], prepared.series[RADAR]
    assert optical.pixels.shape == (len(MONTHS) - 1, 2, 2, 2)
    assert radar.pixels.shape == (len(MONTHS), 2, 2, 2)
    assert (optical.pixels == optical.pixels[..., :1, :1]).all()
    assert (prepared.labels[TASK] == parcels.labels[7]).all()
    mean, std = np.nanmean(parcels.values[OPTICAL][..., 1]), np.nanstd(parcels.values[OPTICAL][..., 1])
    known = np.delete(parcels.values[OPTICAL][7, :, 1], 4)
    np.testing.assert_allclose(optical.pixels[:, 1, 0, 0], (known - mean) / std, rtol=1e-3, atol=1e-4)


def test_days_run_on_over_the_turn_of_a_year(parcels):
    days = seasons(parcels, [3])[0].series[RADAR].days
    assert all(28 <= later - earlier <= 31 for earlier, later in pairwise(days))
    assert days[0] == (np.datetime64("2021-09-15") - np.datetime64("2022-05-15")).astype(int)


def test_draws_differ_and_can_be_repeated(parcels):
    own = seasons(parcels, [3])
    once, other = own[Draw(0, 5)], own[Draw(0, 6)]
    again = seasons(parcels, [3])[Draw(0, 5)]
    np.testing.assert_array_equal(once.series[OPTICAL].pixels, again.series[OPTICAL].pixels)
    assert not np.array_equal(once.series[OPTICAL].days, other.series[OPTICAL].days)


def test_statistics_are_of_the_rows_that_are_given(parcels):
    rows = np.array([0, 1])
    (channel, _) = describe(parcels, rows)[RADAR].channels
    assert channel.mean == pytest.approx(parcels.values[RADAR][rows, :, 0].mean(), abs=1e-4)


def test_both_sides_learn_crops_apart_in_summer(parcels):
    fold = Fold(np.arange(0, 44, 2), np.arange(1, 44, 2))
    probabilities = by_network(parcels, fold, learning=SMALL, seed=1)
    np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-5)
    for found in (by_forest(parcels, fold, seed=1), probabilities.argmax(1)):
        assert (found == parcels.labels[fold.test]).mean() > 0.9


def test_every_parcel_is_tested_on_once_a_seed(parcels):
    quick = Learning(epochs=1, batch=8, widths=(8, 8), networks=2)
    forest, network, mean = compare(parcels, learning=quick, count=2, side_km=5, seeds=range(4, 6))
    for side, networks in ((forest, 1), (network, 2), (mean, 1)):
        assert len(side.apart) == 4 * networks
        assert [scores.pixels for scores in side.together] == [46] * 2 * networks
        assert sum(scores.pixels for scores in side.apart[: 2 * networks]) == 46 * networks


def test_probabilities_of_networks_that_begin_otherwise_are_averaged(parcels, monkeypatch):
    begun = []

    def guess(parcels, fold, *, learning, seed):
        """Sure of the first class, or a little surer of the second."""
        begun.append(seed)
        probabilities = np.zeros((len(fold.test), len(parcels.classes)), np.float32)
        probabilities[:, :2] = [[0.9, 0.1], [0.4, 0.6], [0.4, 0.6]][seed % 3]
        return probabilities

    monkeypatch.setattr(crops, "by_network", guess)
    quick = Learning(networks=3)
    _, network, mean = compare(parcels, learning=quick, count=2, side_km=5, seeds=range(2))
    assert begun == [0, 1, 2, 0, 1, 2, 3, 4, 5, 3, 4, 5], "folds of a seed share first weights, others do not"
    first, second = (np.bincount(parcels.labels)[label] / len(parcels) for label in (0, 1))
    assert [scores.accuracy for scores in network.together] == pytest.approx(2 * [first, second, second])
    assert [scores.accuracy for scores in mean.together] == pytest.approx(2 * [first])


def test_a_single_network_has_no_mean(parcels):
    quick = Learning(epochs=1, batch=8, widths=(8, 8), networks=1)
    sides = compare(parcels, learning=quick, count=2, side_km=5, seeds=range(1))
    assert [side.name for side in sides] == ["random forest", "one network"]


def test_the_command_writes_its_part_of_the_page(tmp_path, capsys):
    path, page = tmp_path / "parcels.geoparquet", tmp_path / "real.md"
    write_parcels(path, parcel_table())
    crops.main(
        [str(path), "--folds", "2", "--seeds", "1", "--epochs", "1", "-o", str(page)],
        learning=Learning(batch=8, widths=(8, 8), networks=2),
    )
    text = page.read_text(encoding="utf-8")
    assert "46 parcels over 16 months: B04, B08 of SENTINEL2_TS; VV, VH of SENTINEL1-ASC_TS." in text
    assert "cut once (seed 0)." in text
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert rows[0] == "| | random forest | one network | mean of 2 networks |"
    assert any("F1 of 2 rarer crops, 2 parcels" in row for row in rows)
    printed = capsys.readouterr().out
    assert all(row in printed for row in rows)
