"""Whole maps by an engine whose result is known at every pixel."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from rasterio import Affine

from uperfuse.engine.errors import RasterError
from uperfuse.engine.rasters import MapSummary, Scene, Source, predict, predict_raster
from uperfuse.engine.rasters.tiling import Tiling

from .formula import (
    CLASSES,
    PLACE,
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


def blobs(rows: int, columns: int, *, seed: int = 0) -> NDArray[np.uint8]:
    """An RGB image [3, Y, X] that differs from its flips and transpose, with structure larger than a pixel."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (3, rows // 9 + 1, columns // 5 + 1))
    return np.kron(coarse, np.ones((1, 9, 5))).astype(np.uint8)[:, :rows, :columns]


def scene_of(path: Path, **settings: Any) -> Scene:
    return Scene(inputs={"AERIAL_RGBI": Source(path=path, **settings)})


def mapped(engine: FormulaEngine, scene: Scene, out: Path, **options: Any) -> tuple[MapSummary, NDArray[np.uint8]]:
    summary = predict_raster(engine, scene, out, **options)
    return summary, read_raster(summary.files[TASK].labels)[0]


@pytest.mark.parametrize("shape_yx", [(150, 211), (64, 64), (65, 64), (20, 37), (1, 1), (64, 300)])
def test_the_mosaic_is_what_one_huge_tile_would_be(tmp_path: Path, shape_yx: tuple[int, int]) -> None:
    values = blobs(*shape_yx)
    rows, columns = shape_yx
    values[:, rows // 3 : rows // 2, : columns // 2] = 0
    path = write_raster(tmp_path / "ortho.tif", values, nodata=0, photometric="RGB")
    summary, labels = mapped(FormulaEngine(aerial_manifest()), scene_of(path), tmp_path / "out", halo_px=RADIUS_PX)
    void = (values == 0).all(axis=0)
    np.testing.assert_array_equal(labels, box_labels(values[0], void))
    confidence = read_raster(summary.files[TASK].confidence)[0]  # type: ignore[arg-type]
    np.testing.assert_array_equal(confidence, np.where(void, 255, 40 + 10 * labels.astype(int)))
    assert summary.void_fraction == pytest.approx(void.mean())
    assert summary.tiles == len(Tiling(shape_yx, tile_px=64, halo_px=RADIUS_PX))


def test_a_halo_smaller_than_the_context_shows_seams(tmp_path: Path) -> None:
    """The law above is not empty: without a halo the map differs."""
    values = blobs(150, 211)
    path = write_raster(tmp_path / "ortho.tif", values, photometric="RGB")
    _, labels = mapped(FormulaEngine(aerial_manifest()), scene_of(path), tmp_path / "out", halo_px=0)
    assert (labels != box_labels(values[0], np.zeros((150, 211), np.bool_))).any()


@settings(deadline=None, max_examples=12)
@given(batch=st.integers(1, 40), seed=st.integers(0, 2**16))
def test_the_map_depends_neither_on_batch_size_nor_on_the_order_of_tiles(
    tmp_path_factory: pytest.TempPathFactory, batch: int, seed: int
) -> None:
    folder = tmp_path_factory.mktemp("order")
    values = blobs(130, 170, seed=7)
    values[:, 40:60, 20:90] = 0
    path = write_raster(folder / "ortho.tif", values, nodata=0, photometric="RGB")
    _, expected = mapped(FormulaEngine(aerial_manifest()), scene_of(path), folder / "in-order", halo_px=0)
    shuffled = np.random.default_rng(seed).permutation(len(Tiling((130, 170), tile_px=64, halo_px=0))).tolist()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(predict, "remaining", lambda *_: shuffled)
        _, labels = mapped(FormulaEngine(aerial_manifest()), scene_of(path), folder / "out", halo_px=0, batch=batch)
    np.testing.assert_array_equal(labels, expected)


def test_void_tiles_are_not_computed_and_a_wholly_void_raster_gives_a_void_map(tmp_path: Path) -> None:
    values = np.zeros((3, 100, 200), np.uint8)
    path = write_raster(tmp_path / "ortho.tif", values, nodata=0, photometric="RGB")
    engine = FormulaEngine(aerial_manifest())
    summary, labels = mapped(engine, scene_of(path), tmp_path / "out")
    assert (labels == 255).all()
    assert (summary.void_tiles, summary.void_fraction, engine.calls) == (summary.tiles, 1.0, [])
    values[:, :10, :10] = 90
    path = write_raster(tmp_path / "corner.tif", values, nodata=0, photometric="RGB")
    summary, labels = mapped(engine, scene_of(path), tmp_path / "out")
    assert summary.tiles - summary.void_tiles == 1
    assert sum(len(call["AERIAL_RGBI"]) for call in engine.calls) == 1
    assert (labels[:10, :10] == 1).all()
    assert (labels == 255).sum() == 100 * 200 - 100


def test_bands_reach_the_engine_in_the_plans_order(tmp_path: Path) -> None:
    values = np.stack([np.full((70, 80), value, np.uint8) for value in (10, 20, 30, 40)])
    path = write_raster(tmp_path / "ortho.tif", values, names=("NIR", "G", "B", "R"))
    engine = FormulaEngine(aerial_manifest(bands=("R", "NIR", "G")))
    messages: list[str] = []
    predict_raster(engine, scene_of(path), tmp_path / "out", report=messages.append)
    tile = engine.calls[0]["AERIAL_RGBI"][0]
    assert [np.unique(band).tolist() for band in tile] == [[40], [10], [20]]
    assert "R, NIR, G from bands 4, 1, 2 of ortho.tif" in messages[0]


def test_areas_are_measured_on_the_ground(tmp_path: Path) -> None:
    """Web Mercator pixels of 1 m are 0.48 m2 at 46 degrees north; the plan's class areas say so."""
    values = np.full((3, 50, 100), 70, np.uint8)
    values[:, :, 50:] = 200
    sizes = {}
    for crs, place in (("EPSG:2154", (700000.0, 6520000.0)), ("EPSG:3857", (300000.0, 5780000.0))):
        place = Affine(1, 0, place[0], 0, -1, place[1])
        path = write_raster(tmp_path / f"{crs[5:]}.tif", values, crs=crs, transform=place, photometric="RGB")
        summary, _ = mapped(FormulaEngine(aerial_manifest()), scene_of(path), tmp_path / "out", halo_px=RADIUS_PX)
        sizes[crs] = sum(summary.areas_ha[TASK].values())
        assert list(summary.areas_ha[TASK]) == list(CLASSES)
        assert sum(summary.pixels[TASK].values()) == 5000
        assert summary.areas_ha[TASK]["water"] == pytest.approx(
            sizes[crs] * summary.pixels[TASK]["water"] / 5000, rel=1e-3
        )
    assert sizes["EPSG:2154"] == pytest.approx(0.5, rel=2e-3)
    assert sizes["EPSG:3857"] == pytest.approx(0.5 * np.cos(np.radians(46.0)) ** 2, rel=1e-2)


def test_another_pixel_size_is_said_and_mapped(tmp_path: Path) -> None:
    place = Affine(0.5, 0, 843000.0, 0, -0.5, 6519000.0)
    path = write_raster(tmp_path / "ortho.tif", blobs(70, 80), transform=place, photometric="RGB")
    summary, labels = mapped(FormulaEngine(aerial_manifest()), scene_of(path), tmp_path / "out")
    assert any("pixels of ortho.tif are 0.5 m, the network was trained at 0.2 m" in text for text in summary.messages)
    assert (labels != 255).all()
    close = Affine(0.22, 0, 843000.0, 0, -0.22, 6519000.0)
    path = write_raster(tmp_path / "close.tif", blobs(70, 80), transform=close, photometric="RGB")
    assert not any("trained at" in text for text in predict_raster_messages(path, tmp_path))


def predict_raster_messages(path: Path, folder: Path) -> tuple[str, ...]:
    return predict_raster(FormulaEngine(aerial_manifest()), scene_of(path), folder / "out").messages


def test_a_rotated_raster_keeps_its_place(tmp_path: Path) -> None:
    place = PLACE @ Affine.rotation(25)
    path = write_raster(tmp_path / "ortho.tif", blobs(70, 80), transform=place, photometric="RGB")
    summary, labels = mapped(FormulaEngine(aerial_manifest()), scene_of(path), tmp_path / "out")
    with rasterio.open(summary.files[TASK].labels) as dataset:
        assert dataset.transform.almost_equals(place)
        assert dataset.crs == "EPSG:2154"
    assert sum(summary.areas_ha[TASK].values()) == pytest.approx(70 * 80 * 0.04 / 10000, rel=5e-3)
    assert labels.shape == (70, 80)


def test_a_raster_without_crs_is_refused_unless_allowed(tmp_path: Path) -> None:
    values = blobs(70, 80)
    path = write_raster(tmp_path / "bare.tif", values, crs=None, transform=Affine.identity(), photometric="RGB")
    engine = FormulaEngine(aerial_manifest())
    with pytest.raises(RasterError, match=r"bare.tif has no CRS and transform, .*--allow-ungeoreferenced"):
        predict_raster(engine, scene_of(path), tmp_path / "out")
    summary = predict_raster(engine, scene_of(path), tmp_path / "out", allow_ungeoreferenced=True, halo_px=RADIUS_PX)
    assert summary.areas_ha == {}
    assert any("without coordinates and areas" in text for text in summary.messages)
    labels = read_raster(summary.files[TASK].labels)[0]
    np.testing.assert_array_equal(labels, box_labels(values[0], np.zeros((70, 80), np.bool_)))


def test_several_rasters_need_a_crs_each(tmp_path: Path) -> None:
    manifest = make_manifest(make_modality("AERIAL_RGBI", bands=("R",), tile_px=64), make_modality("AERIAL-RLT_PAN"))
    aerial = write_raster(tmp_path / "ortho.tif", blobs(70, 80)[:1])
    bare = write_raster(tmp_path / "bare.tif", blobs(70, 80)[:1], crs=None, transform=Affine.identity())
    scene = Scene(inputs={"AERIAL_RGBI": Source(path=aerial), "AERIAL-RLT_PAN": Source(path=bare)})
    with pytest.raises(RasterError, match=r"bare.tif has no CRS and transform, .*ortho.tif has EPSG:2154"):
        predict_raster(FormulaEngine(manifest), scene, tmp_path / "out", allow_ungeoreferenced=True)


def test_modalities_that_do_not_belong_to_the_plan_are_refused(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "ortho.tif", blobs(70, 80), photometric="RGB")
    engine = FormulaEngine(aerial_manifest())
    with pytest.raises(RasterError, match="the scene has SPOT_RGBI, the plan takes AERIAL_RGBI"):
        predict_raster(engine, Scene(inputs={"SPOT_RGBI": Source(path=path)}), tmp_path / "out")
    both = make_manifest(make_modality("AERIAL_RGBI", bands=("R", "G", "B")), make_modality("DEM_ELEV"))
    with pytest.raises(RasterError, match="the scene has AERIAL_RGBI, the plan also needs DEM_ELEV"):
        predict_raster(FormulaEngine(both), scene_of(path), tmp_path / "out")


def test_a_batch_or_halo_that_cannot_be_is_refused(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "ortho.tif", blobs(70, 80), photometric="RGB")
    engine = FormulaEngine(aerial_manifest())
    with pytest.raises(RasterError, match="batch of 0 tiles"):
        predict_raster(engine, scene_of(path), tmp_path / "out", batch=0)
    with pytest.raises(RasterError, match="halo of 32 px leaves no core in a 64 px tile; use a halo below 32 px"):
        predict_raster(engine, scene_of(path), tmp_path / "out", halo_px=32)
    assert not (tmp_path / "out").exists()
