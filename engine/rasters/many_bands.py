"""Raster files with a thousand bands, read without looking for each."""

from __future__ import annotations

from os import PathLike

from rasterio.env import ensure_env_with_credentials
from rasterio.io import DatasetReader

__all__ = ["open_many_bands"]


@ensure_env_with_credentials  # type: ignore[untyped-decorator]  # as `rasterio.open` does, for rasters in the cloud
def open_many_bands(path: str | PathLike[str]) -> DatasetReader:
    """Open a raster for reading, as `rasterio.open` does."""
    return _ManyBands(path)


class _ManyBands(DatasetReader):  # type: ignore[misc]  # rasterio says no types
    """A file of which many bands are read at a time, as a series has them.

    When it reads, rasterio looks for the number of each band in `indexes`, a tuple that it makes anew for each: most of
    the time of a series. A range knows its numbers without looking.
    """

    @property
    def indexes(self) -> range:
        """Numbers of the bands."""
        return range(1, self.count + 1)
