"""Bringing a raster onto the square of a tile: read as it is where its pixels lie on the tile's, else resampled."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.enums import Resampling
from rasterio.warp import reproject
from rasterio.warp import transform as transform_points
from rasterio.windows import Window

from .files import reading
from .grid import Grid
from .source import Pixels, Readable

__all__ = ["lies_on_pixels", "read_square", "seen_window"]

_TOLERANCE_PX = 0.01
_EDGE_POINTS = 9
_COARSER = 2.0
_DECIMATED_PX = 4


def read_square(raster: Readable, *, crs: CRS | None, transform: Affine, px: int, nearest: bool = False) -> Pixels:
    """Read the square of a tile from a raster; what the raster does not cover is void.

    A void pixel takes no part in resampling, and lends its place no value.

    Args:
        raster: where from.
        crs: of the square.
        transform: of the square's pixels.
        px: side of the square.
        nearest: take the nearest pixel instead of a bilinear mean (or, onto much coarser pixels, a plain mean).

    Returns:
        Values [T, C, px, px] in the raster's type, and void pixels.
    """
    corner = _whole_pixels(raster.grid, crs, transform, px)
    if corner is not None:
        return _padded(raster, *corner, px)
    return _resampled(raster, crs, transform, px, nearest)


def lies_on_pixels(grid: Grid, *, crs: CRS | None, transform: Affine, px: int) -> bool:
    """Whether the pixels of a square are pixels of the grid, so that nothing needs resampling."""
    return _whole_pixels(grid, crs, transform, px) is not None


def seen_window(grid: Grid, crs: CRS | None, transform: Affine, px: int) -> tuple[Window | None, float]:
    """Rectangle of the grid that a square needs, and how many of its pixels go along one of the square's.

    The rectangle has a margin for resampling; it is None where the square lies outside the grid.
    """
    along = np.linspace(0, px, _EDGE_POINTS)
    xs, ys = (axis.ravel() for axis in np.meshgrid(along, along))
    points = [transform @ (x, y) for x, y in zip(xs, ys, strict=True)]
    with reading(grid.file):
        east, north = transform_points(crs, grid.crs, [x for x, _ in points], [y for _, y in points])[:2]
    to_grid = ~grid.transform
    columns, rows = np.array([to_grid @ point for point in zip(east, north, strict=True)]).T
    if not np.isfinite([columns, rows]).all():
        return None, 1.0
    per_pixel = max(np.ptp(columns), np.ptp(rows)) / px
    margin = 2 + math.ceil(2 * per_pixel)
    window = _inside(
        grid,
        math.floor(rows.min()) - margin,
        math.floor(columns.min()) - margin,
        math.ceil(rows.max()) + margin,
        math.ceil(columns.max()) + margin,
    )
    return window, per_pixel


def _whole_pixels(grid: Grid, crs: CRS | None, transform: Affine, px: int) -> tuple[int, int] | None:
    """Row and column of the grid at which the square begins, if its pixels are the grid's."""
    if grid.crs != crs:
        return None
    to_grid = ~grid.transform @ transform
    column, row = (round(value) for value in to_grid @ (0, 0))
    for x, y in ((0, 0), (px, 0), (0, px)):
        got = to_grid @ (x, y)
        if max(abs(got[0] - column - x), abs(got[1] - row - y)) > _TOLERANCE_PX:
            return None
    return row, column


def _padded(raster: Readable, row: int, column: int, px: int) -> Pixels:
    window = _inside(raster.grid, row, column, row + px, column + px)
    if window is not None and (window.height, window.width) == (px, px):
        return raster.read(window)
    # A rectangle of one pixel tells type and number of bands where the square lies outside the raster.
    inner = raster.read(window if window is not None else Window(0, 0, 1, 1))
    values = np.zeros((*inner.values.shape[:2], px, px), inner.values.dtype)
    void = np.ones((inner.void.shape[0], px, px), np.bool_)
    if window is not None:
        rows = slice(window.row_off - row, window.row_off - row + window.height)
        columns = slice(window.col_off - column, window.col_off - column + window.width)
        values[:, :, rows, columns] = inner.values
        void[:, rows, columns] = inner.void
    return Pixels(values, void)


def _resampled(raster: Readable, crs: CRS | None, transform: Affine, px: int, nearest: bool) -> Pixels:
    window, per_pixel = seen_window(raster.grid, crs, transform, px)
    if window is None:
        return _padded(raster, -px, -px, px)
    window, shape = _decimated(window, step=math.floor(per_pixel / _DECIMATED_PX))
    source = raster.read(window, shape_yx=shape)
    source_transform = (
        raster.grid.transform
        @ Affine.translation(window.col_off, window.row_off)
        @ Affine.scale(window.width / shape[1], window.height / shape[0])
    )
    method = Resampling.nearest if nearest else Resampling.average if per_pixel > _COARSER else Resampling.bilinear
    numbers = np.where(source.void[:, None], np.float32(np.nan), source.values.astype(np.float32))
    onto = partial(_warped, raster.grid, source_transform, crs, transform, px)
    values = onto(numbers, method)  # [T, C, Y, X]
    void = np.isnan(values).any(axis=1)
    if method is Resampling.bilinear and source.void.any():  # a void pixel takes no value from its neighbours either
        void |= np.isnan(onto(np.where(source.void[:, None], np.float32(np.nan), np.float32(0)), Resampling.nearest))[
            :, 0
        ]
    values = np.where(void[:, None], np.float32(0), values)
    dtype = source.values.dtype
    return Pixels((np.rint(values) if dtype.kind in "iu" else values).astype(dtype), void)


def _warped(
    grid: Grid,
    source_transform: Affine,
    crs: CRS | None,
    transform: Affine,
    px: int,
    numbers: NDArray[np.float32],
    method: Resampling,
) -> NDArray[Any]:
    """Numbers [T, C, Y, X] of which NaN takes no part, resampled to [T, C, px, px]; NaN where there are none."""
    target = np.full((numbers.shape[0] * numbers.shape[1], px, px), np.nan, np.float32)
    with reading(grid.file):
        reproject(
            numbers.reshape(-1, *numbers.shape[2:]),
            target,
            src_transform=source_transform,
            src_crs=grid.crs,
            src_nodata=np.nan,
            dst_transform=transform,
            dst_crs=crs,
            dst_nodata=np.nan,
            resampling=method,
            UNIFIED_SRC_NODATA="NO",  # each acquisition has void pixels of its own
        )
    return target.reshape(*numbers.shape[:2], px, px)


def _decimated(window: Window, *, step: int) -> tuple[Window, tuple[int, int]]:
    """Rows and columns to read of a window where the raster is much finer than the tile: every `step`-th pixel.

    The step is odd, so that the pixel taken is the middle one and coordinates are kept.
    """
    step = max(1, step - 1 + step % 2)
    shape = (max(1, window.height // step), max(1, window.width // step))
    height, width = min(window.height, shape[0] * step), min(window.width, shape[1] * step)
    return Window(window.col_off, window.row_off, width, height), shape


def _inside(grid: Grid, row: int, column: int, row_stop: int, column_stop: int) -> Window | None:
    rows, columns = grid.shape_yx
    row, column, row_stop, column_stop = max(0, row), max(0, column), min(rows, row_stop), min(columns, column_stop)
    if row >= row_stop or column >= column_stop:
        return None
    return Window(column, row, column_stop - column, row_stop - row)
