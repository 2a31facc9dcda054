"""In which order tiles are read, and by which reader, so that few blocks are decoded twice.

Neighbouring tiles need the same blocks, and GDAL keeps the latest that it decoded. So each reader has a lane: a band of
the map. Where the blocks of a whole row of its tiles are more than GDAL keeps, they would be gone when the next row
needs them; a lane is then read in stripes, of so many columns that a row fits.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from .align import seen_window
from .blocks import BlockLayout
from .files import UnreadableError
from .grid import Grid
from .tiling import TilePlace, Tiling

__all__ = ["bytes_of_row", "columns_that_fit", "lanes"]


def lanes(tiling: Tiling, tiles: Sequence[int], *, count: int, by_rows: bool, columns: int) -> list[list[int]]:
    """Tiles in at most `count` lanes of about as many each.

    Args:
        tiling: of the map.
        tiles: numbers of the tiles, row by row.
        count: number of readers.
        by_rows: whether a lane is a band of whole rows of tiles, as it must be where a block is as wide as the raster;
            else it is one of columns, unless there are more readers than columns.
        columns: of tiles in a stripe.

    Example:
        >>> tiling = Tiling((100, 200), tile_px=50, halo_px=0)
        >>> lanes(tiling, range(8), count=2, by_rows=False, columns=4)
        [[0, 1, 4, 5], [2, 3, 6, 7]]
        >>> lanes(tiling, range(8), count=2, by_rows=True, columns=4)
        [[0, 1, 2, 3], [4, 5, 6, 7]]
        >>> lanes(tiling, range(8), count=1, by_rows=False, columns=3)
        [[0, 1, 2, 4, 5, 6, 3, 7]]
    """
    if by_rows or tiling.columns < count:
        lines = [tile // tiling.columns for tile in tiles]
    else:
        lines = [tile % tiling.columns for tile in tiles]
    sizes = Counter(lines)
    lane_of, before = {}, 0
    for line in sorted(sizes):  # a line goes to the lane that its middle falls in
        lane_of[line] = (2 * before + sizes[line]) * count // (2 * len(tiles))
        before += sizes[line]
    split: list[list[int]] = [[] for _ in range(count)]
    for tile, line in zip(tiles, lines, strict=True):
        split[lane_of[line]].append(tile)
    return [lane if by_rows else _in_stripes(lane, tiling, columns) for lane in split if lane]


def columns_that_fit(layouts: Sequence[BlockLayout], *, tiling: Tiling, base: Grid, cache_bytes: int) -> int:
    """Number of tiles side by side whose blocks are no more than GDAL keeps; at least one.

    Args:
        layouts: of all rasters.
        tiling: of the map.
        base: pixels of the map.
        cache_bytes: of blocks that GDAL keeps.
    """
    fitting, too_many = 1, tiling.columns + 1
    while too_many - fitting > 1:
        middle = (fitting + too_many) // 2
        needed = sum(bytes_of_row(layout, middle, tiling=tiling, base=base) for layout in layouts)
        fitting, too_many = (middle, too_many) if needed <= cache_bytes else (fitting, middle)
    return fitting


def bytes_of_row(layout: BlockLayout, tiles: int, *, tiling: Tiling, base: Grid) -> int:
    """Bytes of all blocks of a raster that so many tiles side by side need, in the middle of the map, at most.

    Args:
        layout: of the raster.
        tiles: how many.
        tiling: of the map.
        base: pixels of the map.
    """
    height, width = _seen_yx(layout.grid, tiling[len(tiling) // 2], base)
    step = (tiling.tile_px - 2 * tiling.halo_px) / tiling.tile_px
    return layout.bytes_around(height, width * (1 + (tiles - 1) * step))


def _seen_yx(grid: Grid, place: TilePlace, base: Grid) -> tuple[int, int]:
    """Rows and columns of a raster that a tile needs; none where it does not cover it."""
    if base.crs is None:  # then there is no other raster
        return place.tile_px, place.tile_px
    try:
        window, _ = seen_window(grid, base.crs, base.tile_transform(place, px=place.tile_px), place.tile_px)
    except UnreadableError:  # beyond what a projection knows; said when a tile there is read
        return 0, 0
    return (0, 0) if window is None else (window.height, window.width)


def _in_stripes(lane: Sequence[int], tiling: Tiling, columns: int) -> list[int]:
    first = min(tile % tiling.columns for tile in lane)
    return sorted(lane, key=lambda tile: (tile % tiling.columns - first) // columns)
