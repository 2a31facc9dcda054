"""The canvas of the world: four rasters that objects are painted into, one upon the other."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .noise import Floats, Grid
from .surfaces import Surfaces

__all__ = ["Canvas", "Window"]


@dataclass(frozen=True)
class Window:
    """The part of a canvas around one object, with coordinates in the object's own frame.

    Attributes:
        rows: rows of the canvas.
        columns: columns of the canvas.
        along: metres along the object's axis, float32 [Y, X].
        across: metres across it.
    """

    rows: slice
    columns: slice
    along: Floats
    across: Floats


class Canvas:
    """What stands where.

    Attributes:
        grid: the pixels.
        surfaces: the surfaces that `entity` numbers.
        entity: number of the surface of each pixel, int16 [Y, X].
        height: metres above ground, float32 [Y, X].
        pattern: texture of mean 0 that opens and closes the canopy, float32 [Y, X].
        tint: factor on brightness, float32 [Y, X].
    """

    def __init__(self, grid: Grid, surfaces: Surfaces, entity: NDArray[np.int16]) -> None:
        self.grid = grid
        self.surfaces = surfaces
        self.entity = entity
        self.height = np.zeros(grid.shape_yx, np.float32)
        self.pattern = np.zeros(grid.shape_yx, np.float32)
        self.tint = np.ones(grid.shape_yx, np.float32)

    def window(self, centre_xy: tuple[float, float], radius_m: float, angle: float = 0.0) -> Window | None:
        """Return the pixels within `radius_m` (a square) of `centre_xy`, or None where the canvas has none."""
        gsd, (height, width) = self.grid.gsd_m, self.grid.shape_yx
        x, y = centre_xy
        left, right = max(0, int((x - radius_m) / gsd)), min(width, int((x + radius_m) / gsd) + 1)
        top, bottom = max(0, int((y - radius_m) / gsd)), min(height, int((y + radius_m) / gsd) + 1)
        if right <= left or bottom <= top:
            return None
        dx = ((np.arange(left, right) + 0.5) * gsd - x).astype(np.float32)[None, :]
        dy = ((np.arange(top, bottom) + 0.5) * gsd - y).astype(np.float32)[:, None]
        cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
        return Window(slice(top, bottom), slice(left, right), dx * cos + dy * sin, dy * cos - dx * sin)

    def paint(
        self,
        window: Window,
        mask: NDArray[np.bool_],
        surface: int,
        *,
        height: Floats | float = 0.0,
        tint: Floats | float = 1.0,
    ) -> None:
        """Cover the masked pixels of `window` with `surface`."""
        area = window.rows, window.columns
        self.entity[area][mask] = surface
        np.copyto(self.height[area], np.float32(height), where=mask)
        np.copyto(self.tint[area], np.float32(tint), where=mask)
        np.copyto(self.pattern[area], np.float32(0), where=mask)
