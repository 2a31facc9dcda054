"""The ground while it is being furnished: the canvas together with the parcels it is divided into."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from .canvas import Canvas, Window
from .classes import Crop
from .domain import Domain, Use
from .noise import Floats
from .palette import Palette
from .parcels import Border, Division

__all__ = ["Ground", "Parcel", "Place"]


@dataclass
class Parcel:
    """One parcel and what it is used for.

    Attributes:
        number: its number in the division.
        use: what it is used for; None in a village.
        surface: number of the surface of its ground.
        trees: number of the surface of an orchard's trees.
        crop: its crop in the land parcel register.
        angle: direction of its rows in radians.
        area_m2: its area.
        row_m: spacing of its rows, 0 where it has none.
        rows: strength of the rows' pattern.
        tram_m: spacing of the tramlines, 0 where it has none.
    """

    number: int
    use: Use | None
    surface: int
    crop: Crop
    angle: float
    area_m2: float
    row_m: float = 0.0
    rows: float = 0.0
    tram_m: float = 0.0
    trees: int = 0


@dataclass(frozen=True)
class Place:
    """Room within a parcel: a point (x, y), and the distance in metres to the nearest border."""

    x: float
    y: float
    room_m: float


@dataclass
class Ground:
    """The canvas, the parcels, and where each of them is.

    Attributes:
        canvas: what is painted on.
        palette: the surfaces that every place has.
        domain: the region.
        division: the tree of cuts.
        number: number of the parcel of each pixel, int16 [Y, X].
        border_m: distance to the nearest border strip, negative within it, float32 [Y, X].
        cut: the cut which that strip follows, int16 [Y, X].
        bank_m: distance to the river, negative in it, float32 [Y, X].
        y, x: warped coordinates in metres, float32 [Y, X].
        modern: false for the world of the old photograph.
        parcels: by number.
    """

    canvas: Canvas
    palette: Palette
    domain: Domain
    division: Division
    number: NDArray[np.int16]
    border_m: Floats
    cut: NDArray[np.int16]
    bank_m: Floats
    y: Floats
    x: Floats
    modern: bool
    parcels: list[Parcel] = field(default_factory=list)

    def within(self, parcel: Parcel, inset_m: float) -> Callable[[Window], NDArray[np.bool_]]:
        """Return the question of where in a window `parcel` is, `inset_m` inside its borders."""

        def inside(window: Window) -> NDArray[np.bool_]:
            area = window.rows, window.columns
            free = (self.border_m[area] > inset_m) & (self.bank_m[area] > inset_m)
            own: NDArray[np.bool_] = free & (self.number[area] == parcel.number)
            return own

        return inside

    def keep(self, points_xy: Floats, parcel: Parcel, *, inset_m: float) -> Floats:
        """Keep those of the points (x, y) [N, 2] that lie in `parcel`, `inset_m` inside its borders."""
        column, row = np.floor(points_xy / self.canvas.grid.gsd_m).astype(int).T
        height, width = self.number.shape
        inside = (row >= 0) & (column >= 0) & (row < height) & (column < width)
        row, column = np.clip(row, 0, height - 1), np.clip(column, 0, width - 1)
        room = np.minimum(self.border_m[row, column], self.bank_m[row, column])
        kept: Floats = points_xy[inside & (self.number[row, column] == parcel.number) & (room > inset_m)]
        return kept

    def used(self, *uses: Use) -> NDArray[np.bool_]:
        """Return where parcels of the given uses are, borders left out, bool [Y, X]."""
        chosen = np.array([parcel.use in uses for parcel in self.parcels])
        return chosen[self.number] & (self.border_m > 0) & (self.bank_m > 0)

    def way_out(self, place: Place, angle: float) -> tuple[float, float]:
        """Return direction and distance of the shortest straight way to a lane, or failing that to another border.

        The way leads along or across `angle`, in radians; the distance is in metres.
        """
        best = (np.inf, angle, 1.0)
        steps = np.arange(0.0, 60.0, 0.4)
        for direction in (angle + k * np.pi / 2 for k in range(4)):
            x, y = place.x + steps * np.cos(direction), place.y + steps * np.sin(direction)
            rows, columns = (np.floor(v / self.canvas.grid.gsd_m).astype(int) for v in (y, x))
            rows, columns = (np.clip(v, 0, n - 1) for v, n in zip((rows, columns), self.number.shape, strict=True))
            outside = np.flatnonzero(self.border_m[rows, columns] < 0)
            if not len(outside):
                continue
            first = outside[0]
            border = self.division.border[self.cut[rows[first], columns[first]]]
            detour = 0.0 if border >= Border.LANE else 25.0 if border == Border.TRACK else 60.0
            best = min(best, (steps[first] + detour, direction, float(steps[first])))
        return best[1], best[2]

    def places(self) -> list[Place]:
        """Return the roomiest point of each parcel, found on every eighth row and column."""
        thin = slice(4, None, 8)
        number, room = self.number[thin, thin].ravel(), np.minimum(self.border_m, self.bank_m)[thin, thin].ravel()
        order = np.lexsort((room, number))
        last = np.r_[np.flatnonzero(np.diff(number[order])), order.size - 1]
        gsd, width = self.canvas.grid.gsd_m, self.number[thin, thin].shape[1]
        places = [Place(0.0, 0.0, -1.0)] * len(self.parcels)
        for at in order[last]:
            row, column = divmod(int(at), width)
            places[number[at]] = Place((column * 8 + 4.5) * gsd, (row * 8 + 4.5) * gsd, float(room[at]))
        return places
