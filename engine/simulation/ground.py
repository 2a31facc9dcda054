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
from .parcels import Division

__all__ = ["Ground", "Parcel", "Place"]


@dataclass
class Parcel:
    """One parcel and what it is used for.

    Attributes:
        number: its number in the division.
        use: what it is used for; None in a village.
        surface: number of its surface.
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
            return free & (self.number[area] == parcel.number)

        return inside

    def used(self, *uses: Use) -> NDArray[np.bool_]:
        """Return where parcels of the given uses are, borders left out, bool [Y, X]."""
        chosen = np.array([parcel.use in uses for parcel in self.parcels])
        return chosen[self.number] & (self.border_m > 0) & (self.bank_m > 0)

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
