"""The files of a map: form, names, colours, and that none is ever half-written."""

from __future__ import annotations

import ctypes
import xml.etree.ElementTree as ET
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import rasterio

from uperfuse.engine.errors import RasterError
from uperfuse.engine.rasters import Scene, Source, predict_raster
from uperfuse.engine.rasters.cog import ByteRaster, Description
from uperfuse.engine.rasters.grid import Grid
from uperfuse.engine.rasters.mosaic import MapFiles

from .formula import CLASSES, PLACE, TASK, FormulaEngine, aerial_manifest, read_raster, write_raster

ROWS, COLUMNS = 700, 1100


@pytest.fixture(scope="module")
def maps(tmp_path_factory: pytest.TempPathFactory) -> MapFiles:
    folder = tmp_path_factory.mktemp("maps")
    rng = np.random.default_rng(3)
    values = np.kron(rng.integers(1, 256, (3, 70, 110)), np.ones((1, 10, 10))).astype(np.uint8)
    values[:, 100:200, 300:700] = 0
    path = write_raster(folder / "ortho.v2.tif", values, nodata=0, photometric="RGB")
    scene = Scene(inputs={"AERIAL_RGBI": Source(path=path)})
    engine = FormulaEngine(aerial_manifest(tile_px=256), keep_calls=False)
    return predict_raster(engine, scene, folder / "out", probabilities=True).files[TASK]


def test_names(maps: MapFiles) -> None:
    names = {path.name for path in maps}
    assert names == {path.name for path in maps.labels.parent.iterdir()}
    assert names == {
        f"ortho.v2_LAND{end}" for end in (".tif", ".qml", ".tif.aux.xml", "_confidence.tif", "_probabilities.tif")
    }


def test_all_are_cloud_optimised_on_the_grid_of_the_base(maps: MapFiles) -> None:
    for path, bands in ((maps.labels, 1), (maps.confidence, 1), (maps.probabilities, len(CLASSES))):
        assert path is not None
        with rasterio.open(path) as dataset:
            assert dataset.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
            assert dataset.tags(ns="IMAGE_STRUCTURE")["COMPRESSION"] == "DEFLATE"
            assert (dataset.count, dataset.shape, dataset.nodata) == (bands, (ROWS, COLUMNS), 255)
            assert set(dataset.dtypes) == {"uint8"}
            assert dataset.overviews(1) == [2, 4]
            assert dataset.crs == "EPSG:2154"
            assert dataset.transform.almost_equals(PLACE)
            tags = dataset.tags()
            assert tags["UPERFUSE_VERSION"] == version("uperfuse")
            assert tags["UPERFUSE_PLAN"] == "ab" * 32
            assert (tags["UPERFUSE_NETWORK"], tags["UPERFUSE_TASK"]) == ("formula", TASK)


