"""The truth of a task as a raster of the user: the class of every pixel, by the plan's numbers."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray
from rasterio.windows import Window

from ..errors import RasterError
from ..plan.network import Task
from ..prediction import VOID
from ..rasters.align import read_square
from ..rasters.files import grid_of, open_raster, reading
from ..rasters.grid import Grid
from ..rasters.source import Pixels
from ..rasters.tiling import TilePlace

__all__ = ["LabelRaster"]


class LabelRaster:
    """One band of classes; 255 and the file's nodata are unknown.

    Args:
        path: the file.
        task: whose classes they are.

    Raises:
        RasterError: the file cannot be read, or has another number of bands or type.
    """

    def __init__(self, path: Path, *, task: Task) -> None:
        self._path, self._task = path, task
        self._dataset = open_raster(path)
        self.grid: Grid = grid_of(path, self._dataset)
        if self._dataset.count != 1 or self._dataset.dtypes[0] != "uint8":
            got = f"{self._dataset.count} bands of {self._dataset.dtypes[0]}"
            raise RasterError(f"{path} has {got}, expected one of uint8 with the classes of {task.name}; convert it")

    def read(self, window: Window, *, shape_yx: tuple[int, int] | None = None) -> Pixels:
        """Read a rectangle; what is unknown is void.

        Raises:
            RasterError: the file breaks, or holds a class that the task does not have.
        """
        shape = shape_yx or (window.height, window.width)
        with reading(self._path):
            values = self._dataset.read(1, window=window, out_shape=shape)
        nodata = self._dataset.nodata
        unknown = (values == VOID) | (values == nodata if nodata is not None else False)
        classes = len(self._task.classes)
        if (values[~unknown] >= classes).any():
            raise RasterError(
                f"{self._path} holds class {int(values[~unknown].max())}, {self._task.name} of the plan has {classes} "
                f"from 0 on; number the classes as the plan does, {VOID} where unknown"
            )
        return Pixels(values[None, None], unknown[None])

    def square(self, grid: Grid, place: TilePlace, *, px: int) -> NDArray[np.uint8]:
        """Classes [px, px] of a tile, 255 where unknown.

        Args:
            grid: of the base modality.
            place: of the tile.
            px: side of the result.
        """
        found = read_square(self, crs=grid.crs, transform=grid.tile_transform(place, px=px), px=px, nearest=True)
        classes: NDArray[np.uint8] = np.where(found.void[0], VOID, found.values[0, 0]).astype(np.uint8)
        return classes

    def close(self) -> None:
        """Close the file."""
        self._dataset.close()

    def __enter__(self) -> LabelRaster:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
