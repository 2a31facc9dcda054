"""Written scenes read back: values, names, dates, and one ground beneath all rasters."""

from pathlib import Path

import numpy as np
import pytest
import rasterio
import yaml
from rasterio.enums import ColorInterp

from uperfuse.engine.flairhub import MODALITIES, TASKS
from uperfuse.engine.simulation import MASK, write_scene


@pytest.fixture(scope="module")
def written(scene, tmp_path_factory) -> Path:
    return write_scene(scene, tmp_path_factory.mktemp("scene") / "new")


def test_values_come_back(scene, written):
    arrays = {**scene.images, **{task: label[None] for task, label in scene.labels.items()}}
    for name, passes in scene.series.items():
        arrays[name] = passes.values.reshape(-1, *passes.values.shape[-2:])
    arrays[MASK] = scene.masks.reshape(-1, *scene.masks.shape[-2:])
    for name, array in arrays.items():
        with rasterio.open(written.parent / f"{name}.tif") as raster:
            read = raster.read()
            assert read.dtype == array.dtype, name
            assert all(side % 16 == 0 for shape in raster.block_shapes for side in shape), name
            assert raster.compression.value == "DEFLATE", name
        np.testing.assert_array_equal(read, array, err_msg=name)


def test_all_rasters_lie_on_one_ground(scene, written):
    names = (*MODALITIES, *TASKS, MASK)
    for name in names:
        with rasterio.open(written.parent / f"{name}.tif") as raster:
            assert raster.crs.to_epsg() == 2154
            assert (raster.bounds.left, raster.bounds.top) == pytest.approx(scene.origin_m)
            gsd_m = MODALITIES[name].gsd_m if name in MODALITIES else 10.24 if name == MASK else 0.2
            assert raster.res == pytest.approx((gsd_m, gsd_m))
            height_m, width_m = (size * 0.2 for size in scene.shape_yx_px)
            assert 0 <= raster.bounds.right - raster.bounds.left - width_m < gsd_m + 1e-6
            assert 0 <= raster.bounds.top - raster.bounds.bottom - height_m < gsd_m + 1e-6


def test_bands_are_described_and_void_is_nodata(scene, written):
    folder = written.parent
    with rasterio.open(folder / "AERIAL_RGBI.tif") as raster:
        assert raster.descriptions == ("R", "G", "B", "NIR")
        assert raster.nodata == 0
        assert ColorInterp.alpha not in raster.colorinterp
        np.testing.assert_array_equal(raster.dataset_mask() == 0, scene.void)
    with rasterio.open(folder / "DEM_ELEV.tif") as raster:
        assert raster.descriptions == ("DSM", "DTM")
    dates = [str(day).replace("-", "") for day in scene.series["SENTINEL2_TS"].dates]
    with rasterio.open(folder / "SENTINEL2_TS.tif") as raster:
        assert raster.count == 10 * len(dates)
        assert raster.descriptions[:2] == (f"{dates[0]}_B02", f"{dates[0]}_B03")
        assert raster.descriptions[-1] == f"{dates[-1]}_B12"
    with rasterio.open(folder / f"{MASK}.tif") as raster:
        assert raster.descriptions[2:4] == (f"{dates[1]}_snow", f"{dates[1]}_cloud")


def test_the_scene_file_names_every_modality_its_dates_and_the_mask(scene, written):
    inputs = yaml.safe_load(written.read_text(encoding="utf-8"))["inputs"]
    assert tuple(inputs) == tuple(MODALITIES)
    for name, source in inputs.items():
        assert (written.parent / source["path"]).is_file()
        if MODALITIES[name].kind == "series":
            lines = (written.parent / source["dates"]).read_text(encoding="utf-8").split()
            read = np.array([f"{d[:4]}-{d[4:6]}-{d[6:]}" for d in lines], "datetime64[D]")
            np.testing.assert_array_equal(read, scene.series[name].dates)
        assert ("mask" in source) == (name == "SENTINEL2_TS")
