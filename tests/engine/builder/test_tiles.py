"""Which tiles of the user's rasters a plan is quantised on."""

from __future__ import annotations

import numpy as np
import pytest
import rasterio
from affine import Affine

from uperfuse.engine import Plan, RasterError
from uperfuse.engine.builder.tiles import CalibrationTiles, Sample, spread_places, tiles_of_scene
from uperfuse.engine.plan.manifest import Manifest
from uperfuse.engine.rasters import Scene
from uperfuse.engine.rasters.tiling import Tiling

TASK = "AERIAL_LABEL-COSIA"
SHAPE_YX = (256 * 3 + 40, 256 * 4 + 100)


@pytest.fixture(scope="module")
def manifest(plans) -> Manifest:
    with Plan.open(plans("aerial")[0]) as plan:
        return plan.manifest


@pytest.fixture(scope="module")
def rasters(tmp_path_factory):
    """An image whose pixels say where they are, with a void rectangle, and labels that say the same."""
    folder = tmp_path_factory.mktemp("scene")
    rows, columns = np.mgrid[: SHAPE_YX[0], : SHAPE_YX[1]]
    image = np.stack([rows % 251 + 1, columns % 241 + 1, (rows // 256) * 16 + columns // 256 + 1]).astype(np.uint8)
    image[:, :256, 256:512] = 0
    labels = ((rows // 3 + columns // 5) % 19).astype(np.uint8)
    labels[300:320] = 255
    for name, values in (("image", image), ("labels", labels[None])):
        with rasterio.open(
            folder / f"{name}.tif",
            "w",
            driver="GTiff",
            dtype="uint8",
            count=len(values),
            height=SHAPE_YX[0],
            width=SHAPE_YX[1],
            crs="EPSG:2154",
            transform=Affine(0.2, 0, 600_000, 0, -0.2, 6_700_000),
            nodata=0 if name == "image" else None,
        ) as file:
            file.write(values)
            if name == "image":
                file.descriptions = ("R", "G", "B")
    return folder, image, labels


@pytest.fixture(scope="module")
def scene(rasters) -> Scene:
    return Scene.from_options([f"AERIAL_RGBI={rasters[0] / 'image.tif'}"])


def test_places_are_whole_apart_and_each_once():
    tiling = Tiling(SHAPE_YX, tile_px=256, halo_px=0)
    places = [(place.rows.start, place.columns.start) for place in spread_places(tiling, seed=3)]
    assert sorted(places) == [(row, column) for row in (0, 256, 512) for column in (0, 256, 512, 768)]
    small = list(spread_places(Tiling((100, 300), tile_px=256, halo_px=0), seed=0))
    assert [(place.rows.start, place.columns.start) for place in small] == [(0, 0)]


@pytest.mark.parametrize("seed", range(5))
def test_the_first_places_are_spread(seed):
    tiling = Tiling((64 * 40, 64 * 24), tile_px=64, halo_px=0)
    places = [
        (p.rows.start // 64, p.columns.start // 64)
        for p, _ in zip(spread_places(tiling, seed=seed), range(24), strict=False)
    ]
    sixths = {(row * 3 // 40, column * 2 // 24) for row, column in places}
    assert len(sixths) == 6
    counts = [sum((row * 3 // 40, column * 2 // 24) == each for row, column in places) for each in sixths]
    assert max(counts) <= 6  # four each, were they in rank and file


def test_tiles_are_the_rasters_own_and_their_uses_share_none(scene, rasters, manifest):
    tiles = tiles_of_scene(scene, manifest, seed=1)
    assert (len(tiles.ranges), len(tiles.accuracy)) == (6, 5)  # of 12 places one is void
    _, image, _ = rasters
    seen = []
    for sample in (*tiles.ranges, *tiles.accuracy):
        pixels = sample.tiles["AERIAL_RGBI"]
        row, column = divmod(int(pixels[0, 2, 0, 0]) - 1, 16)
        seen.append((row, column))
        np.testing.assert_array_equal(
            pixels[0], image[:, row * 256 : row * 256 + 256, column * 256 : column * 256 + 256]
        )
        assert not sample.voids["AERIAL_RGBI"].any()
        assert sample.checked(manifest)["AERIAL_RGBI"].pixels.shape == (3, 256, 256)
    assert len(set(seen)) == 11
    assert (0, 1) not in seen


def test_a_seed_chooses_and_the_same_one_the_same(scene, manifest):
    def corners(seed: int) -> list[int]:
        tiles = tiles_of_scene(scene, manifest, most=4, seed=seed)
        return [int(sample.tiles["AERIAL_RGBI"][0, 2, 0, 0]) for sample in (*tiles.ranges, *tiles.accuracy)]

    assert len(corners(1)) == 4
    assert corners(1) == corners(1)
    assert len({tuple(corners(seed)) for seed in range(4)}) > 1


def test_labels_come_with_their_tiles(scene, rasters, manifest):
    folder, _, labels = rasters
    tiles = tiles_of_scene(scene, manifest, labels={TASK: folder / "labels.tif"}, most=4)
    for sample in (*tiles.ranges, *tiles.accuracy):
        row, column = divmod(int(sample.tiles["AERIAL_RGBI"][0, 2, 0, 0]) - 1, 16)
        expected = labels[row * 256 : row * 256 + 256, column * 256 : column * 256 + 256]
        assert manifest.label_px == 256
        np.testing.assert_array_equal(sample.truth[TASK], expected)


def test_labels_that_do_not_fit_are_refused(scene, rasters, manifest, tmp_path):
    folder, _, labels = rasters
    with pytest.raises(RasterError, match="labels are given for CROPS, which the plan does not map"):
        tiles_of_scene(scene, manifest, labels={"CROPS": folder / "labels.tif"})
    with pytest.raises(RasterError, match=r"has 3 bands of uint8, expected one of uint8 with the classes of AERIAL_LA"):
        tiles_of_scene(scene, manifest, labels={TASK: folder / "image.tif"})
    with rasterio.open(folder / "labels.tif") as file:
        profile = file.profile
    with rasterio.open(tmp_path / "more.tif", "w", **profile) as file:
        file.write((labels + 7)[None])
    with pytest.raises(RasterError, match=r"more.tif holds class 2\d, AERIAL_LABEL-COSIA of the plan has 19 from 0 on"):
        tiles_of_scene(scene, manifest, labels={TASK: tmp_path / "more.tif"})


def test_one_tile_is_not_enough():
    with pytest.raises(RasterError, match="1 tiles for ranges and 0 for accuracy, expected some of each"):
        CalibrationTiles.split([Sample({})])
