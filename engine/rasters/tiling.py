"""Where tiles lie on a raster, and which pixels of the map each of them owns.

A tile is a square of fixed size. Its outer rim, the halo, only gives the network context; its core is written to the
map. Where tiles are blended, a part of the halo has a say in the map, too (`seams.py`).

The first and the last tile of a row or column also own the rim that lies on the raster's edge, and the last one is
shifted inwards, so that no tile reads outside a raster that is at least as large as a tile.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ..errors import RasterError

__all__ = ["Span", "TilePlace", "Tiling", "default_halo_px"]

_STRIDE_PX = 32
_MOST_PX = 64


@dataclass(frozen=True)
class Span:
    """One tile along one axis, in pixels of the raster: it starts at `start` and owns `core_start` to `core_stop`."""

    start: int
    core_start: int
    core_stop: int


@dataclass(frozen=True)
class TilePlace:
    """One tile on the raster, in pixels of the base modality."""

    rows: Span
    columns: Span
    tile_px: int

    @property
    def core_yx(self) -> tuple[slice, slice]:
        """The core in pixels of the raster."""
        return (
            slice(self.rows.core_start, self.rows.core_stop),
            slice(self.columns.core_start, self.columns.core_stop),
        )

    @property
    def core_in_tile_yx(self) -> tuple[slice, slice]:
        """The core in pixels of the tile."""
        return (
            slice(self.rows.core_start - self.rows.start, self.rows.core_stop - self.rows.start),
            slice(self.columns.core_start - self.columns.start, self.columns.core_stop - self.columns.start),
        )

    @property
    def core_words(self) -> str:
        """The core in pixels of the raster, for messages."""
        rows, columns = self.core_yx
        return f"rows {rows.start} to {rows.stop - 1}, columns {columns.start} to {columns.stop - 1}"

    @property
    def core_pixels(self) -> int:
        """Number of pixels of the core."""
        rows = self.rows.core_stop - self.rows.core_start
        return rows * (self.columns.core_stop - self.columns.core_start)


class Tiling:
    """The tiles of a raster, row by row; their cores partition it.

    Args:
        shape_yx: rows and columns of the raster.
        tile_px: side of a tile in pixels.
        halo_px: rim of a tile that is not written, in pixels.

    Raises:
        RasterError: the halo is negative or leaves no core.

    Example:
        >>> [(t.rows.start, t.columns.start) for t in Tiling((300, 900), tile_px=512, halo_px=64)]
        [(0, 0), (0, 384), (0, 388)]
    """

    def __init__(self, shape_yx: tuple[int, int], *, tile_px: int, halo_px: int) -> None:
        if halo_px < 0:
            raise RasterError(f"halo of {halo_px} px is negative; use a halo from 0 to below {tile_px / 2:g} px")
        if 2 * halo_px >= tile_px:
            raise RasterError(
                f"halo of {halo_px} px leaves no core in a {tile_px} px tile; use a halo below {tile_px / 2:g} px"
            )
        self.shape_yx = shape_yx
        self.tile_px = tile_px
        self.halo_px = halo_px
        rows, columns = shape_yx
        self._rows = _spans(rows, tile_px, halo_px)
        self._columns = _spans(columns, tile_px, halo_px)

    @property
    def pixels(self) -> int:
        """Number of pixels of the raster."""
        return self.shape_yx[0] * self.shape_yx[1]

    @property
    def columns(self) -> int:
        """Number of tiles in a row."""
        return len(self._columns)

    @property
    def row_spans(self) -> Sequence[Span]:
        """Rows of each row of tiles."""
        return self._rows

    @property
    def column_spans(self) -> Sequence[Span]:
        """Columns of each column of tiles."""
        return self._columns

    def __len__(self) -> int:
        return len(self._rows) * len(self._columns)

    def __getitem__(self, tile: int) -> TilePlace:
        row, column = divmod(tile, len(self._columns))
        return TilePlace(self._rows[row], self._columns[column], self.tile_px)

    def __iter__(self) -> Iterator[TilePlace]:
        return (self[tile] for tile in range(len(self)))


def default_halo_px(tile_px: int) -> int:
    """An eighth of the tile, rounded to the stride of the deepest feature map (32 px), and at most 64 px.

    Context is a distance on the ground: in larger tiles the middle has more of it, and the rim needs no more.
    """
    eighth = tile_px / 8
    if eighth < _STRIDE_PX:
        return int(eighth)
    return min(_MOST_PX, _STRIDE_PX * round(eighth / _STRIDE_PX))


def _spans(length: int, tile_px: int, halo_px: int) -> list[Span]:
    step = tile_px - 2 * halo_px
    starts = [0]
    while starts[-1] + tile_px < length:
        starts.append(min(starts[-1] + step, length - tile_px))
    stops = [start + tile_px - halo_px for start in starts[:-1]] + [length]
    return [Span(*span) for span in zip(starts, [0, *stops[:-1]], stops, strict=True)]
