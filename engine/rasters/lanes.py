"""Tiles shared out among readers, so that what lies together is read by one, and few blocks by two."""

from __future__ import annotations

from collections.abc import Sequence

from .tiling import Tiling

__all__ = ["lanes"]


def lanes(tiling: Tiling, tiles: Sequence[int], *, count: int, by_rows: bool) -> list[list[int]]:
    """Tiles in at most `count` lanes of about as many each; each lane goes row by row.

    A lane is a band of whole columns of tiles, so that a reader finds the blocks of the row above among those that it
    keeps; or of whole rows, where blocks are as wide as the raster or there are more readers than columns.

    Example:
        >>> lanes(Tiling((100, 200), tile_px=50, halo_px=0), range(8), count=2, by_rows=False)
        [[0, 1, 4, 5], [2, 3, 6, 7]]
        >>> lanes(Tiling((100, 200), tile_px=50, halo_px=0), range(8), count=2, by_rows=True)
        [[0, 1, 2, 3], [4, 5, 6, 7]]
    """
    by_rows = by_rows or tiling.columns < count

    def line(tile: int) -> int:
        row, column = divmod(tile, tiling.columns)
        return row if by_rows else column

    split: list[list[int]] = [[]]
    lines = sorted({line(tile) for tile in tiles})
    sizes = dict.fromkeys(lines, 0)
    for tile in tiles:
        sizes[line(tile)] += 1
    lane_of, before = {}, 0
    for number in lines:  # a line goes to the lane in which its middle falls
        lane_of[number] = (2 * before + sizes[number]) * count // (2 * len(tiles))
        before += sizes[number]
    split = [[] for _ in range(count)]
    for tile in sorted(tiles):
        split[lane_of[line(tile)]].append(tile)
    return [lane for lane in split if lane]
