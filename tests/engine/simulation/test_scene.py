"""What a simulated scene promises: one scene per seed, rasters over one ground, tiles that agree with them."""

import doctest

import numpy as np
import pytest

from uperfuse.engine.errors import TileError
from uperfuse.engine.flairhub import MODALITIES, TASKS, dates_key
from uperfuse.engine.simulation import DOMAINS, MASK, SimulatedScene, simulate
from uperfuse.engine.simulation import scene as scene_module
from uperfuse.engine.simulation.classes import Cover, Crop


def _arrays(scene: SimulatedScene) -> dict[str, np.ndarray]:
    series = {name: passes.values for name, passes in scene.series.items()}
    dates = {dates_key(name): passes.dates for name, passes in scene.series.items()}
    return {**scene.images, **series, **dates, **scene.labels, MASK: scene.masks, "void": scene.void}


def test_a_seed_gives_one_scene():
    first, again, other = (_arrays(simulate(seed, shape_yx_px=(300, 470))) for seed in (3, 3, 4))
    for name, array in first.items():
        np.testing.assert_array_equal(array, again[name], err_msg=name)
    assert (first["AERIAL_RGBI"] != other["AERIAL_RGBI"]).mean() > 0.8


def test_rasters_have_the_forms_of_the_data_set(scene):
    assert tuple(scene.images) + tuple(scene.series) == tuple(MODALITIES)
    for name, facts in MODALITIES.items():
        array = scene.images[name] if facts.kind == "image" else scene.series[name].values
        assert array.dtype == facts.dtype, name
        assert array.shape[-3] == len(facts.bands), name
        for pixels, size_px in zip(array.shape[-2:], scene.shape_yx_px, strict=True):
            ground_m = size_px * 0.2
            assert ground_m <= pixels * facts.gsd_m + 1e-9 < ground_m + facts.gsd_m, name
    assert tuple(scene.labels) == tuple(TASKS)
    for label in scene.labels.values():
        assert label.shape == scene.shape_yx_px


def test_dates_rise_and_are_as_many_as_acquisitions(scene):
    counts = {}
    for name, passes in scene.series.items():
        assert passes.dates.dtype == "datetime64[D]"
        assert (np.diff(passes.dates) > 0).all()
        assert len(passes.dates) == len(passes.values)
        counts[name] = len(passes.dates)
    assert 80 <= counts["SENTINEL2_TS"] <= 100
    assert counts["SENTINEL1-ASC_TS"] < counts["SENTINEL1-DESC_TS"]
    assert scene.masks.shape == (counts["SENTINEL2_TS"], 2, *scene.series["SENTINEL2_TS"].values.shape[-2:])


def test_class_names_are_those_of_the_tasks():
    covers, crops = (tuple(entry.name for entry in TASKS[task]) for task in TASKS)
    assert tuple(c.name.lower().replace("_", " ") for c in Cover) == covers[: len(Cover)]
    assert tuple(c.name.lower().replace("_", " ") for c in Crop) == tuple(name.replace(",", "") for name in crops)


def test_void_pixels_are_zero_and_unlabelled_and_no_other_pixel_is(scene):
    assert 0.01 < scene.void.mean() < 0.2
    aerial = scene.images["AERIAL_RGBI"]
    assert (aerial[:, scene.void] == 0).all()
    assert (aerial[:, ~scene.void] > 0).all()
    for label in scene.labels.values():
        np.testing.assert_array_equal(label == 255, scene.void)
    whole = simulate(24, shape_yx_px=scene.shape_yx_px)
    assert not whole.void.any()
    np.testing.assert_array_equal(whole.images["AERIAL_RGBI"][:, ~scene.void], aerial[:, ~scene.void])


@pytest.mark.parametrize(("row_px", "column_px", "tile_px"), [(0, 0, 512), (512, 256, 512), (256, 0, 768)])
def test_a_tile_shows_the_same_ground_in_every_raster(scene, row_px, column_px, tile_px):
    tile = scene.tile(row_px, column_px, tile_px)
    whole = _arrays(scene)
    top_m, left_m, side_m = (value * 0.2 for value in (row_px, column_px, tile_px))
    for name, facts in MODALITIES.items():
        top, left, side = (round(value / facts.gsd_m) for value in (top_m, left_m, side_m))
        assert side * facts.gsd_m == pytest.approx(side_m)
        np.testing.assert_array_equal(tile[name], whole[name][..., top : top + side, left : left + side])
    for task in TASKS:
        expected = whole[task][row_px : row_px + tile_px, column_px : column_px + tile_px]
        np.testing.assert_array_equal(tile[task], expected)
    assert tile[MASK].shape == (len(tile["SENTINEL2_DATES"]), 2, *tile["SENTINEL2_TS"].shape[-2:])


@pytest.mark.parametrize(
    ("row_px", "column_px", "tile_px", "said"),
    [
        (100, 0, 512, "row_px is 100"),
        (0, -256, 512, "column_px is -256"),
        (0, 0, 500, "tile_px"),
        (0, 512, 512, "leaves"),
    ],
)
def test_a_tile_off_the_grid_or_the_scene_is_refused(scene, row_px, column_px, tile_px, said):
    with pytest.raises(TileError, match=said):
        scene.tile(row_px, column_px, tile_px)


@pytest.mark.parametrize("name", DOMAINS)
def test_every_domain_makes_a_scene_of_its_own_classes(name):
    made = simulate(5, shape_yx_px=(512, 512), domain=DOMAINS[name])
    cover, crop = (np.unique(label) for label in made.labels.values())
    assert set(cover) <= set(Cover)
    assert len(cover) >= 4
    allowed = {*DOMAINS[name].crops, *DOMAINS[name].orchards, Crop.GRASSES, Crop.VINEYARD, Crop.BACKGROUND}
    assert set(crop) <= allowed


def test_statistics_are_near_those_of_the_data_set():
    scenes = [simulate(k, shape_yx_px=(512, 768), domain=domain) for k, domain in enumerate(DOMAINS.values())]
    for name in ("AERIAL_RGBI", "AERIAL-RLT_PAN", "SPOT_RGBI"):
        facts = MODALITIES[name]
        pixels = np.concatenate([s.images[name].reshape(len(facts.bands), -1) for s in scenes], axis=1)
        for band, values in zip(facts.bands, pixels, strict=True):
            mean, std = facts.statistics[band]
            assert abs(values.mean() - mean) < 0.6 * std, (name, band)
            assert 0.4 * std < values.std() < 1.6 * std, (name, band)


def test_examples_run():
    assert doctest.testmod(scene_module).failed == 0
