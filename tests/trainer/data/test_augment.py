"""Augmentation as laws: turns are a group, labels turn with images, light changes photographs alone."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from uperfuse.engine.flairhub import MODALITIES, TASKS
from uperfuse.engine.rasters.source import Pixels
from uperfuse.engine.simulation import MASK
from uperfuse.trainer.data import Augmentation, DataSetError, PatchId, Sample, Series, quarter, turn
from uperfuse.trainer.data.layout import PRODUCTS

STILL = Augmentation(turns=False, brightness=0, haze=0, dropped_dates=0, jitter_days=0, jitter=0)


def drawn(rng, shape, dtype):
    if dtype.kind == "f":
        return rng.normal(100, 30, shape).astype(dtype)
    return rng.integers(1, min(np.iinfo(dtype).max, 4000), shape).astype(dtype)


@pytest.fixture
def sample() -> Sample:
    """Everything drawn: no turn leaves any raster as it was."""
    rng = np.random.default_rng(3)
    images, series = {}, {}
    for name, facts in MODALITIES.items():
        px, dtype, bands = facts.tile_px, np.dtype(facts.dtype), len(facts.bands)
        dates = 1 if facts.kind == "image" else 9
        pixels = Pixels(drawn(rng, (dates, bands, px, px), dtype), rng.random((dates, px, px)) < 0.1)
        pixels.values[np.broadcast_to(pixels.void[:, None], pixels.values.shape)] = 0
        if facts.kind == "image":
            images[name] = pixels
            continue
        when = np.datetime64("2020-01-01") + np.sort(rng.choice(366, dates, replace=False))
        mask = Pixels(drawn(rng, (dates, 2, px, px), np.dtype("uint8")), pixels.void)
        series[name] = Series(pixels, when, mask if name == PRODUCTS[MASK].series else None)
    labels = {task: rng.integers(0, len(classes), (512, 512)).astype(np.uint8) for task, classes in TASKS.items()}
    return Sample(PatchId.parse("D001-2020_AA-S1-1_1-1"), images, series, labels)


def rasters(sample):
    """Every array that has pixels."""
    found = {f"{name} {what}": getattr(pixels, what) for name, pixels in sample.images.items() for what in PARTS}
    for name, series in sample.series.items():
        found |= {f"{name} {what}": getattr(series.pixels, what) for what in PARTS}
        if series.snow_cloud is not None:
            found |= {f"mask {what}": getattr(series.snow_cloud, what) for what in PARTS}
    return found | dict(sample.labels)


PARTS = ("values", "void")


def same(first, second) -> bool:
    one, other = rasters(first), rasters(second)
    return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("flip", [False, True])
def test_turns_are_the_group_of_the_square(sample, flip):
    quarter = turn(sample, quarters=1, flip=False)
    assert not same(quarter, sample)
    four = sample
    for _ in range(4):
        four = turn(four, quarters=1, flip=False)
    assert same(four, sample)
    for quarters in range(4):
        turned = turn(sample, quarters=quarters, flip=flip)
        back = turn(turned, quarters=quarters if flip else -quarters, flip=flip)
        assert same(back, sample), "a flip undoes itself; a turn is undone by the other one"


def test_eight_turns_differ_in_every_raster(sample):
    turned = [rasters(turn(sample, quarters=q, flip=f)) for q, f in product(range(4), (False, True))]
    for name in turned[0]:
        assert len({each[name].tobytes() for each in turned}) == 8, name


def test_a_quarter_is_counter_clockwise_for_all_alike(sample):
    turned = rasters(turn(sample, quarters=1, flip=False))
    for name, raster in rasters(sample).items():
        assert np.array_equal(turned[name][..., -1, 0], raster[..., 0, 0]), name
        assert np.array_equal(turned[name][..., 0, 0], raster[..., 0, -1]), name


def test_a_flip_changes_columns_alone(sample):
    flipped = rasters(turn(sample, quarters=0, flip=True))
    for name, raster in rasters(sample).items():
        assert np.array_equal(flipped[name][..., 3, 0], raster[..., 3, -1]), name


def test_four_quarters_are_the_whole(sample):
    parts = {place: rasters(quarter(sample, row=place[0], column=place[1])) for place in product(range(2), repeat=2)}
    for name, raster in rasters(sample).items():
        rows = [np.concatenate([parts[row, column][name] for column in range(2)], axis=-1) for row in range(2)]
        assert np.array_equal(np.concatenate(rows, axis=-2), raster), name


def test_a_quarter_is_drawn_where_it_is_asked_for(sample):
    found = set()
    for seed in range(20):
        cut = replace(STILL, quarters=True)(sample, np.random.default_rng(seed))
        assert cut.labels["ALL_LABEL-LPIS"].shape == (256, 256)
        found.add(cut.images["DEM_ELEV"].values.tobytes())
    assert len(found) == 4


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"haze": 1.2}, "haze is 1.2, expected at least 0 and at most 1"),
        ({"dropped_dates": -0.1}, "dropped_dates is -0.1, expected at least 0 and at most 1"),
        ({"jitter": float("nan")}, "jitter is nan, expected at least 0;"),
        ({"max_dates": 0}, "max_dates is 0, expected at least 1"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, said):
    with pytest.raises(DataSetError, match=said):
        Augmentation(**settings)


def test_random_turns_are_some_of_the_eight_and_labels_keep_up(sample):
    found = set()
    group = {q + 4 * f: turn(sample, quarters=q, flip=bool(f)) for q, f in product(range(4), range(2))}
    for seed in range(40):
        augmented = replace(STILL, turns=True)(sample, np.random.default_rng(seed))
        (number,) = [
            n
            for n, each in group.items()
            if np.array_equal(each.images["DEM_ELEV"].values, augmented.images["DEM_ELEV"].values)
        ]
        assert same(augmented, group[number])
        found.add(number)
    assert len(found) == 8


def test_an_augmentation_of_nothing_changes_nothing(sample):
    still = STILL(sample, np.random.default_rng(0))
    assert same(still, sample)
    assert all(np.array_equal(still.series[name].dates, series.dates) for name, series in sample.series.items())


def test_chance_decides_alone(sample):
    first, again, other = (Augmentation()(sample, np.random.default_rng(seed)) for seed in (5, 5, 6))
    assert same(first, again)
    assert not same(first, other)


def test_light_changes_photographs_alone(sample):
    lit = replace(STILL, brightness=0.2, haze=0.3)(sample, np.random.default_rng(1))
    changed = {name for name, raster in rasters(lit).items() if not np.array_equal(raster, rasters(sample)[name])}
    assert changed == {"AERIAL_RGBI values", "AERIAL-RLT_PAN values", "SPOT_RGBI values"}
    for name, pixels in lit.images.items():
        assert pixels.values.dtype == sample.images[name].values.dtype
        assert not pixels.values[np.broadcast_to(pixels.void[:, None], pixels.values.shape)].any(), "void stays void"


def test_brightness_is_one_factor_for_all_bands(sample):
    lit = replace(STILL, brightness=0.2)(sample, np.random.default_rng(2)).images["SPOT_RGBI"].values
    before = sample.images["SPOT_RGBI"].values
    bright = before > 1000
    ratio = lit[bright] / before[bright]
    assert np.ptp(ratio) < 2e-3
    assert abs(np.log(ratio.mean())) > 0.01


def test_haze_lifts_the_dark_and_blue_most(sample):
    hazy = replace(STILL, haze=0.5)(sample, np.random.default_rng(4)).images["AERIAL_RGBI"].values.astype(float)
    before = sample.images["AERIAL_RGBI"].values
    dark = before[0] <= 20
    lift = [
        (hazy[0, band] - before[0, band])[dark[band] & ~sample.images["AERIAL_RGBI"].void[0]].mean()
        for band in range(4)
    ]
    red, green, blue, infrared = lift
    assert blue > green > red > infrared > 0
    assert hazy.std() < before.std()


def test_dates_are_dropped_with_their_pixels_and_masks(sample):
    thinned = replace(STILL, dropped_dates=0.8)(sample, np.random.default_rng(8))
    for name, series in thinned.series.items():
        before = sample.series[name]
        places = [before.dates.tolist().index(day) for day in series.dates.tolist()]
        assert 0 < len(places) < 9
        assert places == sorted(places)
        assert np.array_equal(series.pixels.values, before.pixels.values[places])
        assert np.array_equal(series.pixels.void, before.pixels.void[places])
        if series.snow_cloud is not None:
            assert np.array_equal(series.snow_cloud.values, before.snow_cloud.values[places])


def test_at_least_one_date_and_at_most_so_many_stay(sample):
    for seed in range(20):
        some = replace(STILL, dropped_dates=1.0, max_dates=4)(sample, np.random.default_rng(seed))
        assert all(1 <= len(series.dates) <= 4 for series in some.series.values())


def test_a_series_without_dates_stays_without(sample):
    empty = {
        name: Series(Pixels(s.pixels.values[:0], s.pixels.void[:0]), s.dates[:0]) for name, s in sample.series.items()
    }
    augmented = Augmentation()(replace(sample, series=empty), np.random.default_rng(0))
    assert all(len(series.dates) == 0 for series in augmented.series.values())


def test_dates_move_a_little_and_never_out_of_their_year(sample):
    edge = np.array(["2020-01-01", "2020-12-31"] * 4 + ["2020-06-01"], "datetime64[D]")
    moved = set()
    series = {name: replace(one, dates=edge) for name, one in sample.series.items()}
    for seed in range(10):
        jittered = replace(STILL, jitter_days=3)(replace(sample, series=series), np.random.default_rng(seed))
        for one in jittered.series.values():
            assert (one.dates.astype("datetime64[Y]") == np.datetime64("2020")).all()
            moved |= set((one.dates - edge).astype(int).tolist())
    assert moved == set(range(-3, 4))


def test_jitter_is_one_factor_for_each_acquisition(sample):
    jittered = replace(STILL, jitter=0.1)(sample, np.random.default_rng(0)).series["SENTINEL1-ASC_TS"].pixels.values
    before = sample.series["SENTINEL1-ASC_TS"].pixels.values
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(before != 0, jittered / before, np.nan)
    each = np.nanmedian(ratio, axis=(1, 2, 3))
    assert np.nanmax(np.abs(ratio / each[:, None, None, None] - 1)) < 1e-5
    assert len(np.unique(each)) == 9
