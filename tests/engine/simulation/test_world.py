"""The world has the causes it was made for: season tells crops, height tells roofs, clouds hide, history disagrees."""

from dataclasses import replace

import numpy as np
import pytest

from uperfuse.engine.simulation import DOMAINS, simulate
from uperfuse.engine.simulation.classes import Cover, Crop
from uperfuse.engine.simulation.domain import Use
from uperfuse.engine.simulation.landscape import build
from uperfuse.engine.simulation.materials import NIR, RED
from uperfuse.engine.simulation.noise import Grid
from uperfuse.engine.simulation.palette import field_surface
from uperfuse.engine.simulation.site import choose_site
from uperfuse.engine.simulation.surfaces import Surfaces

_ANNUAL = (Crop.WHEAT, Crop.MAIZE, Crop.SUNFLOWER, Crop.RAPESEED, Crop.SOY, Crop.BEETROOTS)


def _accuracy(features: np.ndarray, classes: np.ndarray) -> float:
    """Classify every other row by the nearest class mean of the rest, in units of the spread within classes."""
    train = np.arange(len(features)) % 2 == 0
    means = np.stack([features[train & (classes == c)].mean(0) for c in np.unique(classes)])
    spread = np.std(features[train] - means[np.searchsorted(np.unique(classes), classes[train])], axis=0) + 1e-6
    gaps = np.linalg.norm((features[~train, None] - means) / spread, axis=-1)
    return float((np.unique(classes)[gaps.argmin(1)] == classes[~train]).mean())


def _ndvi(values: np.ndarray) -> np.ndarray:
    red, infrared = values[..., RED].astype(float), values[..., NIR].astype(float)
    return (infrared - red) / (infrared + red)


def test_crops_differ_in_season_much_more_than_in_one_aerial_image():
    rng = np.random.default_rng(0)
    surfaces = Surfaces()
    crops = np.repeat(_ANNUAL, 60)
    for crop in crops:
        surfaces.add(field_surface(rng, DOMAINS["gascogne"], Crop(crop)))
    floor, canopy, cover = surfaces.aerial(200.0)
    colours = np.sqrt((1 - cover[:, None]) * floor + cover[:, None] * canopy)[:, [0, 1, 2, NIR]]
    curves = _ndvi(surfaces.series(np.arange(10.0, 365.0, 20.0)))
    chance = 1 / len(_ANNUAL)
    assert _accuracy(curves, crops) > 0.9
    assert chance - 0.1 < _accuracy(colours, crops) < chance + 0.25


def test_the_satellite_sees_the_crops_of_the_label():
    cereals = {Crop.WHEAT: 1.0, Crop.BARLEY: 1.0}
    domain = replace(DOMAINS["beauce"], crops=cereals, uses={Use.CROPS: 1.0}, towns=0.0)
    scene = simulate(2, shape_yx_px=(1024, 1024), domain=domain)
    series, label = scene.series["SENTINEL2_TS"], scene.labels["ALL_LABEL-LPIS"]
    clear = scene.masks.max((1, 2, 3)) <= 1
    ndvi = _ndvi(np.moveaxis(series.values[clear], 1, -1))  # [T, Y, X]
    month = series.dates[clear].astype("datetime64[M]").astype(int) % 12 + 1
    cells = (np.arange(20) * 51.2).astype(int)
    pure = np.array([[len(np.unique(label[r : r + 51, c : c + 51])) == 1 for c in cells] for r in cells])
    crop = label[cells[:, None] + 25, cells + 25]
    cereal = np.isin(crop, list(cereals)) & pure
    assert cereal.sum() > 100
    curve = {m: ndvi[month == m][:, cereal].mean() for m in (5, 9)}
    assert curve[5] > 0.7
    assert curve[9] < 0.5


def test_height_tells_roofs_from_paved_ground_and_colour_does_not():
    scenes = [simulate(seed, shape_yx_px=(1024, 1024), domain=DOMAINS["perche"]) for seed in (1, 7)]
    rows = []
    for scene in scenes:
        label, dem = scene.labels["AERIAL_LABEL-COSIA"], scene.images["DEM_ELEV"]
        chosen = np.isin(label, (Cover.BUILDING, Cover.IMPERVIOUS_SURFACE))
        colour = scene.images["AERIAL_RGBI"][:, chosen].astype(float)
        rows.append(np.vstack([label[chosen], (dem[0] - dem[1])[chosen], colour]))
    truth, height, *colour = np.concatenate(rows, axis=1)
    roof = truth == Cover.BUILDING
    balanced = 0.5 * ((height[roof] > 2).mean() + (height[~roof] <= 2).mean())
    assert balanced > 0.95
    # The best threshold on any one band, or on brightness, is much worse.
    for values in (*colour, sum(colour)):
        steps = np.quantile(values, np.linspace(0.02, 0.98, 40))
        best = max(abs((values[roof] > s).mean() - (values[~roof] > s).mean()) for s in steps)
        assert 0.5 * (1 + best) < 0.85


