"""Pixel grids on the ground: where tiles lie, how large a pixel is, whether two rasters overlap."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from affine import Affine
from rasterio.crs import CRS
from rasterio.warp import transform as transform_points
from rasterio.warp import transform_bounds

from ..errors import RasterError
from .gdal_errors import GDAL_ERRORS
from .tiling import TilePlace

__all__ = ["Grid", "PixelSize"]

_WGS84 = CRS.from_epsg(4326)
_EQUATOR_M = 6378137.0
_ECCENTRICITY_2 = 0.00669437999014
_PROBE_PX = 64


@dataclass(frozen=True)
class PixelSize:
    """One pixel measured on the ground: its sides along a row and along a column, and its area."""

    x_m: float
    y_m: float
    area_m2: float

    @property
    def gsd_m(self) -> float:
        """Side of a square of the same area."""
        return math.sqrt(self.area_m2)

    def __str__(self) -> str:
        if abs(self.x_m / self.y_m - 1) < 0.01:
            return f"{self.gsd_m:.3g} m"
        return f"{self.x_m:.3g} x {self.y_m:.3g} m"


@dataclass(frozen=True)
class Grid:
    """The pixels of a raster.

    Attributes:
        file: the raster, for messages.
        crs: None where the raster is not georeferenced; its pixels then count from the upper left corner.
        transform: from column and row to coordinates of the CRS.
        shape_yx: rows and columns.
    """

    file: Path
    crs: CRS | None
    transform: Affine
    shape_yx: tuple[int, int]

    def tile_transform(self, place: TilePlace, *, px: int) -> Affine:
        """From column and row of a tile sampled at `px` x `px` to coordinates of the CRS."""
        corner = Affine.translation(place.columns.start, place.rows.start)
        return self.transform @ corner @ Affine.scale(place.tile_px / px)

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """Left, bottom, right, top in the CRS."""
        rows, columns = self.shape_yx
        xs, ys = zip(
            *(self.transform @ corner for corner in ((0, 0), (columns, 0), (0, rows), (columns, rows))), strict=True
        )
        return min(xs), min(ys), max(xs), max(ys)

    def pixel_size(self, *, row: float | None = None, column: float | None = None) -> PixelSize | None:
        """Size of a pixel on the ground at a place, by default the centre; None where there is no CRS.

        Measured on the ellipsoid, not on the map plane: Web Mercator stretches areas twofold in France.
        """
        if self.crs is None:
            return None
        row = self.shape_yx[0] / 2 if row is None else row
        column = self.shape_yx[1] / 2 if column is None else column
        corners = ((column, row), (column + _PROBE_PX, row), (column, row + _PROBE_PX))
        xs, ys = zip(*(self.transform @ corner for corner in corners), strict=True)
        try:
            degrees_east, degrees_north = transform_points(self.crs, _WGS84, xs, ys)[:2]
        except GDAL_ERRORS as error:
            raise RasterError(
                f"coordinates of {self.file} cannot be placed on the earth: {error}; give it the CRS it is in"
            ) from None
        along_x, along_y = _metres(np.array(degrees_east), np.array(degrees_north)) / _PROBE_PX
        area = abs(along_x[0] * along_y[1] - along_x[1] * along_y[0])
        return PixelSize(math.hypot(*along_x), math.hypot(*along_y), float(area))

    def covered_by(self, other: Grid) -> float:
        """Fraction of this raster's extent that another covers, by their bounding boxes.

        Raises:
            RasterError: they do not overlap; names both extents.
        """
        left, bottom, right, top = self.bounds
        try:
            bounds = other.bounds if self.crs == other.crs else transform_bounds(other.crs, self.crs, *other.bounds)
        except GDAL_ERRORS as error:
            raise RasterError(
                f"{other.file} in {other.crs_name} cannot be brought into {self.crs_name} of {self.file}: {error}"
            ) from None
        width = min(right, bounds[2]) - max(left, bounds[0])
        height = min(top, bounds[3]) - max(bottom, bounds[1])
        if not (width > 0 and height > 0):
            raise RasterError(
                f"{other.file} does not overlap {self.file}: it covers {_in_words(bounds)}, expected some of "
                f"{_in_words(self.bounds)} ({self.crs_name}: left, bottom, right, top); give rasters of one place"
            )
        return width * height / ((right - left) * (top - bottom))

    @property
    def crs_name(self) -> str:
        """`EPSG:2154`, or the CRS's own name where it has no code."""
        if self.crs is None:
            return "no CRS"
        authority = self.crs.to_authority()
        if authority is not None:
            return ":".join(authority)
        return str(self.crs.to_dict(projjson=True).get("name", "a CRS without name"))


def _metres(degrees_east: np.ndarray, degrees_north: np.ndarray) -> np.ndarray:
    """Metres east and north of two points from the first of three on the WGS 84 ellipsoid, [2, 2]."""
    latitude = math.radians(float(degrees_north[0]))
    flattening = 1 - _ECCENTRICITY_2 * math.sin(latitude) ** 2
    parallel_m = _EQUATOR_M / math.sqrt(flattening) * math.cos(latitude)
    meridian_m = _EQUATOR_M * (1 - _ECCENTRICITY_2) / flattening**1.5
    east = np.radians((degrees_east[1:] - degrees_east[0] + 180) % 360 - 180) * parallel_m
    north = np.radians(degrees_north[1:] - degrees_north[0]) * meridian_m
    return np.stack([east, north], axis=1)


def _in_words(bounds: tuple[float, float, float, float]) -> str:
    return ", ".join(f"{value:.8g}" for value in bounds)
