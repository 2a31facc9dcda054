"""What rasterio raises when GDAL reports an error."""

from __future__ import annotations

from rasterio._err import CPLE_BaseError  # copying and transforming raise it as it is; no public module has it
from rasterio.errors import RasterioError

__all__ = ["GDAL_ERRORS"]

GDAL_ERRORS: tuple[type[Exception], ...] = (RasterioError, CPLE_BaseError)
