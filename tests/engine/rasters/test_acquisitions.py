"""Which acquisitions a tile takes, decided from that tile alone."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from rasterio import Affine

from uperfuse.engine.plan.network import SeriesFilter
from uperfuse.engine.rasters import Scene, Source, predict, predict_raster
from uperfuse.engine.rasters.acquisitions import Acquisitions, Clearness, choose_acquisitions
from uperfuse.engine.rasters.source import Pixels
from uperfuse.engine.rasters.tiling import Tiling

from .formula import FormulaEngine, make_manifest, make_modality, read_raster, write_raster

RULE = SeriesFilter()
DAYS = np.arange("2021-01-01", "2022-01-01", dtype="datetime64[D]")
CLEAR, CLOUD, SNOW = (0, 0), (0, 100), (100, 0)


def pixels_of(dates: int) -> Pixels:
    """Values [T, 2, 10, 8] that say which date and band they are."""
    values = np.arange(2 * dates, dtype=np.uint16).reshape(dates, 2, 1, 1) + np.zeros((10, 8), np.uint16)
    return Pixels(values + 1, np.zeros((dates, 10, 8), np.bool_))


def masks_of(*skies: tuple[int, int]) -> Pixels:
    values = np.array(skies, np.uint8).reshape(-1, 2, 1, 1) + np.zeros((10, 8), np.uint8)
    return Pixels(values, np.zeros((len(skies), 10, 8), np.bool_))


def chosen(pixels: Pixels, snow_cloud: Pixels | None, rule: SeriesFilter | None = RULE) -> Acquisitions:
    return choose_acquisitions(pixels, dates=DAYS[: len(pixels.values)], snow_cloud=snow_cloud, rule=rule)


@pytest.mark.parametrize(
    ("skies", "kept", "clearness"),
    [
        ((CLOUD, CLEAR, SNOW, CLEAR), [1, 3], Clearness.CLEAR),
        ((CLOUD, SNOW, CLOUD), [0, 2], Clearness.SNOW_ONLY),
        ((SNOW, (2, 0)), [], Clearness.NONE),
        (((1, 1),), [0], Clearness.CLEAR),
    ],
)
def test_the_filter_of_the_plan(skies: tuple[tuple[int, int], ...], kept: list[int], clearness: Clearness) -> None:
    pixels = pixels_of(len(skies))
    answer = chosen(pixels, masks_of(*skies))
    assert answer.clearness is clearness
    np.testing.assert_array_equal(answer.dates, DAYS[kept])
    np.testing.assert_array_equal(answer.pixels.values, pixels.values[kept])
    assert answer.pixels.values.shape == (len(kept), 2, 10, 8)


def test_without_mask_or_rule_every_acquisition_is_taken() -> None:
    pixels = pixels_of(5)
    for answer in (chosen(pixels, None), chosen(pixels, masks_of(*[CLOUD] * 5), None)):
        assert answer.clearness is Clearness.CLEAR
        np.testing.assert_array_equal(answer.pixels.values, pixels.values)


def test_an_acquisition_that_sees_nothing_of_the_tile_is_left_out() -> None:
    pixels = pixels_of(4)
    pixels.void[[0, 2]] = True
    answer = chosen(pixels, None, None)
    np.testing.assert_array_equal(answer.dates, DAYS[[1, 3]])
    # Its mask says "clear" because nobody looked; it must not stand in the way of the others.
    answer = chosen(pixels, masks_of(CLEAR, CLOUD, CLEAR, CLOUD))
    assert (answer.clearness, answer.dates.tolist()) == (Clearness.SNOW_ONLY, DAYS[[1, 3]].tolist())


def test_pixels_that_one_acquisition_misses_count_as_clouded() -> None:
    pixels = pixels_of(2)
    pixels.void[0, :3] = True
    assert chosen(pixels, masks_of(CLEAR, CLEAR)).dates.tolist() == DAYS[[1]].tolist()
    assert chosen(pixels, masks_of(CLEAR, CLOUD)).clearness is Clearness.SNOW_ONLY


def test_pixels_that_no_acquisition_sees_do_not_count() -> None:
    pixels = pixels_of(2)
    pixels.void[:, :6] = True
    masks = masks_of(CLEAR, CLEAR)
    masks.values[1, 1, 6:] = 100
    assert chosen(pixels, masks).dates.tolist() == DAYS[[0]].tolist()


def test_months_are_averaged_over_valid_pixels_only() -> None:
    values = np.zeros((4, 1, 1, 2), np.uint16)
    values[:, 0, 0] = [[10, 0], [20, 7], [90, 0], [91, 0]]
    void = np.zeros((4, 1, 2), np.bool_)
    void[[0, 2, 3], 0, 1] = True
    days = np.array(["2021-03-02", "2021-03-30", "2021-04-01", "2021-04-17"], "datetime64[D]")
    rule = SeriesFilter(composite="monthly")
    answer = choose_acquisitions(Pixels(values, void), dates=days, snow_cloud=None, rule=rule)
    assert answer.dates.tolist() == [datetime.date(2021, 3, 15), datetime.date(2021, 4, 15)]
    assert answer.pixels.values[:, 0, 0].tolist() == [[15, 7], [90, 0]]
    assert answer.pixels.values.dtype == np.uint16
    assert answer.pixels.void[:, 0].tolist() == [[False, False], [False, True]]


@settings(deadline=None)
@given(st.lists(st.sampled_from([CLEAR, CLOUD, SNOW, (60, 60)]), max_size=9), st.integers(0, 99))
def test_adding_acquisitions_that_see_nothing_changes_nothing(skies: list[tuple[int, int]], seed: int) -> None:
    pixels, masks = pixels_of(len(skies)), masks_of(*skies)
    rng = np.random.default_rng(seed)
    places = np.sort(rng.integers(0, len(skies) + 1, 3))
    with_blind = Pixels(
        *(np.insert(array, places, fill, axis=0) for array, fill in ((pixels.values, 0), (pixels.void, True)))
    )
    blind_masks = Pixels(np.insert(masks.values, places, rng.integers(0, 101), axis=0), with_blind.void & False)
    days = DAYS[: len(skies)]
    answer = choose_acquisitions(with_blind, dates=np.insert(days, places, DAYS[-1]), snow_cloud=blind_masks, rule=RULE)
    expected = choose_acquisitions(pixels, dates=days, snow_cloud=masks, rule=RULE)
    assert answer.clearness is expected.clearness
    np.testing.assert_array_equal(answer.dates, expected.dates)
    np.testing.assert_array_equal(answer.pixels.values, expected.pixels.values)


def optical_scene(folder: Path, sky: NDArray[np.uint8], *, values: NDArray[Any] | None = None) -> Scene:
    """A series of 3 dates over 30 x 40 pixels whose mask [T, 2, 30, 40] is `sky`."""
    place = Affine(10, 0, 843000.0, 0, -10, 6519000.0)
    if values is None:
        values = np.full((3, 10, 30, 40), 100, np.uint16) * np.arange(1, 4, dtype=np.uint16)[:, None, None, None]
    series = write_raster(folder / "s2.tif", values.reshape(30, 30, 40), transform=place)
    mask = write_raster(folder / "mask.tif", sky.reshape(6, 30, 40), transform=place)
    days = ("20210105", "20210205", "20210305")
    return Scene(inputs={"SENTINEL2_TS": Source(path=series, dates=days, mask=mask)})


def test_the_filter_keeps_nothing_from_one_tile_to_the_next(tmp_path: Path) -> None:
    """Each tile gets the dates of its own sky, in any order of tiles."""
    manifest = make_manifest(make_modality("SENTINEL2_TS"))
    sky = np.zeros((3, 2, 30, 40), np.uint8)
    sky[0, 1, :, :20] = 100
    sky[1, 1, :15] = 100
    sky[2, 0] = 100
    scene = optical_scene(tmp_path, sky)
    taken: list[dict[tuple[int, int], list[Any]]] = []
    for number, order in enumerate((1, -1)):
        engine = FormulaEngine(manifest)
        with pytest.MonkeyPatch.context() as patch:
            places = list(Tiling((30, 40), tile_px=10, halo_px=0))[::order]
            patch.setattr(predict, "remaining", lambda tiling, _, order=order: range(len(tiling))[::order])
            summary = predict_raster(engine, scene, tmp_path / f"out{number}", halo_px=0, batch=3)
        dates = [each.tolist() for call in engine.calls for each in call["SENTINEL2_DATES"]]
        taken.append({(p.rows.start, p.columns.start): each for p, each in zip(places, dates, strict=True)})
        assert any("SENTINEL2_TS: 4 of 12 tiles without a clear acquisition" in text for text in summary.messages)
    assert taken[0] == taken[1]
    january, february = datetime.date(2021, 1, 5), datetime.date(2021, 2, 5)
    assert taken[0][0, 0] == [january, february]  # no clear one: snow alone decides
    assert taken[0][0, 20] == [january]
    assert taken[0][20, 0] == [february]
    assert taken[0][20, 20] == [january, february]


def test_a_tile_without_any_usable_acquisition_is_void_where_nothing_else_sees_it(tmp_path: Path) -> None:
    sky = np.zeros((3, 2, 30, 40), np.uint8)
    sky[:, 0, 10:20, 10:20] = 100
    engine = FormulaEngine(make_manifest(make_modality("SENTINEL2_TS")))
    summary = predict_raster(engine, optical_scene(tmp_path, sky), tmp_path / "out", halo_px=0)
    labels = read_raster(summary.files["LAND"].labels)[0]
    expected = np.zeros((30, 40), np.bool_)
    expected[10:20, 10:20] = True
    np.testing.assert_array_equal(labels == 255, expected)
    assert any(
        "1 of 12 tiles without a single usable acquisition of any sensor; left void" in m for m in summary.messages
    )


def test_a_mask_that_lies_elsewhere_is_refused(tmp_path: Path) -> None:
    scene = optical_scene(tmp_path, np.zeros((3, 2, 30, 40), np.uint8))
    far = Affine(10, 0, 943000.0, 0, -10, 6519000.0)
    mask = write_raster(tmp_path / "far.tif", np.zeros((6, 30, 40), np.uint8), transform=far)
    source = scene.inputs["SENTINEL2_TS"].model_copy(update={"mask": mask})
    with pytest.raises(Exception, match=r"far.tif does not overlap .*s2.tif"):
        predict_raster(
            FormulaEngine(make_manifest(make_modality("SENTINEL2_TS"))),
            Scene(inputs={"SENTINEL2_TS": source}),
            tmp_path / "out",
        )