def test_labels_carry_colours_and_names(maps: MapFiles) -> None:
    with rasterio.open(maps.labels) as dataset:
        colours = dataset.colormap(1)
        assert dataset.tags(1) == {f"CLASS_{value}": name for value, name in enumerate(CLASSES)}
        small = dataset.read(1, out_shape=(ROWS // 4, COLUMNS // 4))
    assert set(np.unique(small)) <= {0, 1, 2, 3, 255}
    root = ET.parse(maps.style).getroot()
    entries = root.findall("./pipe/rasterrenderer[@type='paletted']/colorPalette/paletteEntry")
    assert [(entry.get("value"), entry.get("label")) for entry in entries] == [
        (str(value), name) for value, name in enumerate(CLASSES)
    ]
    for entry in entries:
        red, green, blue = bytes.fromhex(entry.get("color", "")[1:])
        assert colours[int(entry.get("value", ""))] == (red, green, blue, 255)


def test_gdal_reads_the_category_names(maps: MapFiles) -> None:
    gdal = _loaded_gdal()
    gdal.GDALOpen.restype = gdal.GDALGetRasterBand.restype = gdal.GDALGetDefaultRAT.restype = ctypes.c_void_p
    gdal.GDALGetRasterCategoryNames.restype = ctypes.POINTER(ctypes.c_char_p)
    dataset = ctypes.c_void_p(gdal.GDALOpen(str(maps.labels).encode(), 0))
    band = ctypes.c_void_p(gdal.GDALGetRasterBand(dataset, 1))
    table = ctypes.c_void_p(gdal.GDALGetDefaultRAT(band))
    assert gdal.GDALRATGetRowCount(table) == len(CLASSES)
    names = gdal.GDALGetRasterCategoryNames(band)
    assert [names[index].decode() for index in range(len(CLASSES))] == list(CLASSES)
    assert names[len(CLASSES)] is None
    gdal.GDALClose(dataset)


def _loaded_gdal() -> ctypes.CDLL:
    """The library that rasterio has loaded."""
    maps = Path("/proc/self/maps")
    for line in maps.read_text().splitlines() if maps.exists() else []:
        path = line.split()[-1]
        if "libgdal" in path:
            return ctypes.CDLL(path)
    pytest.skip("rasterio's GDAL is not a shared library here")


def test_probabilities_are_percents_that_go_with_the_labels(maps: MapFiles) -> None:
    assert maps.probabilities is not None
    labels, percent = read_raster(maps.labels)[0], read_raster(maps.probabilities)
    void = labels == 255
    assert (percent[:, void] == 255).all()
    assert (percent[:, ~void].argmax(axis=0) == labels[~void]).all()
    assert np.abs(percent[:, ~void].astype(int).sum(axis=0) - 100).max() <= 2
    best = 100 / (1 + 3 * np.exp(-3.0))
    assert np.unique(percent[:, ~void].max(axis=0)).tolist() == [round(best)]
    with rasterio.open(maps.probabilities) as dataset:
        assert dataset.descriptions == CLASSES


def test_confidence_can_be_left_out(tmp_path: Path) -> None:
    summary = predict_raster(FormulaEngine(aerial_manifest()), a_scene(tmp_path), tmp_path / "out", confidence=False)
    assert summary.files[TASK].confidence is None
    assert not list((tmp_path / "out").glob("*confidence*"))


def a_scene(folder: Path, *, rows: int = 150) -> Scene:
    values = np.random.default_rng(0).integers(1, 255, (3, rows, 200), np.uint8)
    return Scene(inputs={"AERIAL_RGBI": Source(path=write_raster(folder / "ortho.tif", values, photometric="RGB"))})


@pytest.mark.parametrize("error", [RuntimeError("broken"), KeyboardInterrupt(), MemoryError()])
def test_a_failure_before_anything_is_finished_leaves_nothing(tmp_path: Path, error: BaseException) -> None:
    engine = FormulaEngine(aerial_manifest(), fail_at_call=0, error=error)
    with pytest.raises(type(error)):
        predict_raster(engine, a_scene(tmp_path), tmp_path / "new" / "out", batch=1)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("error", [RuntimeError("broken"), KeyboardInterrupt(), MemoryError()])
def test_a_failure_in_the_middle_leaves_what_is_finished_and_no_map(tmp_path: Path, error: BaseException) -> None:
    engine = FormulaEngine(aerial_manifest(), fail_at_call=3, error=error)
    said: list[str] = []
    with pytest.raises(type(error)):
        predict_raster(engine, a_scene(tmp_path), tmp_path / "out", batch=1, report=said.append)
    (kept,) = (tmp_path / "out").iterdir()
    assert kept.name == ".uperfuse-ortho_LAND"
    assert said[-1] == f"3 of 12 tiles are kept in {kept}; go on from there with --resume"


def test_a_failure_keeps_older_maps(tmp_path: Path) -> None:
    scene = a_scene(tmp_path)
    old = predict_raster(FormulaEngine(aerial_manifest()), scene, tmp_path / "out").files[TASK]
    contents = {path: path.read_bytes() for path in old}
    engine = FormulaEngine(aerial_manifest(), fail_at_call=2)
    with pytest.raises(RuntimeError, match="the engine broke"):
        predict_raster(engine, scene, tmp_path / "out", batch=1, overwrite=True)
    assert {path: path.read_bytes() for path in (tmp_path / "out").glob("[!.]*")} == contents


def test_existing_maps_are_replaced_only_when_asked(tmp_path: Path) -> None:
    scene = a_scene(tmp_path)
    engine = FormulaEngine(aerial_manifest())
    labels = predict_raster(engine, scene, tmp_path / "out").files[TASK].labels
    labels.write_bytes(b"mine")
    engine.calls.clear()
    with pytest.raises(RasterError, match=r"ortho_LAND.tif.* exists already; .*--overwrite"):
        predict_raster(engine, scene, tmp_path / "out")
    assert (labels.read_bytes(), engine.calls) == (b"mine", [])
    predict_raster(engine, scene, tmp_path / "out", overwrite=True)
    assert read_raster(labels).shape == (1, 150, 200)


def test_a_broken_input_in_the_middle_leaves_no_map(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    values = rng.integers(0, 255, (3, 900, 700), np.uint8)
    path = write_raster(tmp_path / "ortho.tif", values, photometric="RGB", compress="DEFLATE")
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    with pytest.raises(RasterError, match=r"^rows \d+ to \d+, columns \d+ to \d+: .*ortho\.tif cannot be read"):
        predict_raster(
            FormulaEngine(aerial_manifest()), Scene(inputs={"AERIAL_RGBI": Source(path=path)}), tmp_path / "out"
        )
    assert not list((tmp_path / "out").glob("[!.]*"))


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(OSError, match="out"):
        predict_raster(FormulaEngine(aerial_manifest()), a_scene(tmp_path), tmp_path / "out")


def test_what_reads_back_differently_is_refused(tmp_path: Path) -> None:
    grid = Grid(Path("ortho.tif"), rasterio.CRS.from_epsg(2154), PLACE, (40, 50))
    raster = ByteRaster(tmp_path / "working.tif", grid=grid, description=Description(["one"], {}))
    raster.write(np.full((1, 10, 20), 3, np.uint8), rows=slice(5, 15), columns=slice(20, 40))
    raster.close()
    with rasterio.open(tmp_path / "working.tif", "r+") as dataset:
        dataset.write(np.zeros((1, 1, 4), np.uint8), window=rasterio.windows.Window(22, 7, 4, 1))
    with pytest.raises(RasterError, match=r"map.tif reads back with 4 pixels other than written; check the disk"):
        raster.finish(tmp_path / "map.tif")
