"""Surfaces: what one parcel, roof or kind of tree is made of, and how it reflects on a given day.

Every pixel of the world names one surface. A surface is a floor partly hidden by a canopy; the calendar says how much
on which day. All sensors look at the same surfaces, each with its own pixels, bands and days.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .classes import Cover
from .materials import BLUE, OPTICAL, RED, spectrum
from .noise import Floats
from .phenology import TREES, Calendar, Season

__all__ = ["Surface", "Surfaces"]


@dataclass(frozen=True)
class Surface:
    """One kind of ground, plant or roof.

    Attributes:
        cover: its land cover.
        floor: material of the ground.
        canopy: material of the leaves above it, or of the dirt upon it.
        flower: material of the flowers.
        calendar: the canopy's year.
        shift: days by which this stand is late.
        vigour: factor on the canopy's share.
        brightness: factor on all reflectances.
        warmth: share by which red gains and blue loses.
        look: cover and dryness of the canopy in the aerial image, where they do not follow the calendar.
        contrast: how far the texture opens and closes the canopy, as a share of the ground.
        facing: direction of walls in radians, where there are any, which radar sees.
    """

    cover: Cover
    floor: str
    canopy: str
    flower: str = "pale flower"
    calendar: Calendar = TREES["lifeless"]
    shift: float = 0.0
    vigour: float = 1.0
    brightness: float = 1.0
    warmth: float = 0.0
    look: tuple[float, float] | None = None
    contrast: float = 0.12
    facing: float | None = None

    def season(self, days: NDArray[np.float64]) -> Season:
        """Return the state of the canopy on `days` of the year [T]."""
        return self.calendar.on(days, shift=self.shift, vigour=self.vigour)

    def aerial_season(self, day: float) -> Season:
        """Return the state [1] that the aerial camera meets on `day`.

        Sowing, mowing and irrigation make fields of one crop differ on a single date more than two crops do, so a
        field's `look` outweighs its calendar.
        """
        season = self.season(np.array([day]))
        if self.look is None:
            return season
        cover, dry = self.look
        return Season(0.2 * season.cover + 0.8 * cover, 0.2 * season.dry + 0.8 * dry, 0.1 * season.bloom)

    def floor_spectrum(self) -> Floats:
        """Return the ground's twelve values."""
        return self._toned(spectrum(self.floor))

    def canopy_spectra(self, season: Season) -> Floats:
        """Return the canopy's values float32 [T, 12] in the state `season`."""
        dry, bloom = (a[:, None].astype(np.float32) for a in (season.dry, season.bloom * (1 - season.dry)))
        leaves = (1 - dry - bloom) * spectrum(self.canopy) + dry * spectrum("straw") + bloom * spectrum(self.flower)
        return self._toned(leaves)

    def _toned(self, values: Floats) -> Floats:
        values[..., OPTICAL] *= self.brightness
        values[..., RED] *= 1 + self.warmth
        values[..., BLUE] *= 1 - self.warmth
        return values


class Surfaces:
    """All surfaces of one world, numbered from 0."""

    def __init__(self) -> None:
        self._all: list[Surface] = []

    def __len__(self) -> int:
        return len(self._all)

    def __getitem__(self, number: int) -> Surface:
        return self._all[number]

    def add(self, surface: Surface) -> int:
        """Append `surface` and return its number."""
        self._all.append(surface)
        return len(self._all) - 1

    def covers(self) -> NDArray[np.uint8]:
        """Return the land cover of each surface, uint8 [N]."""
        return np.array([surface.cover for surface in self._all], np.uint8)

    def contrasts(self) -> Floats:
        """Return the contrast of each surface, float32 [N]."""
        return np.array([surface.contrast for surface in self._all], np.float32)

    def aerial(self, day: float) -> tuple[Floats, Floats, Floats]:
        """Return floor [N, 12], canopy [N, 12] and the canopy's share [N] as the aerial camera meets them on `day`."""
        seasons = [surface.aerial_season(day) for surface in self._all]
        floor = np.stack([surface.floor_spectrum() for surface in self._all])
        canopy = [surface.canopy_spectra(season)[0] for surface, season in zip(self._all, seasons, strict=True)]
        return floor, np.stack(canopy), np.array([season.cover[0] for season in seasons], np.float32)

    def series(self, days: NDArray[np.float64]) -> Floats:
        """Return the mean values of each surface on `days` of the year [T]: float32 [N, T, 12]."""
        values = np.empty((len(self), len(days), 12), np.float32)
        for number, surface in enumerate(self._all):
            season = surface.season(days)
            share = season.cover[:, None].astype(np.float32)
            values[number] = (1 - share) * surface.floor_spectrum() + share * surface.canopy_spectra(season)
        return values

    def facing(self) -> Floats:
        """Return the direction of each surface's walls, NaN where there are none, float32 [N]."""
        return np.array([np.nan if s.facing is None else s.facing for s in self._all], np.float32)
