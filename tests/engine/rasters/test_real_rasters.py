"""Files as users have them: every one is mapped with its void pixels void, or refused for a stated reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray
from rasterio import Affine

from uperfuse.engine.errors import RasterError
from uperfuse.engine.plan.manifest import Manifest
from uperfuse.engine.plan.network import Modality
from uperfuse.engine.rasters import MapSummary, Scene, Source, predict_raster
from uperfuse.engine.rasters.reader import SceneReader
from uperfuse.engine.rasters.tiling import Tiling

from .formula import (
    RADIUS_PX,
    TASK,
    FormulaEngine,
    aerial_manifest,
    box_labels,
    make_manifest,
    make_modality,
    read_raster,
    write_raster,
)

EDGE_STEM = "201404_13SED190110_201404_0x1500m_CL_1"


def one(modality: Modality, path: Path, **settings: Any) -> tuple[Manifest, Scene]:
    return make_manifest(modality), Scene(inputs={modality.name: Source(path=path, **settings)})


def mapped(manifest: Manifest, scene: Scene, out: Path, **options: Any) -> tuple[MapSummary, NDArray[np.uint8]]:
    engine = FormulaEngine(manifest, keep_calls=False)
    summary = predict_raster(engine, scene, out, halo_px=RADIUS_PX, **options)
    return summary, read_raster(summary.files[TASK].labels)[0]


@pytest.mark.parametrize(
    ("name", "void_share"),
    [
        (f"{EDGE_STEM}.tif", 0.0),
        (f"{EDGE_STEM}_alpha.tif", 0.1130),
        (f"{EDGE_STEM}_nodata.tif", 0.0266),
        (f"{EDGE_STEM}_mask.tif", 0.0308),
        (f"{EDGE_STEM}_extmask.tif", 0.0308),
        ("pix4d_alpha_nodata.tif", 0.1244),
    ],
)
def test_colour_images_with_every_kind_of_void(shared: Path, tmp_path: Path, name: str, void_share: float) -> None:
    path = shared / "data/geotiff_edge_cases" / name
    manifest = aerial_manifest(tile_px=128)
    scene = Scene(inputs={"AERIAL_RGBI": Source(path=path)})
    summary, labels = mapped(manifest, scene, tmp_path / "out")
    with rasterio.open(path) as dataset:
        void, red = dataset.dataset_mask() == 0, dataset.read(1)
    assert void.mean() == pytest.approx(void_share, abs=1e-4)
    assert summary.void_fraction == pytest.approx(void.mean())
    np.testing.assert_array_equal(labels, box_labels(red, void))
    with pytest.raises(RasterError, match=r"holds bands R, G, B.*NIR is missing"):
        predict_raster(FormulaEngine(aerial_manifest(bands=("NIR", "R", "G"))), scene, tmp_path / "infrared")


def test_control_points_without_a_grid_are_refused(shared: Path, tmp_path: Path) -> None:
    manifest, scene = one(make_modality("AERIAL-RLT_PAN"), shared / "data/geotiff_edge_cases/cog_gcps.tif")
    with pytest.raises(RasterError, match=r"has 210 ground control points and no transform.*gdalwarp -t_srs"):
        predict_raster(FormulaEngine(manifest), scene, tmp_path / "out", allow_ungeoreferenced=True)


def test_floats_with_nodata_and_nan(shared: Path, tmp_path: Path) -> None:
    path = shared / "data/geotiff_edge_cases/cog_nodata_nan.tif"
    height = make_modality("DEM_ELEV", bands=("DSM",), tile_px=128)
    manifest, scene = one(height, path)
    _, labels = mapped(manifest, scene, tmp_path / "out")
    values = read_raster(path)[0]
    void = (values == 0) | np.isnan(values)
    assert np.isnan(values).any()
    np.testing.assert_array_equal(labels == 255, void)
    manifest, scene = one(make_modality("AERIAL-RLT_PAN"), path)
    with pytest.raises(RasterError, match="is of type float32, AERIAL-RLT_PAN of the plan takes uint8"):
        predict_raster(FormulaEngine(manifest), scene, tmp_path / "pan")


def test_flairs_own_infrared_is_no_alpha(shared: Path, tmp_path: Path) -> None:
    for path in sorted((shared / "data/flair_aerial/derived_flairhub").glob("*_AERIAL_RGBI.tif")):
        scene = Scene(inputs={"AERIAL_RGBI": Source(path=path)})
        summary, labels = mapped(aerial_manifest(bands=("NIR", "R", "G"), tile_px=256), scene, tmp_path / "out")
        np.testing.assert_array_equal(labels, box_labels(read_raster(path)[3], np.zeros((512, 512), np.bool_)))
        assert any("NIR, R, G from bands 4, 1, 2" in message for message in summary.messages)


def test_five_unnamed_bands_need_a_word(shared: Path, tmp_path: Path) -> None:
    path = next((shared / "data/flair_aerial").glob("*_IMG5.tif"))
    manifest = aerial_manifest(bands=("NIR", "R", "G"), tile_px=256)
    with pytest.raises(RasterError, match="--bands AERIAL_RGBI="):
        predict_raster(FormulaEngine(manifest), Scene(inputs={"AERIAL_RGBI": Source(path=path)}), tmp_path / "out")
    scene = Scene(inputs={"AERIAL_RGBI": Source(path=path, bands="R,G,B,NIR,height")})
    _, labels = mapped(manifest, scene, tmp_path / "out")
    np.testing.assert_array_equal(labels, box_labels(read_raster(path)[3], np.zeros((512, 512), np.bool_)))


@pytest.mark.parametrize("bands", ["NIR,G,B,R", "1,4,2"])
def test_infrared_first_as_in_treesatai(shared: Path, tmp_path: Path, bands: str) -> None:
    path = shared / "data/treesatai_ts/Betula_spec._1_15679_WEFL_NLF.tif"
    manifest = aerial_manifest(bands=("NIR", "R", "G"), tile_px=128)
    engine = FormulaEngine(manifest)
    scene = Scene(inputs={"AERIAL_RGBI": Source(path=path, bands=bands)})
    summary = predict_raster(engine, scene, tmp_path / "out", batch=1)
    np.testing.assert_array_equal(engine.calls[0]["AERIAL_RGBI"][0], read_raster(path)[[0, 3, 1], :128, :128])
    assert summary.void_fraction == 0


def test_a_png_without_place_and_a_size_that_is_no_multiple(shared: Path, tmp_path: Path) -> None:
    path = shared / "data/neon_rgb_10cm/2019_YELL_2_541000_4977000_image_crop.png"
    scene = Scene(inputs={"AERIAL_RGBI": Source(path=path)})
    with pytest.raises(RasterError, match="--allow-ungeoreferenced"):
        predict_raster(FormulaEngine(aerial_manifest()), scene, tmp_path / "out")
    _, labels = mapped(aerial_manifest(tile_px=512), scene, tmp_path / "out", allow_ungeoreferenced=True)
    red = read_raster(path)[0]
    assert labels.shape == red.shape
    np.testing.assert_array_equal(labels, box_labels(red, np.zeros(red.shape, np.bool_)))


def test_a_white_border_named_nodata(shared: Path, tmp_path: Path) -> None:
    path = shared / "data/neon_rgb_10cm/OSBS_029.tif"
    _, labels = mapped(aerial_manifest(tile_px=256), Scene(inputs={"AERIAL_RGBI": Source(path=path)}), tmp_path / "out")
    np.testing.assert_array_equal(labels == 255, (read_raster(path) == 255).all(axis=0))


def test_numbers_off_the_plans_type(shared: Path, tmp_path: Path) -> None:
    path = shared / "data/spot_like/fake_spot6_amsterdam_1p5m_int16.jp2"
    manifest, scene = one(make_modality("SPOT_RGBI"), path)
    with pytest.raises(
        RasterError, match=r"numbers from -\d+ to \d+ do not fit uint16 \(0 to 65535\), which SPOT_RGBI"
    ):
        predict_raster(FormulaEngine(manifest), scene, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    pan = shared / "data/pan_50cm/spacenet_atlanta_pan_50cm_uint16.tif"
    manifest, scene = one(make_modality("AERIAL-RLT_PAN"), pan)
    with pytest.raises(RasterError, match="do not fit uint8"):
        predict_raster(FormulaEngine(manifest), scene, tmp_path / "out")


def test_heights_of_the_surface_and_of_the_ground(shared: Path, tmp_path: Path) -> None:
    path = shared / "data/gemaut_dem_montpellier/derived_DEM_ELEV_20cm_1024.tif"
    aerial = np.full((3, 300, 500), 70, np.uint8)
    corner = Affine(0.2, 0, 767560.0 + 100 * 0.2, 0, -0.2, 6280700.0 - 40 * 0.2)
    ortho = write_raster(tmp_path / "ortho.tif", aerial, transform=corner, photometric="RGB")
    manifest = make_manifest(
        make_modality("AERIAL_RGBI", bands=("R", "G", "B"), tile_px=128), make_modality("DEM_ELEV", tile_px=128)
    )
    scene = Scene(inputs={"AERIAL_RGBI": Source(path=ortho), "DEM_ELEV": Source(path=path)})
    with SceneReader(manifest, scene) as reader:
        place = next(iter(Tiling((300, 500), tile_px=128, halo_px=0)))
        inputs = reader.read(place)
        assert not any("resampled" in message for message in reader.messages)
        assert any("DSM, DTM from bands 1, 2" in message for message in reader.messages)
    assert inputs is not None
    np.testing.assert_array_equal(inputs.tiles["DEM_ELEV"], read_raster(path)[:, 40:168, 100:228])


def belgian_scene(shared: Path) -> tuple[Path, Scene]:
    (folder,) = (shared / "data/worldcereal_belgium").glob("*/derived_flairhub")
    optical = Source(
        path=folder / "SENTINEL2_TS.tif", dates=folder / "SENTINEL2_dates.txt", mask=folder / "SENTINEL2_MSK-SC.tif"
    )
    radar = Source(path=folder / "SENTINEL1-ASC_TS.tif", dates=folder / "SENTINEL1-ASC_dates.txt")
    return folder, Scene(inputs={"SENTINEL2_TS": optical, "SENTINEL1-ASC_TS": radar})


def test_series_of_two_sensors_on_two_grids(shared: Path, tmp_path: Path) -> None:
    folder, scene = belgian_scene(shared)
    manifest = make_manifest(make_modality("SENTINEL2_TS"), make_modality("SENTINEL1-ASC_TS"))
    engine = FormulaEngine(manifest)
    summary = predict_raster(engine, scene, tmp_path / "out", halo_px=0, batch=1)
    messages = "\n".join(summary.messages)
    assert "of each of 72 acquisitions of SENTINEL2_TS.tif" in messages
    assert "SENTINEL1-ASC_TS: 20 m pixels in EPSG:32631 are resampled to 10 x 10 per tile of SENTINEL2_TS" in messages
    values = read_raster(folder / "SENTINEL2_TS.tif").reshape(72, 10, 64, 64)
    masks = read_raster(folder / "SENTINEL2_MSK-SC.tif").reshape(72, 2, 64, 64)
    radar = read_raster(folder / "SENTINEL1-ASC_TS.tif").reshape(80, 2, 32, 32)
    days = np.array(
        [f"{line[:4]}-{line[4:6]}-{line[6:]}" for line in (folder / "SENTINEL2_dates.txt").read_text().split()],
        "datetime64[D]",
    )
    for place, call in zip(Tiling((64, 64), tile_px=10, halo_px=0), engine.calls, strict=True):
        rows, columns = (slice(span.start, span.start + 10) for span in (place.rows, place.columns))
        clear = (masks[:, :, rows, columns] <= 1).all(axis=1).mean(axis=(1, 2)) >= 0.95
        np.testing.assert_array_equal(call["SENTINEL2_TS"][0], values[clear][:, :, rows, columns])
        np.testing.assert_array_equal(call["SENTINEL2_DATES"][0], days[clear])
        upsampled = call["SENTINEL1-ASC_TS"][0]
        assert upsampled.shape == (80, 2, 10, 10)
        y, x = place.rows.start // 2 + 2, place.columns.start // 2 + 2
        around = radar[:, :, y - 1 : y + 2, x - 1 : x + 2]
        middle = upsampled[:, :, 2 * y - place.rows.start, 2 * x - place.columns.start]
        assert (middle >= around.min(axis=(2, 3)) - 1e-4).all()
        assert (middle <= around.max(axis=(2, 3)) + 1e-4).all()


def test_one_date_too_few_is_refused(shared: Path, tmp_path: Path) -> None:
    folder, scene = belgian_scene(shared)
    lines = (folder / "SENTINEL2_dates.txt").read_text().split()
    (tmp_path / "dates.txt").write_text("\n".join(lines[:-1]))
    source = scene.inputs["SENTINEL2_TS"].model_copy(update={"dates": tmp_path / "dates.txt", "mask": None})
    manifest = make_manifest(make_modality("SENTINEL2_TS"))
    with pytest.raises(RasterError, match="has 720 bands and 71 dates, expected 10 bands for each date"):
        predict_raster(FormulaEngine(manifest), Scene(inputs={"SENTINEL2_TS": source}), tmp_path / "out")


def test_aerial_image_with_its_satellite_series(shared: Path, tmp_path: Path) -> None:
    """The series of TreeSatAI lie on 60 m around the image; their NaN never reach the engine as numbers."""
    stem = shared / "data/treesatai_ts/Betula_spec._1_15679_WEFL_NLF"
    with rasterio.open(f"{stem}.tif") as dataset:
        bounds, crs = dataset.bounds, dataset.crs.to_string()
    place = Affine(60.8 / 6, 0, bounds.left, 0, -60.8 / 6, bounds.top)
    inputs = {"AERIAL_RGBI": Source(path=Path(f"{stem}.tif"), bands="NIR,G,B,R")}
    with h5py.File(f"{stem}_2019.h5") as file:
        for name, key, dtype in (("SENTINEL2_TS", "sen-2", np.uint16), ("SENTINEL1-DESC_TS", "sen-1-des", np.float32)):
            values = file[f"{key}-data"][:].astype(dtype)
            days = [product.decode().split("_")[2 if key == "sen-2" else 4][:8] for product in file[f"{key}-products"]]
            path = write_raster(tmp_path / f"{name}.tif", values.reshape(-1, 6, 6), transform=place, crs=crs)
            inputs[name] = Source(path=path, dates=days)
        masks = file["sen-2-masks"][:].astype(np.uint8)
    mask = write_raster(tmp_path / "mask.tif", masks.reshape(-1, 6, 6), transform=place, crs=crs)
    inputs["SENTINEL2_TS"] = inputs["SENTINEL2_TS"].model_copy(update={"mask": mask})
    manifest = make_manifest(
        make_modality("AERIAL_RGBI", bands=("NIR", "R", "G"), tile_px=152),
        make_modality("SENTINEL2_TS", tile_px=3),
        make_modality("SENTINEL1-DESC_TS", tile_px=3),
    )
    engine = FormulaEngine(manifest)
    predict_raster(engine, Scene(inputs=inputs), tmp_path / "out", halo_px=0, batch=1)
    assert len(engine.calls) == 4
    for call in engine.calls:
        radar, void = call["SENTINEL1-DESC_TS"][0], call["voids"]["SENTINEL1-DESC_TS"][0]
        assert np.isfinite(radar).all()
        assert len(radar) == len(call["SENTINEL1-DESC_DATES"][0]) in (234, 235)
        assert not void.all(axis=(1, 2)).any()
        assert len(call["SENTINEL2_TS"][0]) == len(call["SENTINEL2_DATES"][0]) < 146
