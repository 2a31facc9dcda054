"""The area of interest: polygons of a vector file, outside of which a map is void."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.features import rasterize
from rasterio.transform import Affine
from rasterio.warp import transform

from ..errors import RasterError
from .gdal_errors import GDAL_ERRORS
from .grid import Grid
from .tiling import TilePlace

__all__ = ["Area"]

_POLYGONS = (3, 6)  # numbers of polygon and of multipolygon
_PIECES = 1000
"""Of the larger side of all polygons, into which edges are cut before they are reprojected."""


class Area:
    """Polygons on the pixels of a map.

    Args:
        path: any vector file that GDAL reads, such as a GeoPackage; of several layers the first.
        grid: of the map.

    Attributes:
        content: the polygons in the map's CRS, as bytes that identify them.

    Raises:
        RasterError: the file cannot be read, holds no polygon or no CRS, or lies elsewhere; or what reads it is not
            installed.
    """

    def __init__(self, path: Path, *, grid: Grid) -> None:
        _, shapely = _libraries()
        if grid.crs is None:
            raise RasterError(f"{path} cannot be brought onto a raster without CRS; leave the area out")
        shapes = _on_grid(_read(path), path=path, grid=grid)
        rows, columns = grid.shape_yx
        seen = shapely.intersects(shapes, shapely.box(0, 0, columns, rows))
        if not seen.any():
            raise RasterError(f"no polygon of {path} lies on {grid.file}; give the area of this raster")
        self._shapes = shapes[seen]
        self._tree = shapely.STRtree(self._shapes)
        self.content: bytes = b"".join(shapely.to_wkb(self._shapes).tolist())

    def outside(self, place: TilePlace) -> NDArray[np.bool_]:
        """Pixels of a tile whose middle lies in no polygon, [Y, X]."""
        _, shapely = _libraries()
        top, left, side = place.rows.start, place.columns.start, place.tile_px
        touching = self._tree.query(shapely.box(left, top, left + side, top + side), predicate="intersects")
        if not len(touching):
            return np.ones((side, side), np.bool_)
        inside = rasterize(
            [(shape, 1) for shape in self._shapes[touching]],
            out_shape=(side, side),
            transform=Affine.translation(left, top),
            dtype="uint8",
        )
        outside: NDArray[np.bool_] = inside == 0
        return outside


def _read(path: Path) -> tuple[NDArray[Any], str]:
    """Polygons and their CRS."""
    pyogrio, shapely = _libraries()
    if not path.exists():
        raise RasterError(f"{path} is not there; give a vector file with the area of interest")
    try:
        meta, _, geometry, _ = pyogrio.raw.read(path, columns=[])
    except (pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError) as error:
        raise RasterError(f"{path} cannot be read as a vector file: {error}; give one that GDAL reads") from None
    shapes = shapely.from_wkb([] if geometry is None else geometry)
    polygons = shapes[np.isin(shapely.get_type_id(shapes), _POLYGONS) & ~shapely.is_empty(shapes)]
    if not len(polygons):
        raise RasterError(f"{path} holds no polygon, expected at least one; give the area of interest as polygons")
    if meta["crs"] is None:
        raise RasterError(f"{path} has no CRS; write the one that its coordinates are in")
    return polygons, meta["crs"]


def _on_grid(read: tuple[NDArray[Any], str], *, path: Path, grid: Grid) -> NDArray[Any]:
    """Polygons in columns and rows of the map.

    A straight edge is a curve in another projection: edges are cut into pieces first.
    """
    _, shapely = _libraries()
    polygons, crs_words = read
    crs = CRS.from_user_input(crs_words)
    if crs != grid.crs:
        left, bottom, right, top = shapely.total_bounds(polygons)
        polygons = shapely.segmentize(polygons, max(right - left, top - bottom) / _PIECES)

    def moved(points: NDArray[np.float64]) -> NDArray[np.float64]:
        xs, ys = points.T.tolist()
        if crs != grid.crs:
            xs, ys = transform(crs, grid.crs, xs, ys)
        columns, rows = ~grid.transform @ (np.asarray(xs), np.asarray(ys))
        return np.stack([columns, rows], axis=1)

    try:
        moved_polygons = shapely.transform(polygons, moved)
    except GDAL_ERRORS as error:
        raise RasterError(f"{path} cannot be brought to {grid.crs}: {error}; give it in the raster's CRS") from None
    if not np.isfinite(shapely.bounds(moved_polygons)).all():
        raise RasterError(f"{path} reaches where {grid.crs} is not defined; cut it to the surroundings of the raster")
    valid: NDArray[Any] = shapely.make_valid(moved_polygons)
    return valid


def _libraries() -> tuple[Any, Any]:
    """What reads vector files and what computes with polygons; the extra `area` installs both."""
    try:
        import pyogrio.raw
        import shapely
    except ImportError as error:
        name = (error.name or "").split(".")[0]
        raise RasterError(f"an area of interest needs {name}; install uperfuse[area]") from None
    return pyogrio, shapely
