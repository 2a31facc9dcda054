"""How many readers a run needs, from what its first tiles took."""

from __future__ import annotations

import math

__all__ = ["readers_needed"]

_STARTING_S = 2.0
"""What a process must save of a run: it imports, and opens all rasters, before it reads."""


def readers_needed(*, read_s: float, rest_s: float, tiles: int, cores: int) -> int:
    """Number of readers with which reading no longer sets the pace; 1 where more would not pay.

    Args:
        read_s: that one reader takes for a tile.
        rest_s: that everything else takes for a tile, beside the reading; 0 where it is not known.
        tiles: to be mapped.
        cores: of this machine; no more readers are started.

    Example:
        >>> readers_needed(read_s=0.06, rest_s=0.02, tiles=10_000, cores=16)
        3
        >>> readers_needed(read_s=0.06, rest_s=0.02, tiles=50, cores=16)
        1
    """
    if rest_s <= 0 or read_s <= rest_s:
        return 1
    count = min(math.ceil(read_s / rest_s), cores)
    saved_s = tiles * (read_s - max(rest_s, read_s / count))
    return count if saved_s > count * _STARTING_S else 1
