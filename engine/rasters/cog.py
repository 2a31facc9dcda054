"""A raster that is written by rectangles and becomes a Cloud-Optimised GeoTIFF when it is whole."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import rasterio
import rasterio.shutil
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning
from rasterio.windows import Window

from ..errors import RasterError
from ..prediction import VOID
from .gdal_errors import GDAL_ERRORS
from .grid import Grid

__all__ = ["ByteRaster", "Description"]

_BLOCK_PX = 512


@dataclass(frozen=True)
class Description:
    """What a raster says of itself.

    Attributes:
        bands: description of each band.
        tags: metadata of the raster.
        band_tags: metadata of the first band.
        colours: colour table of the first band.
        overviews: how coarser views are made: of classes the most frequent, of amounts the mean.
    """

    bands: Sequence[str]
    tags: Mapping[str, str]
    band_tags: Mapping[str, str] = field(default_factory=dict)
    colours: Mapping[int, tuple[int, int, int, int]] | None = None
    overviews: Literal["MODE", "AVERAGE"] = "MODE"


class ByteRaster:
    """A uint8 raster under construction; what is never written is void (255).

    It grows in a plain tiled GeoTIFF whose untouched blocks take no space, so memory does not depend on its size.

    Args:
        path: the working file.
        grid: pixels and place.
        description: what it says of itself.
    """

    def __init__(self, path: Path, *, grid: Grid, description: Description) -> None:
        self._path = path
        self._grid = grid
        self._description = description
        self._written = np.zeros(256, np.int64)
        with _writing(path), _place_optional():
            self._dataset = rasterio.open(
                path,
                "w",
                driver="GTiff",
                dtype="uint8",
                nodata=VOID,
                count=len(description.bands),
                height=grid.shape_yx[0],
                width=grid.shape_yx[1],
                crs=grid.crs,
                transform=None if grid.transform.is_identity else grid.transform,
                tiled=True,
                blockxsize=_BLOCK_PX,
                blockysize=_BLOCK_PX,
                interleave="band",
                SPARSE_OK="TRUE",
                BIGTIFF="IF_SAFER",
            )
            self._describe()

    def write(self, values: NDArray[np.uint8], *, rows: slice, columns: slice) -> None:
        """Write a rectangle [bands, Y, X]; a rectangle is written once.

        Raises:
            RasterError: the disk does not take it.
        """
        window = Window(columns.start, rows.start, columns.stop - columns.start, rows.stop - rows.start)
        with _writing(self._path):
            self._dataset.write(values, window=window)
        self._written += np.bincount(values.ravel(), minlength=256)

    def close(self) -> None:
        """Close the working file."""
        self._dataset.close()

    def finish(self, target: Path) -> None:
        """Write the Cloud-Optimised GeoTIFF `target`, read it back and compare what it holds with what was written.

        Raises:
            RasterError: the disk does not take it, or gives back something else.
        """
        with _writing(target), _place_optional():
            self._dataset.close()
            rasterio.shutil.copy(
                self._path,
                target,
                driver="COG",
                COMPRESS="DEFLATE",
                BLOCKSIZE=str(_BLOCK_PX),
                OVERVIEW_RESAMPLING=self._description.overviews,
                BIGTIFF="IF_SAFER",
                NUM_THREADS="ALL_CPUS",
            )
            found = self._histogram(target)
        rows, columns = self._grid.shape_yx
        expected = self._written.copy()
        expected[VOID] += rows * columns * len(self._description.bands) - expected.sum()
        if not np.array_equal(found, expected):
            differing = int(np.abs(found - expected).sum()) // 2
            raise RasterError(
                f"{target.name} reads back with {differing} pixels other than written; check the disk it is on"
            )

    def _describe(self) -> None:
        self._dataset.update_tags(**self._description.tags)
        self._dataset.update_tags(1, **self._description.band_tags)
        for number, text in enumerate(self._description.bands, start=1):
            self._dataset.set_band_description(number, text)
        if self._description.colours is not None:
            self._dataset.write_colormap(1, dict(self._description.colours))

    def _histogram(self, target: Path) -> NDArray[np.int64]:
        counts = np.zeros(256, np.int64)
        with rasterio.open(target) as dataset:
            for number in range(1, dataset.count + 1):
                for _, window in dataset.block_windows(number):
                    counts += np.bincount(dataset.read(number, window=window).ravel(), minlength=256)
        return counts


@contextmanager
def _place_optional() -> Iterator[None]:
    """A map of a raster without CRS has none either, and that was said before."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        yield


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except GDAL_ERRORS as error:
        reason: Any = error.__cause__ or error
        raise RasterError(f"{path} cannot be written: {reason}; check the space left and the permissions") from error