def test_deciduous_trees_lose_their_leaves_and_conifers_do_not():
    surfaces = build(choose_site(4, DOMAINS["vercors"], (102.4, 102.4)), Grid((512, 512), 0.2)).surfaces
    winter, summer = np.moveaxis(_ndvi(surfaces.series(np.array([30.0, 195.0]))), 1, 0)
    drop = summer - winter
    deciduous, coniferous = (surfaces.covers() == c for c in (Cover.DECIDUOUS, Cover.CONIFEROUS))
    assert drop[deciduous].max() > 0.3
    assert np.median(np.abs(drop[coniferous])) < 0.05
    assert np.median(drop[deciduous]) > 0.25


def test_about_half_of_the_dates_are_cloudy_marked_and_bright():
    scene = simulate(9, shape_yx_px=(512, 1024))
    cloud, snow = scene.masks[:, 1], scene.masks[:, 0]
    clear = ((cloud <= 1) & (snow <= 1)).mean((1, 2)) >= 0.95
    assert 0.3 < clear.mean() < 0.7
    blue = scene.series["SENTINEL2_TS"].values[:, 0]
    assert np.median(blue[cloud > 90]) > 2.5 * np.median(blue[cloud <= 1])
    assert np.quantile(blue[clear][(snow <= 1)[clear]], 0.5) < 1500
    assert ((cloud > 5) & (cloud < 95)).any()


def test_the_old_photograph_shows_the_same_river_and_other_fields():
    domain = DOMAINS["gascogne"]
    grid = Grid((768, 512), 0.4)
    sites = [choose_site(k, domain, grid.extent_yx_m) for k in (0, 1, 2)]
    assert all(site.river and site.villages for site in sites)
    pairs = [[build(site, grid, modern=modern) for modern in (True, False)] for site in sites]
    now, then = (np.stack([pair[k].cover for pair in pairs]) for k in (0, 1))
    wet = now == Cover.WATER, then == Cover.WATER
    assert (wet[0] & wet[1]).sum() / (wet[0] | wet[1]).sum() > 0.7
    assert (now == then).mean() < 0.6
    assert (then == Cover.BUILDING).sum() < 0.6 * (now == Cover.BUILDING).sum()
    for new, old in pairs:
        np.testing.assert_array_equal(new.terrain, old.terrain)


def test_the_old_photograph_correlates_with_the_ground_of_then_only(scene):
    grey = scene.images["AERIAL_RGBI"][:3].mean(0)
    height, width = (size // 2 for size in grey.shape)
    now = grey[: 2 * height, : 2 * width].reshape(height, 2, width, 2).mean((1, 3))
    old = scene.images["AERIAL-RLT_PAN"][0, :height, :width].astype(float)
    known = ~scene.void[: 2 * height : 2, : 2 * width : 2]
    assert abs(np.corrcoef(now[known], old[known])[0, 1]) < 0.75


@pytest.mark.parametrize("orbit", ["SENTINEL1-ASC_TS", "SENTINEL1-DESC_TS"])
def test_radar_tells_water_from_woods_beneath_its_speckle(orbit):
    scene = simulate(0, shape_yx_px=(1536, 1024))
    label = scene.labels["AERIAL_LABEL-COSIA"]
    rows, columns = ((np.arange(n) * 51.2).astype(int) for n in (30, 20))
    mean = scene.series[orbit].values.mean(0)
    share = {
        c: np.array([[(label[r : r + 51, k : k + 51] == c).mean() for k in columns] for r in rows])
        for c in (Cover.WATER, Cover.DECIDUOUS)
    }
    water, wood = share[Cover.WATER] > 0.7, share[Cover.DECIDUOUS] > 0.95
    assert water.sum() > 3
    assert wood.sum() > 3
    assert mean[1][water].mean() < 0.5 * mean[1][wood].mean()
    single = scene.series[orbit].values[:, 0, 10, 10]
    assert 0.25 < single.std() / single.mean() < 1.2
