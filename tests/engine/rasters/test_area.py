"""Maps of an area of interest: inside as without it, outside void and not computed."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import numpy as np
import pyogrio
import pytest
import shapely
from numpy.typing import NDArray
from rasterio import Affine
from rasterio.features import geometry_mask
from rasterio.warp import transform_geom

from uperfuse.engine.errors import RasterError
from uperfuse.engine.rasters import MapSummary, Scene, Source, area, predict_raster

from .formula import PLACE, FormulaEngine, aerial_manifest, read_raster, write_raster

SHAPE_YX = (300, 500)
PARCEL = shapely.Polygon(
    [(60.5, 40), (210, 70), (170, 190), (80.25, 150)], [[(100, 80), (130, 80), (130, 120), (100, 120)]]
)
POND = shapely.Point(400, 200).buffer(45)


def on_ground(shape: shapely.Geometry, place: Affine = PLACE) -> shapely.Geometry:
    """A shape in columns and rows, on the ground."""
    return shapely.transform(shape, lambda points: np.stack(place @ points.T, axis=1))


def write_area(
    path: Path, shapes: list[shapely.Geometry], *, crs: str | None = "EPSG:2154", kind: str = "Unknown"
) -> Path:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "'crs' was not provided")
        pyogrio.raw.write(path, shapely.to_wkb(np.array(shapes)), field_data=[], fields=[], geometry_type=kind, crs=crs)
    return path


@pytest.fixture
def ortho(tmp_path: Path) -> Path:
    values = np.random.default_rng(0).integers(1, 255, (3, *SHAPE_YX), np.uint8)
    return write_raster(tmp_path / "ortho.tif", values, photometric="RGB")


def mapped(
    ortho: Path, out: Path, engine: FormulaEngine | None = None, **options
) -> tuple[MapSummary, NDArray[np.uint8]]:
    scene = Scene(inputs={"AERIAL_RGBI": Source(path=ortho)})
    summary = predict_raster(engine or FormulaEngine(aerial_manifest()), scene, out, batch=1, **options)
    return summary, read_raster(summary.files["LAND"].labels)[0]


def inside(*shapes: shapely.Geometry) -> NDArray[np.bool_]:
    return geometry_mask(shapes, SHAPE_YX, Affine.identity(), invert=True)


@pytest.mark.parametrize("name", ["area.gpkg", "area.geojson", "area.shp"])
def test_inside_as_without_it_and_outside_void(ortho: Path, tmp_path: Path, name: str) -> None:
    _, whole = mapped(ortho, tmp_path / "whole")
    crs = "EPSG:2154" if name != "area.geojson" else "OGC:CRS84"
    shapes = [on_ground(PARCEL), on_ground(POND)]
    if name == "area.geojson":
        shapes = [shapely.geometry.shape(transform_geom("EPSG:2154", crs, shapely.geometry.mapping(s))) for s in shapes]
    path = write_area(tmp_path / name, shapes, crs=crs, kind="Polygon")
    engine = FormulaEngine(aerial_manifest())
    summary, labels = mapped(ortho, tmp_path / "out", engine, area=path)
    wanted = inside(PARCEL, POND)
    differing = labels != np.where(wanted, whole, 255)
    assert differing.sum() <= (0 if name != "area.geojson" else 3)  # middles of pixels on an edge
    assert summary.void_fraction == pytest.approx(1 - wanted.mean(), abs=1e-4)
    assert len(engine.calls) == summary.tiles - summary.void_tiles < summary.tiles


def test_tiles_outside_are_not_even_read(ortho: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = []
    from uperfuse.engine.rasters.reader import SceneReader

    before = SceneReader.read
    monkeypatch.setattr(SceneReader, "read", lambda self, place: read.append(place) or before(self, place))
    path = write_area(tmp_path / "area.gpkg", [on_ground(POND)])
    summary, _ = mapped(ortho, tmp_path / "out", area=path)
    assert len(read) == summary.tiles - summary.void_tiles


def test_multipolygons_and_broken_polygons_are_taken(ortho: Path, tmp_path: Path) -> None:
    bow = shapely.Polygon([(20, 20), (120, 120), (120, 20), (20, 120)])
    both = shapely.MultiPolygon([shapely.box(200, 20, 260, 90), shapely.box(300, 20, 380, 60)])
    path = write_area(tmp_path / "area.gpkg", [on_ground(bow), on_ground(both), on_ground(shapely.Point(3, 3))])
    _, labels = mapped(ortho, tmp_path / "out", area=path)
    np.testing.assert_array_equal(labels != 255, inside(shapely.make_valid(bow), both))


@pytest.mark.parametrize(
    ("shapes", "crs", "said"),
    [
        ([shapely.Point(843010, 6518990)], "EPSG:2154", r"holds no polygon, expected at least one"),
        ([], "EPSG:2154", r"holds no polygon, expected at least one"),
        ([shapely.box(0, 0, 10, 10)], "EPSG:2154", r"no polygon of .*area\.gpkg lies on .*ortho\.tif"),
        ([shapely.box(843000, 6518900, 843050, 6519000)], None, r"has no CRS; write the one"),
    ],
)
def test_an_area_that_says_nothing_is_refused(
    ortho: Path, tmp_path: Path, shapes: list, crs: str | None, said: str
) -> None:
    path = write_area(tmp_path / "area.gpkg", shapes, crs=crs)
    with pytest.raises(RasterError, match=said):
        mapped(ortho, tmp_path / "out", area=path)
    assert not (tmp_path / "out").exists()


def test_an_area_beyond_the_projection_is_refused(ortho: Path, tmp_path: Path) -> None:
    path = write_area(tmp_path / "area.gpkg", [shapely.box(-170, -95, 170, 95)], crs="OGC:CRS84")
    with pytest.raises(RasterError, match=r"(reaches where EPSG:2154 is not defined|cannot be brought to EPSG:2154)"):
        mapped(ortho, tmp_path / "out", area=path)


def test_what_is_no_area_is_refused(ortho: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RasterError, match=r"none\.gpkg is not there; give a vector file"):
        mapped(ortho, tmp_path / "out", area=tmp_path / "none.gpkg")
    with pytest.raises(RasterError, match=r"ortho\.tif cannot be read as a vector file: "):
        mapped(ortho, tmp_path / "out", area=ortho)
    monkeypatch.setitem(sys.modules, "shapely", None)
    with pytest.raises(RasterError, match=r"an area of interest needs shapely; install uperfuse\[area\]"):
        mapped(ortho, tmp_path / "out", area=ortho)
    assert area.__all__ == ["Area"]


def test_a_run_goes_on_with_the_same_area_alone(ortho: Path, tmp_path: Path) -> None:
    path = write_area(tmp_path / "area.gpkg", [on_ground(PARCEL), on_ground(POND)])
    _, expected = mapped(ortho, tmp_path / "whole", area=path)
    broken = FormulaEngine(aerial_manifest(), fail_at_call=4)
    with pytest.raises(RuntimeError):
        mapped(ortho, tmp_path / "out", broken, area=path)
    with pytest.raises(RasterError, match=r"area: was [0-9a-f]{64}, is all"):
        mapped(ortho, tmp_path / "out", begin="resume")
    _, labels = mapped(ortho, tmp_path / "out", begin="resume", area=path)
    np.testing.assert_array_equal(labels, expected)
