"""Bringing rasters of other grids onto a tile: places are kept, void stays void, no needless resampling."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from rasterio import Affine
from rasterio.crs import CRS
from rasterio.warp import transform as transform_points

from uperfuse.engine.errors import RasterError
from uperfuse.engine.rasters import Scene, Source, predict_raster
from uperfuse.engine.rasters.align import read_square
from uperfuse.engine.rasters.reader import SceneReader
from uperfuse.engine.rasters.source import MaskRaster, Pixels, RasterSource
from uperfuse.engine.rasters.tiling import Span, TilePlace

from .formula import FormulaEngine, make_manifest, make_modality, write_raster

LAMBERT = CRS.from_epsg(2154)
EAST, NORTH = 843000.0, 6519000.0
HEIGHT = make_modality("DEM_ELEV", bands=("DSM",))
PAN = make_modality("AERIAL-RLT_PAN")


def place(pixel: float, *, east: float = EAST, north: float = NORTH) -> Affine:
    return Affine(pixel, 0, east, 0, -pixel, north)


def ramp(transform: Affine, rows: int, columns: int) -> NDArray[np.float32]:
    """A height that grows by 1 a metre eastwards and by 3 a metre southwards, [1, Y, X]: bilinear keeps it."""
    columns_yx, rows_yx = np.meshgrid(np.arange(columns) + 0.5, np.arange(rows) + 0.5)
    east = transform.a * columns_yx + transform.b * rows_yx + transform.c
    north = transform.d * columns_yx + transform.e * rows_yx + transform.f
    return ((east - EAST) - 3 * (north - NORTH)).astype(np.float32)[None]


def read(path: Path, *, transform: Affine, px: int, crs: CRS = LAMBERT, nearest: bool = False) -> Pixels:
    raster = RasterSource(HEIGHT, Source(path=path))
    pixels = read_square(raster, crs=crs, transform=transform, px=px, nearest=nearest)
    raster.close()
    return pixels


def test_the_same_grid_is_read_bit_by_bit(tmp_path: Path) -> None:
    values = np.random.default_rng(0).random((1, 30, 50), np.float32)
    path = write_raster(tmp_path / "dem.tif", values, transform=place(0.2))
    shifted = place(0.2, east=EAST + 7 * 0.2, north=NORTH - 3 * 0.2)
    pixels = read(path, transform=shifted, px=16)
    np.testing.assert_array_equal(pixels.values[0], values[:, 3:19, 7:23])
    assert not pixels.void.any()


@pytest.mark.parametrize(("row", "column"), [(-5, -3), (25, 44), (-40, 3), (0, 49), (400, 0)])
def test_beyond_the_raster_is_void(tmp_path: Path, row: int, column: int) -> None:
    values = np.random.default_rng(0).random((1, 30, 50), np.float32)
    path = write_raster(tmp_path / "dem.tif", values, transform=place(0.2))
    pixels = read(path, transform=place(0.2, east=EAST + column * 0.2, north=NORTH - row * 0.2), px=16)
    wide = np.full((30 + 1000, 50 + 1000), np.nan, np.float32)
    wide[500:530, 500:550] = values[0]
    expected = wide[500 + row : 516 + row, 500 + column : 516 + column]
    np.testing.assert_array_equal(pixels.void[0], np.isnan(expected))
    np.testing.assert_array_equal(pixels.values[0, 0], np.nan_to_num(expected))


@pytest.mark.parametrize("pixel", [0.05, 0.13, 0.5, 2.0])
@pytest.mark.parametrize("shift", [0.0, 0.37])
def test_other_pixel_sizes_and_shifts_keep_coordinates(tmp_path: Path, pixel: float, shift: float) -> None:
    source = place(pixel, east=EAST - 10 * pixel - shift, north=NORTH + 8 * pixel + shift)
    rows, columns = int(14 / pixel) + 20, int(16 / pixel) + 20
    path = write_raster(tmp_path / "dem.tif", ramp(source, rows, columns), transform=source)
    pixels = read(path, transform=place(0.4), px=25)
    assert not pixels.void.any()
    np.testing.assert_allclose(pixels.values[0], ramp(place(0.4), 25, 25), atol=0.05)


def test_another_crs_keeps_coordinates(tmp_path: Path) -> None:
    """Heights written in UTM, as a function of Lambert coordinates, come back on a Lambert tile."""
    (east,), (north,) = transform_points(LAMBERT, CRS.from_epsg(32631), [EAST], [NORTH])[:2]
    source = place(0.5, east=east - 20.25, north=north + 15.5)
    columns, rows = np.meshgrid(np.arange(140) + 0.5, np.arange(120) + 0.5)
    xs, ys = (source.c + source.a * columns).ravel(), (source.f + source.e * rows).ravel()
    lambert = transform_points(CRS.from_epsg(32631), LAMBERT, xs.tolist(), ys.tolist())
    heights = (np.array(lambert[0]) - EAST) - 3 * (np.array(lambert[1]) - NORTH)
    values = heights.astype(np.float32).reshape(1, 120, 140)
    path = write_raster(tmp_path / "dem.tif", values, transform=source, crs="EPSG:32631")
    pixels = read(path, transform=place(0.5), px=40)
    assert not pixels.void.any()
    np.testing.assert_allclose(pixels.values[0], ramp(place(0.5), 40, 40), atol=0.2)


def test_a_void_pixel_lends_no_value_to_its_neighbours(tmp_path: Path) -> None:
    values = np.full((1, 20, 20), 50, np.float32)
    values[0, 5:8, 9:11] = -9999
    path = write_raster(tmp_path / "dem.tif", values, transform=place(1.0), nodata=-9999)
    pixels = read(path, transform=place(0.5), px=40)
    assert pixels.void[0, 10:16, 18:22].all()
    assert pixels.void.sum() <= 8 * 6
    assert (pixels.values[0, 0][~pixels.void[0]] == 50).all()


def test_each_acquisition_has_void_pixels_of_its_own(tmp_path: Path) -> None:
    radar = make_modality("SENTINEL1-ASC_TS")
    values = np.stack([np.full((12, 12), number, np.float32) for number in (1, 2, 3, 4, 5, 6)])
    values[2:4, :, 6:] = np.nan
    values[5, :, :3] = np.nan
    path = write_raster(tmp_path / "s1.tif", values, transform=place(20.0), nodata=np.nan)
    raster = RasterSource(radar, Source(path=path, dates=["20210101", "20210107", "20210113"]))
    pixels = read_square(raster, crs=LAMBERT, transform=place(10.0, east=EAST + 20, north=NORTH - 20), px=20)
    raster.close()
    assert not pixels.void[0].any()
    assert (pixels.void[1].all(axis=0) == (np.arange(20) >= 10)).all()
    assert (pixels.void[2].all(axis=0) == (np.arange(20) < 4)).all()
    for date, band in np.ndindex(3, 2):
        assert np.unique(pixels.values[date, band][~pixels.void[date]]).tolist() == [1 + 2 * date + band]


def test_masks_are_not_mixed(tmp_path: Path) -> None:
    values = np.where(np.random.default_rng(0).random((2, 20, 20)) < 0.5, 0, 100).astype(np.uint8)
    raster = MaskRaster(write_raster(tmp_path / "mask.tif", values, transform=place(10.0)), acquisitions=1)
    pixels = read_square(raster, crs=LAMBERT, transform=place(10.24, east=EAST + 11), px=10, nearest=True)
    raster.close()
    assert np.unique(pixels.values).tolist() == [0, 100]
    assert pixels.values[0, 0, 0, 0] == values[0, 0, 1]


def test_integers_are_rounded_not_cut(tmp_path: Path) -> None:
    values = np.array([[[10, 11], [10, 11]]], np.uint8)
    raster = RasterSource(PAN, Source(path=write_raster(tmp_path / "pan.tif", values, transform=place(1.0))))
    pixels = read_square(raster, crs=LAMBERT, transform=place(0.125), px=16)
    raster.close()
    assert pixels.values.dtype == np.uint8
    assert (pixels.values[0, 0, :, :7] == 10).all()
    assert (pixels.values[0, 0, :, 9:] == 11).all()


AERIAL_AND_HEIGHT = make_manifest(make_modality("AERIAL_RGBI", bands=("R",), tile_px=64), HEIGHT)


def two_rasters(folder: Path, transform: Affine, shape_yx: tuple[int, int], crs: str = "EPSG:2154") -> Scene:
    """An aerial image of 20 m x 14 m, and heights on another grid."""
    aerial = write_raster(folder / "ortho.tif", np.full((1, 70, 100), 90, np.uint8), transform=place(0.2))
    height = write_raster(folder / "dem.tif", ramp(transform, *shape_yx), transform=transform, crs=crs)
    return Scene(inputs={"AERIAL_RGBI": Source(path=aerial), "DEM_ELEV": Source(path=height)})


def test_every_modality_of_a_tile_covers_the_same_ground(tmp_path: Path) -> None:
    height = make_modality("DEM_ELEV", bands=("DSM",), tile_px=32)
    manifest = make_manifest(make_modality("AERIAL_RGBI", bands=("R",), tile_px=64), height)
    source = place(0.35, east=EAST - 5, north=NORTH + 4)
    with SceneReader(manifest, two_rasters(tmp_path, source, (80, 120))) as reader:
        inputs = reader.read(TilePlace(Span(6, 6, 70), Span(36, 36, 100), 64))
    assert inputs is not None
    corner = place(0.4, east=EAST + 36 * 0.2, north=NORTH - 6 * 0.2)
    np.testing.assert_allclose(inputs.tiles["DEM_ELEV"], ramp(corner, 32, 32), atol=0.12)  # a tenth of a pixel
    assert any("DEM_ELEV: 0.35 m pixels in EPSG:2154 are resampled to 32 x 32 per tile" in m for m in reader.messages)


def test_an_aligned_raster_is_not_said_to_be_resampled(tmp_path: Path) -> None:
    height = make_modality("DEM_ELEV", bands=("DSM",), tile_px=64)
    manifest = make_manifest(make_modality("AERIAL_RGBI", bands=("R",), tile_px=64), height)
    with SceneReader(manifest, two_rasters(tmp_path, place(0.2, east=EAST - 4, north=NORTH + 4), (200, 200))) as reader:
        assert not any("resampled" in message for message in reader.messages)


def test_no_overlap_is_refused_with_both_extents(tmp_path: Path) -> None:
    scene = two_rasters(tmp_path, place(1.0, east=EAST + 20), (30, 30))
    with pytest.raises(RasterError, match=r"dem.tif does not overlap .*ortho.tif: it covers 843020, 6518970, 843050, "):
        predict_raster(FormulaEngine(AERIAL_AND_HEIGHT), scene, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_numbers_that_overlap_in_different_crs_do_not_fool_it(tmp_path: Path) -> None:
    """Two rasters with the same numbers as coordinates, in Lambert 93 and in UTM, lie hundreds of kilometres apart."""
    scene = two_rasters(tmp_path, place(1.0), (30, 30), crs="EPSG:32631")
    with pytest.raises(RasterError, match="does not overlap"):
        predict_raster(FormulaEngine(AERIAL_AND_HEIGHT), scene, tmp_path / "out")


def test_a_part_that_is_not_covered_is_said(tmp_path: Path) -> None:
    scene = two_rasters(tmp_path, place(1.0, east=EAST - 2, north=NORTH + 2), (60, 12))
    engine = FormulaEngine(AERIAL_AND_HEIGHT)
    summary = predict_raster(engine, scene, tmp_path / "out", batch=1, halo_px=0)
    assert any("DEM_ELEV: covers 50.0% of AERIAL_RGBI" in message for message in summary.messages)
    voids = [call["voids"]["DEM_ELEV"].mean() for call in engine.calls]
    assert min(voids) > 0
    assert max(voids) < 1


@pytest.mark.parametrize("may_be_absent", [False, True])
def test_a_tile_without_a_modality(tmp_path: Path, may_be_absent: bool) -> None:
    height = make_modality("DEM_ELEV", bands=("DSM",), tile_px=64, may_be_absent=may_be_absent)
    manifest = make_manifest(make_modality("AERIAL_RGBI", bands=("R",), tile_px=64), height)
    scene = two_rasters(tmp_path, place(0.2, east=EAST - 2, north=NORTH + 2), (200, 40))
    engine = FormulaEngine(manifest)
    summary = predict_raster(engine, scene, tmp_path / "out", halo_px=0)
    tiles = sum(len(call["AERIAL_RGBI"]) for call in engine.calls)
    with_height = [call for call in engine.calls if "DEM_ELEV" in call]
    if may_be_absent:
        assert sum(len(call["DEM_ELEV"]) for call in with_height) == tiles // 2
        assert "DEM_ELEV: 2 of 4 tiles not covered; mapped without it" in summary.messages
    else:
        assert len(with_height) == len(engine.calls)
        assert "DEM_ELEV: 2 of 4 tiles not covered; entered as void" in summary.messages


def test_a_modality_that_may_be_absent_needs_no_raster(tmp_path: Path) -> None:
    height = make_modality("DEM_ELEV", bands=("DSM",), tile_px=64, may_be_absent=True)
    manifest = make_manifest(make_modality("AERIAL_RGBI", bands=("R",), tile_px=64), height)
    both = two_rasters(tmp_path, place(0.2), (70, 100))
    engine = FormulaEngine(manifest)
    summary = predict_raster(engine, Scene(inputs={"AERIAL_RGBI": both.inputs["AERIAL_RGBI"]}), tmp_path / "out")
    assert "DEM_ELEV: no raster given; mapped without it" in summary.messages
    assert all("DEM_ELEV" not in call for call in engine.calls)
