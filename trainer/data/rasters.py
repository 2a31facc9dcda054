"""One raster file to an array, fast for a thousand bands."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import rasterio
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning

from ...engine.errors import RasterError
from ...engine.rasters.files import reading
from ...engine.rasters.gdal_errors import GDAL_ERRORS
from ...engine.rasters.many_bands import open_many_bands
from .errors import DataSetError

__all__ = ["read_raster"]


def read_raster(path: Path) -> tuple[NDArray[Any], float | None]:
    """Read a raster whole.

    Returns:
        All bands [N, Y, X] in the file's type, and their nodata value: a TIFF has one for all of its bands.

    Raises:
        DataSetError: it is not there, is no raster, or is damaged.
    """
    if not path.is_file():
        raise DataSetError(f"{path} is not there, and its split file lists it; get it or empty its cell")
    with rasterio.Env():
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", NotGeoreferencedWarning)
                dataset = open_many_bands(path)
        except GDAL_ERRORS as error:
            raise DataSetError(f"{path} cannot be opened as a raster: {error}; get it anew") from None
        try:
            with dataset, reading(path):
                return dataset.read(), dataset.nodata
        except RasterError as error:
            raise DataSetError(f"{error}; get it anew") from None
