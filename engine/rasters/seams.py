"""Seams between tiles, and which tiles give each piece of the map.

A seam is the line where the cores of two neighbouring tiles meet; within `blend_px` of it, both are mixed. Along one
axis, the map so falls into stretches that one tile gives and stretches that two give:

    | tile 0 |=tiles 0, 1=| tile 1 |=tiles 1, 2=| tile 2 |

A piece of the map is a stretch of rows times a stretch of columns: one, two or four tiles give it. Pieces partition the
map. Without blending, they are the cores.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import RasterError
from .tiling import Span, TilePlace, Tiling

__all__ = ["Piece", "Seams", "Stretch"]


@dataclass(frozen=True)
class Stretch:
    """Pixels along one axis that the same tiles give.

    Attributes:
        start: first pixel of the map.
        stop: pixel after the last.
        tiles: number along the axis of the tile that gives it or, across a seam, of both.
    """

    start: int
    stop: int
    tiles: tuple[int, ...]

    def weights(self, tile: int) -> NDArray[np.uint64]:
        """Weight of a tile at each pixel, in whole numbers whose sum over the tiles is the same at every pixel.

        Across a seam it is linear, taken at the middle of a pixel: [1, 3, 5, 7] of 8 for the tile behind it, over 4 px.
        """
        length = self.stop - self.start
        if len(self.tiles) == 1:
            return np.ones(length, np.uint64)
        behind: NDArray[np.uint64] = 2 * np.arange(length, dtype=np.uint64) + np.uint64(1)
        return behind if tile == self.tiles[1] else np.uint64(2 * length) - behind

    def owned(self, tile: int) -> slice:
        """The pixels, from the start of the stretch, that lie in the tile's core."""
        length = self.stop - self.start
        if len(self.tiles) == 1:
            return slice(0, length)
        return slice(length // 2, length) if tile == self.tiles[1] else slice(0, length // 2)


@dataclass(frozen=True)
class Piece:
    """A rectangle of the map that the same tiles give."""

    rows: Stretch
    columns: Stretch
    tiles_in_row: int

    @property
    def tiles(self) -> tuple[int, ...]:
        """Numbers of the tiles that give it."""
        return tuple(row * self.tiles_in_row + column for row in self.rows.tiles for column in self.columns.tiles)

    @property
    def yx(self) -> tuple[slice, slice]:
        """The piece in pixels of the map."""
        return slice(self.rows.start, self.rows.stop), slice(self.columns.start, self.columns.stop)

    @property
    def shape_yx(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.rows.stop - self.rows.start, self.columns.stop - self.columns.start

    @property
    def words(self) -> str:
        """The piece in pixels of the map; no other piece has the same."""
        return (
            f"rows {self.rows.start} to {self.rows.stop - 1}, columns {self.columns.start} to {self.columns.stop - 1}"
        )

    def in_tile_yx(self, place: TilePlace) -> tuple[slice, slice]:
        """The piece in pixels of a tile that gives it."""
        top, left = place.rows.start, place.columns.start
        return (
            slice(self.rows.start - top, self.rows.stop - top),
            slice(self.columns.start - left, self.columns.stop - left),
        )

    def weights(self, tile: int) -> NDArray[np.uint64]:
        """Weight of a tile at each pixel [Y, X]; whole numbers, whose sum over the tiles is the same everywhere."""
        row, column = divmod(tile, self.tiles_in_row)
        return self.rows.weights(row)[:, None] * self.columns.weights(column)[None, :]

    def owned_yx(self, tile: int) -> tuple[slice, slice]:
        """The part of the piece, from its corner, that lies in the tile's core."""
        row, column = divmod(tile, self.tiles_in_row)
        return self.rows.owned(row), self.columns.owned(column)


class Seams:
    """The pieces of a map.

    Args:
        tiling: where its tiles lie.
        blend_px: distance from a seam up to which both sides are mixed, in pixels; 0 mixes nothing.

    Raises:
        RasterError: tiles do not reach that far, or more than two of them would meet.

    Example:
        >>> seams = Seams(Tiling((60, 150), tile_px=64, halo_px=8), blend_px=4)
        >>> [(piece.columns.start, piece.columns.stop, piece.tiles) for piece in seams.finished_by(1)]
        [(52, 60, (0, 1)), (60, 100, (1,))]
    """

    def __init__(self, tiling: Tiling, *, blend_px: int) -> None:
        if blend_px < 0:
            raise RasterError(f"blending of {blend_px} px is negative; use 0 to {tiling.halo_px} px")
        if blend_px > tiling.halo_px:
            raise RasterError(
                f"blending of {blend_px} px reaches beyond the halo of {tiling.halo_px} px; blend at most "
                f"{tiling.halo_px} px, or use a wider halo"
            )
        core_px = tiling.tile_px - 2 * tiling.halo_px
        if 2 * blend_px > core_px:
            raise RasterError(
                f"blending of {blend_px} px from both sides leaves nothing of a core of {core_px} px; blend at most "
                f"{core_px // 2} px, or use a narrower halo"
            )
        self.tiling = tiling
        self.blend_px = blend_px
        self._rows = _stretches(tiling.row_spans, blend_px)
        self._columns = _stretches(tiling.column_spans, blend_px)

    def of(self, tile: int) -> Iterator[Piece]:
        """Pieces that a tile gives, alone or with others."""
        row, column = divmod(tile, self.tiling.columns)
        return self._pieces(_around(self._rows, row), _around(self._columns, column))

    def finished_by(self, tile: int) -> Iterator[Piece]:
        """Pieces of which a tile is the last, by its number, that gives them."""
        row, column = divmod(tile, self.tiling.columns)
        return self._pieces(_around(self._rows, row)[:2], _around(self._columns, column)[:2])

    def _pieces(self, rows: Sequence[Stretch | None], columns: Sequence[Stretch | None]) -> Iterator[Piece]:
        for y in rows:
            for x in columns:
                if y is not None and x is not None and y.start < y.stop and x.start < x.stop:
                    yield Piece(y, x, self.tiling.columns)


def _stretches(spans: Sequence[Span], blend_px: int) -> list[Stretch]:
    """What one tile gives, then what it gives with the next, and so on."""
    last = len(spans) - 1
    stretches = []
    for number, span in enumerate(spans):
        start = span.core_start + (blend_px if number else 0)
        stop = span.core_stop - (blend_px if number < last else 0)
        stretches.append(Stretch(start, stop, (number,)))
        if number < last:
            stretches.append(Stretch(stop, stop + 2 * blend_px, (number, number + 1)))
    return stretches


def _around(stretches: Sequence[Stretch], tile: int) -> tuple[Stretch | None, Stretch, Stretch | None]:
    """What a tile gives along one axis: with the one before, alone, with the one behind."""
    own = 2 * tile
    before = stretches[own - 1] if tile else None
    behind = stretches[own + 1] if own + 1 < len(stretches) else None
    return before, stretches[own], behind
