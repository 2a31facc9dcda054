"""Reading one raster: void pixels, types, dates, and files that are not what they should be."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from rasterio import Affine
from rasterio.windows import Window

from uperfuse.engine.errors import RasterError
from uperfuse.engine.plan.network import Modality
from uperfuse.engine.rasters.digital_numbers import cast, missing_pixels
from uperfuse.engine.rasters.scene import Source
from uperfuse.engine.rasters.source import MaskRaster, Pixels, RasterSource

from .formula import make_modality, write_raster

R_G_B = make_modality("AERIAL_RGBI", bands=("R", "G", "B"))
PAN = make_modality("AERIAL-RLT_PAN")
FLOAT = make_modality("DEM_ELEV", bands=("DSM",))
S2 = make_modality("SENTINEL2_TS", bands=("B03", "B02"))
UINT8 = np.dtype("uint8")


def read_all(modality: Modality, path: Path, **settings: Any) -> Pixels:
    raster = RasterSource(modality, Source(path=path, **settings))
    rows, columns = raster.grid.shape_yx
    pixels = raster.read(Window(0, 0, columns, rows))
    raster.close()
    return pixels


def image(dtype: str = "uint8", *, bands: int = 3, seed: int = 0) -> NDArray[Any]:
    return np.random.default_rng(seed).integers(1, 200, (bands, 13, 17)).astype(dtype)


def test_a_measurable_nodata_value_hides_a_pixel_only_in_all_bands(tmp_path: Path) -> None:
    values = image()
    values[:, 2, 3] = 0
    values[1, 4, 5] = 0
    pixels = read_all(R_G_B, write_raster(tmp_path / "a.tif", values, nodata=0, photometric="RGB"))
    assert np.argwhere(pixels.void[0]).tolist() == [[2, 3]]
    np.testing.assert_array_equal(pixels.values[0], values)


def test_another_nodata_value_hides_a_pixel_in_any_band(tmp_path: Path) -> None:
    values = image("int16")
    values[1, 4, 5] = -9999
    pixels = read_all(R_G_B, write_raster(tmp_path / "a.tif", values, nodata=-9999, photometric="RGB"))
    assert np.argwhere(pixels.void[0]).tolist() == [[4, 5]]
    assert pixels.values.dtype == np.uint8
    values[:, 4, 5] = 0
    np.testing.assert_array_equal(pixels.values[0], values)


def test_nodata_can_be_given(tmp_path: Path) -> None:
    values = image()
    values[:, 2, 3] = 7
    path = write_raster(tmp_path / "a.tif", values, photometric="RGB")
    assert not read_all(R_G_B, path).void.any()
    assert np.argwhere(read_all(R_G_B, path, nodata=7).void[0]).tolist() == [[2, 3]]


def test_nan_and_infinity_are_void_and_enter_as_0(tmp_path: Path) -> None:
    values = image("float32", bands=1)
    values[0, 1, 2], values[0, 3, 4], values[0, 5, 6] = np.nan, np.inf, -32768
    pixels = read_all(FLOAT, write_raster(tmp_path / "a.tif", values, nodata=-32768))
    assert np.argwhere(pixels.void[0]).tolist() == [[1, 2], [3, 4], [5, 6]]
    assert np.isfinite(pixels.values).all()
    assert pixels.values[0, 0, 1, 2] == 0


@pytest.mark.parametrize("external", [False, True])
def test_a_mask_of_the_file_hides(tmp_path: Path, external: bool) -> None:
    path = write_raster(tmp_path / "a.tif", image(), photometric="RGB")
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=not external), rasterio.open(path, "r+") as dataset:
        mask = np.full((13, 17), 255, np.uint8)
        mask[3, 9:] = 0
        dataset.write_mask(mask)
    assert (tmp_path / "a.tif.msk").exists() == external
    np.testing.assert_array_equal(read_all(R_G_B, path).void[0], mask == 0)


def test_alpha_hides_and_infrared_labelled_alpha_does_not(tmp_path: Path) -> None:
    values = image(bands=4)
    values[3] = 255
    values[3, 5:9, 2:4] = 0
    path = write_raster(tmp_path / "alpha.tif", values, photometric="RGB", alpha="YES")
    np.testing.assert_array_equal(read_all(R_G_B, path).void[0], values[3] == 0)
    values[3] = image(bands=1, seed=5)[0]
    values[3, 5:9, 2:4] = 0
    path = write_raster(tmp_path / "infrared.tif", values, photometric="RGB", alpha="YES")
    assert not read_all(R_G_B, path).void.any()
    infrared = read_all(make_modality("AERIAL_RGBI"), path)
    np.testing.assert_array_equal(infrared.values[0], values[[3, 0, 1]])


def test_alpha_is_told_on_a_large_sparse_raster(tmp_path: Path) -> None:
    path = tmp_path / "sparse.tif"
    profile = {"driver": "GTiff", "dtype": "uint8", "count": 4, "height": 3000, "width": 5000, "photometric": "RGB"}
    place = {"crs": "EPSG:2154", "transform": Affine(0.2, 0, 843000.0, 0, -0.2, 6519000.0)}
    with rasterio.open(path, "w", alpha="YES", sparse_ok=True, tiled=True, **profile, **place) as dataset:
        dataset.write(np.full((4, 800, 900), 255, np.uint8), window=Window(700, 900, 900, 800))
    raster = RasterSource(R_G_B, Source(path=path))
    assert raster.read(Window(0, 0, 64, 64)).void.all()
    assert not raster.read(Window(1000, 1000, 64, 64)).void.any()
    raster.close()


def test_numbers_beyond_the_plans_type_are_refused_with_their_range(tmp_path: Path) -> None:
    values = image("int16")
    assert read_all(R_G_B, write_raster(tmp_path / "fits.tif", values, photometric="RGB")).values.dtype == np.uint8
    values[0, 0, 0], values[2, 3, 3] = -3, 300
    path = write_raster(tmp_path / "beyond.tif", values, photometric="RGB")
    with pytest.raises(RasterError, match=r"numbers from -3 to 300 do not fit uint8 \(0 to 255\)"):
        read_all(R_G_B, path)


@pytest.mark.parametrize("dtype", ["float32", "complex64"])
def test_types_that_are_no_digital_numbers_are_refused(tmp_path: Path, dtype: str) -> None:
    path = write_raster(tmp_path / "a.tif", image(dtype), photometric="RGB")
    with pytest.raises(RasterError, match=f"is of type {dtype}, AERIAL_RGBI of the plan takes uint8"):
        RasterSource(R_G_B, Source(path=path))


@pytest.mark.parametrize("dtype", ["float64", "int32", "uint8"])
def test_any_number_enters_a_float32_modality(tmp_path: Path, dtype: str) -> None:
    values = image(dtype, bands=1)
    pixels = read_all(FLOAT, write_raster(tmp_path / "a.tif", values), bands=("DSM",))
    assert pixels.values.dtype == np.float32
    np.testing.assert_array_equal(pixels.values[0], values)


def series(dates: int, bands: int) -> NDArray[np.uint16]:
    return np.arange(dates * bands * 5 * 7, dtype=np.uint16).reshape(dates * bands, 5, 7)


def test_a_series_is_read_date_by_date_in_the_plans_bands(tmp_path: Path) -> None:
    values = series(3, 2)
    values[2:4, 1, 1] = 0
    path = write_raster(tmp_path / "s2.tif", values, nodata=0)
    days = tuple(datetime.date(2021, month, 3) for month in (1, 5, 9))
    raster = RasterSource(S2, Source(path=path, dates=days, bands=("B02", "B03")))
    pixels = raster.read(Window(0, 0, 7, 5))
    raster.close()
    assert raster.dates is not None
    assert raster.dates.tolist() == list(days)
    np.testing.assert_array_equal(pixels.values, values.reshape(3, 2, 5, 7)[:, ::-1])
    assert np.argwhere(pixels.void).tolist() == [[1, 1, 1]]
    assert "B03, B02 from bands 2, 1 of each of 3 acquisitions of s2.tif" in raster.messages[0]


@pytest.mark.parametrize(
    ("count", "dates", "words"),
    [
        (6, 4, "has 6 bands and 4 dates, expected 2 bands for each date"),
        (6, 2, "2 bands are given for SENTINEL2_TS (B02, B03), "),
        (2, 3, "has 2 bands and 3 dates"),
    ],
)
def test_dates_that_do_not_go_with_the_bands_are_refused(tmp_path: Path, count: int, dates: int, words: str) -> None:
    path = write_raster(tmp_path / "s2.tif", series(1, count))
    with pytest.raises(RasterError) as caught:
        RasterSource(S2, Source(path=path, dates=[f"202101{day:02d}" for day in range(1, dates + 1)], bands="B02,B03"))
    assert words in str(caught.value)


def test_a_series_stored_band_by_band_is_refused(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "s2.tif", series(2, 2), names=("B02", "B02", "B03", "B03"))
    with pytest.raises(RasterError, match=r"acquisition 2 of .* holds bands B03, B03, the first holds B02, B02"):
        RasterSource(S2, Source(path=path, dates=["20210101", "20210109"]))


def test_dates_are_for_series_only_and_needed_there(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "a.tif", image(bands=1))
    with pytest.raises(RasterError, match=r"SENTINEL2_TS has no dates, .*--dates SENTINEL2_TS=FILE"):
        RasterSource(S2, Source(path=path))
    with pytest.raises(RasterError, match="which is one image; leave them out"):
        RasterSource(PAN, Source(path=path, dates=["20210101"]))
    radar = make_modality("SENTINEL1-ASC_TS")
    with pytest.raises(RasterError, match="whose acquisitions the plan does not filter"):
        RasterSource(radar, Source(path=path, dates=["20210101"], mask=path))


def test_a_mask_needs_two_bands_for_each_date(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "mask.tif", image(bands=4))
    with pytest.raises(RasterError, match=r"has 4 bands for 3 dates, expected 6: snow and cloud of each date"):
        MaskRaster(path, acquisitions=3)


def test_what_is_no_raster_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.tif").write_text("no raster")
    for name in ("text.tif", "none.tif"):
        with pytest.raises(RasterError, match=rf"{name} cannot be opened as a raster"):
            RasterSource(PAN, Source(path=tmp_path / name))


def test_a_truncated_file_is_refused_when_its_end_is_read(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    path = write_raster(tmp_path / "a.tif", rng.integers(0, 255, (1, 300, 300), np.uint8), compress="DEFLATE")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(RasterError, match=r"a.tif cannot be (read|opened)"):
        read_all(PAN, path)


@settings(deadline=None)
@given(st.integers(0, 3), st.integers(1, 3), st.sampled_from(["uint8", "int16", "float32"]), st.integers(0, 99))
def test_void_pixels_never_decide_whether_numbers_fit(dates: int, bands: int, dtype: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    raw = rng.integers(0, 200, (dates, bands, 4, 5)).astype(dtype)
    void = rng.random((dates, 4, 5)) < 0.3
    raw[np.broadcast_to(void[:, None], raw.shape)] = 255 if dtype == "uint8" else -999
    target = np.dtype("float32") if dtype == "float32" else UINT8
    values = cast(raw, void=void, target=target)
    assert values.dtype == target
    np.testing.assert_array_equal(values, np.where(void[:, None], 0, raw))


def test_a_nodata_value_that_the_type_cannot_hold_hides_nothing() -> None:
    raw = image()[None]
    for value in (-9999.0, 0.5, 256.0, np.nan):
        assert not missing_pixels(raw, nodata=[value] * 3, target=UINT8).any()
