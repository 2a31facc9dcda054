"""The parts against slow and obvious versions of themselves."""

import numpy as np
import pytest

from uperfuse.engine.simulation.footprint import BLOCK_PX, Footprints, cell_means, cells_in, pixel_means
from uperfuse.engine.simulation.light import Sun, cast_shadows, shade_slopes
from uperfuse.engine.simulation.noise import Grid, Table, blur, smooth, stream
from uperfuse.engine.simulation.parcels import Border, divide
from uperfuse.engine.simulation.phenology import CALENDARS


def test_cell_means_share_pixels_between_cells():
    rng = np.random.default_rng(1)
    values = rng.random((BLOCK_PX, 2 * BLOCK_PX), dtype=np.float32)
    fine = np.repeat(np.repeat(values, 5, 0), 5, 1)  # fifths of a pixel: 256 of them make a cell
    expected = fine.reshape(5, 256, 10, 256).mean((1, 3), dtype=np.float64)
    np.testing.assert_allclose(cell_means(values), expected, rtol=1e-5)
    np.testing.assert_allclose(pixel_means(values, 8)[3, 5], values[24:32, 40:48].mean(), rtol=1e-5)


def test_cells_cover_any_size():
    assert [cells_in(size) for size in (1, 51, 52, 256, 512, 513)] == [1, 1, 2, 5, 10, 11]


def test_footprints_mix_surfaces_by_their_shares():
    rng = np.random.default_rng(2)
    entity = rng.integers(0, 7, (BLOCK_PX, 2 * BLOCK_PX)).astype(np.int16)
    entity[:, :100] = 3
    values = rng.random((7, 4), dtype=np.float32)
    mean = Footprints(entity).mean(values)
    assert mean.shape == (5, 10, 4)
    np.testing.assert_allclose(mean[2, 0], values[3], rtol=1e-5)
    np.testing.assert_allclose(mean[1, 7], values[entity[51:102, 359:410]].mean((0, 1)), atol=0.01)


def test_shadows_are_those_of_a_ray_walked_step_by_step():
    rng = np.random.default_rng(3)
    surface = np.zeros((60, 80), np.float32)
    for y, x, tall in rng.uniform((5, 5, 1), (55, 75, 9), (25, 3)):
        surface[int(y) - 1 : int(y) + 2, int(x) - 1 : int(x) + 2] = tall
    sun = Sun(azimuth=np.radians(90.0), elevation=np.radians(45.0))  # due east: rays run along rows
    walked = np.ones_like(surface)
    for column in range(80):
        for step in range(1, 30):
            ahead = surface[:, min(79, column + step)] - step * 0.5
            walked[ahead > surface[:, column] + 0.17, column] = 0
    fast = cast_shadows(surface, 0.5, sun, reach_m=15.0)
    assert ((fast > 0.5) == (walked > 0.5)).mean() > 0.97
    assert (walked == 0).mean() > 0.05


def test_slopes_that_face_the_sun_are_brighter():
    x = np.arange(40, dtype=np.float32)[None, :].repeat(30, 0)
    sun = Sun(azimuth=np.radians(90.0), elevation=np.radians(40.0))
    east_facing, level, west_facing = (shade_slopes(k * x, 1.0, sun)[15, 20] for k in (-0.4, 0.0, 0.4))
    assert east_facing > level > west_facing
    assert level == pytest.approx(1.0)


def test_fields_look_the_same_at_two_pixel_sizes():
    fine, coarse = (smooth(stream(5, "x"), Grid((n, 2 * n), 51.2 / n), 9.0) for n in (256, 128))
    np.testing.assert_allclose(pixel_means(fine, 2), coarse, atol=0.02)
    assert abs(smooth(stream(6), Grid((400, 500), 1.0), 5.0).std() - 1) < 0.1


def test_table_noise_is_continuous_and_repeats():
    table = Table(stream(1))
    along, across = np.float32([[0.999, 1.001, 257.001]]), np.float32([[3.3, 3.3, 3.3]])
    low, high, again = table(along, across)[0]
    assert low == pytest.approx(high, abs=1e-3)
    assert again == pytest.approx(high, abs=1e-3)


def test_blur_keeps_the_mean_and_spreads_a_point():
    point = np.zeros((3, 21, 17), np.float32)
    point[:, 10, 8] = 1
    spread = blur(point, 1.5)
    np.testing.assert_allclose(spread.sum((1, 2)), 1, rtol=1e-5)
    assert spread[0, 10, 8] == spread[0].max() < 0.1
    assert spread[0, 10, 10] == pytest.approx(spread[0, 12, 8], rel=1e-5)


def _division(field_area_m2: float):
    return divide(
        (120.0, 200.0),
        skeleton=stream(1, "skeleton"),
        detail=stream(1, field_area_m2),
        town=lambda points: np.zeros(len(points), np.float32),
        field_area_m2=field_area_m2,
        plot_area_m2=600.0,
        hedges=0.3,
    )


def test_parcels_partition_the_ground_and_borders_lie_between_them():
    division = _division(2500.0)
    grid = Grid((240, 400), 0.5)
    y, x = (np.broadcast_to(axis, grid.shape_yx) for axis in grid.axes())
    parcel, distance, cut = division.locate(y, x)
    assert set(np.unique(parcel)) <= set(range(len(division.area_m2)))
    assert (division.parcel[cut] == -1).all()
    # Two neighbouring pixels of different parcels have a border strip at, or within a pixel of, both.
    crossing = parcel[:, 1:] != parcel[:, :-1]
    assert crossing.any()
    assert (np.maximum(distance[:, 1:], distance[:, :-1])[crossing] < 0.5).all()
    # Within a parcel the distance is that of a walk: it changes by no more than one pixel per pixel.
    assert np.abs(np.diff(distance, axis=1)[~crossing]).max() < 0.51
    areas = np.bincount(parcel.ravel(), minlength=len(division.area_m2)) * 0.25
    assert 600 < np.median(areas[areas > 0]) < 6000


def test_the_first_cuts_outlast_the_parcels():
    young, old = _division(4000.0), _division(1000.0)
    assert young.border[0] == old.border[0] == Border.ROAD
    assert young.offset[0] == old.offset[0]
    np.testing.assert_array_equal(young.normal_xy[0], old.normal_xy[0])
    assert len(old.area_m2) > 2 * len(young.area_m2)


@pytest.mark.parametrize("crop", CALENDARS)
def test_calendars_stay_within_bounds_all_year(crop):
    season = CALENDARS[crop].on(np.arange(-30.0, 400.0), shift=4.0, vigour=1.08)
    for state in (season.cover, season.dry, season.bloom):
        assert np.isfinite(state).all()
        assert state.min() >= 0
        assert state.max() <= 1
    assert CALENDARS[crop].on(np.array([200.0]), vigour=0.5).cover < CALENDARS[crop].on(np.array([200.0])).cover
