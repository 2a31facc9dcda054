"""Opening raster files: what GDAL refuses becomes one sentence, and what has no pixel grid is refused."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.enums import Resampling
from rasterio.errors import NotGeoreferencedWarning
from rasterio.windows import Window

from ..errors import RasterError
from .gdal_errors import GDAL_ERRORS
from .grid import Grid
from .many_bands import open_many_bands

__all__ = ["UnreadableError", "grid_of", "is_transparency", "open_raster", "reading"]

_PROBES = 16
_PROBE_PX = 64
_OVERVIEW_PX = 1024
_MOSTLY_OPAQUE = 0.9
_HARDLY_OPAQUE = 0.5


class UnreadableError(RasterError):
    """A part of a raster that was opened could not be read; another try may succeed."""


def open_raster(path: Path) -> Any:
    """Open a raster for reading.

    Raises:
        RasterError: there is none, or it has no bands of its own.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            dataset = open_many_bands(path)
    except GDAL_ERRORS as error:
        raise RasterError(f"{path} cannot be opened as a raster: {error}; give a file that GDAL reads") from None
    if dataset.count == 0:
        parts = ", ".join(dataset.subdatasets)
        raise RasterError(f"{path} is a container without bands of its own; give one of {parts or 'its parts'}")
    return dataset


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn what GDAL reports while reading `path` into an UnreadableError."""
    try:
        yield
    except GDAL_ERRORS as error:
        reason = error.__cause__ or error
        raise UnreadableError(f"{path} cannot be read: {reason}; the file may be damaged or incomplete") from error


def grid_of(path: Path, dataset: Any) -> Grid:
    """The pixel grid of an open raster; without CRS where it has no transform.

    Raises:
        RasterError: the raster is placed by control points only.
    """
    points, points_crs = dataset.gcps
    if points and dataset.transform.is_identity:
        target = points_crs.to_string() if points_crs else "EPSG:..."
        raise RasterError(
            f"{path} has {len(points)} ground control points and no transform, expected a regular grid; "
            f"warp it first: gdalwarp -t_srs {target} {path.name} warped.tif"
        )
    crs = None if dataset.transform.is_identity else dataset.crs
    return Grid(path, crs, dataset.transform, dataset.shape)


def is_transparency(dataset: Any, number: int) -> bool | None:
    """Tell from its values whether band `number` is an alpha band: nearly all it shows is fully opaque.

    Returns:
        None where the values do not say it clearly.
    """
    values = _sample(dataset, number)
    seen = values[values > 0]
    if not seen.size:
        return None
    opaque = float(np.mean(seen == seen.max()))
    return None if _HARDLY_OPAQUE < opaque < _MOSTLY_OPAQUE else opaque >= _MOSTLY_OPAQUE


def _sample(dataset: Any, number: int) -> NDArray[Any]:
    """Values of one band from all over the raster, cheap on a raster of any size."""
    rows, columns = dataset.shape
    if dataset.overviews(number) or max(rows, columns) <= 2 * _OVERVIEW_PX:
        shape = (min(rows, _OVERVIEW_PX), min(columns, _OVERVIEW_PX))
        overview: NDArray[Any] = dataset.read(number, out_shape=shape, resampling=Resampling.nearest)
        return overview.ravel()
    windows = (
        Window(column, row, min(_PROBE_PX, columns - column), min(_PROBE_PX, rows - row))
        for row in np.linspace(0, rows - 1, _PROBES, dtype=int).tolist()
        for column in np.linspace(0, columns - 1, _PROBES, dtype=int).tolist()
    )
    return np.concatenate([dataset.read(number, window=window).ravel() for window in windows])
