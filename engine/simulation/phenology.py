"""The year of a plant: how much of the ground it covers, when it ripens, flowers and is cut.

A canopy closes around `rise`, thins out around `fall`, and what remains turns to straw until the field is worked.
Days are days of the year; sigmoids are wide enough that neighbouring parcels of one crop, some days apart, look alike.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .classes import Crop

__all__ = ["CALENDARS", "CROP_CANOPY", "TREES", "Calendar", "Season"]

_Days = NDArray[np.float64]


@dataclass(frozen=True)
class Season:
    """State of a canopy on given days, each [T] within 0 to 1.

    Attributes:
        cover: share of the ground that the canopy hides.
        dry: share of the canopy that is straw.
        bloom: share of the canopy that is flowers.
    """

    cover: _Days
    dry: _Days
    bloom: _Days


@dataclass(frozen=True)
class Calendar:
    """One plant's year.

    Attributes:
        rise: day at which half of the canopy has closed.
        fall: day at which half of it has dried.
        peak: cover at its fullest.
        base: cover outside the season.
        residue: share of the peak that stays as straw after `fall`.
        worked: days from `fall` until the straw is gone.
        bloom: day, width in days and strength of flowering.
        cuts: days at which it is mown.
        sown: day from which the next year's green stands in the field.
    """

    rise: float
    fall: float
    peak: float
    base: float = 0.04
    residue: float = 0.0
    worked: float = 45.0
    bloom: tuple[float, float, float] = (0.0, 1.0, 0.0)
    cuts: tuple[float, ...] = ()
    sown: float = 400.0

    def on(self, days: _Days, *, shift: float = 0.0, vigour: float = 1.0) -> Season:
        """Return the season on `days` of the year [T] of a stand `shift` days late and `vigour` times as dense."""
        day = np.asarray(days, np.float64) - shift
        green = self.base + (self.peak - self.base) * _sigmoid(day - self.rise, 7.0) * _sigmoid(self.fall - day, 6.0)
        green = np.maximum(green, 0.3 * _sigmoid(day - self.sown, 9.0))
        for cut in self.cuts:
            since = day - cut
            green *= np.where(since > 0, 1 - 0.62 * np.exp(-np.maximum(since, 0) / 16.0), 1.0)
        straw = self.peak * self.residue * _sigmoid(day - self.fall, 5.0) * _sigmoid(self.fall + self.worked - day, 6.0)
        centre, width, strength = self.bloom
        cover = np.clip((green + straw) * vigour, 0.0, 0.98)
        flowers = strength * np.exp(-0.5 * ((day - centre) / width) ** 2)
        return Season(cover=cover, dry=straw / (green + straw + 1e-9), bloom=flowers)


def _sigmoid(days: _Days, width: float) -> _Days:
    return 1.0 / (1.0 + np.exp(-np.clip(days / width, -40.0, 40.0)))


CALENDARS: dict[Crop, Calendar] = {
    Crop.GRASSES: Calendar(78, 330, 0.9, 0.55, cuts=(148, 215)),
    Crop.WHEAT: Calendar(82, 178, 0.93, 0.3, residue=0.75, worked=48, sown=318),
    Crop.BARLEY: Calendar(74, 160, 0.9, 0.32, residue=0.7, worked=45, sown=308),
    Crop.MAIZE: Calendar(167, 258, 0.94, residue=0.55, worked=35),
    Crop.OTHER_CEREALS: Calendar(92, 186, 0.85, 0.22, residue=0.7, worked=55, sown=322),
    Crop.RICE: Calendar(176, 250, 0.92, residue=0.6, worked=40),
    Crop.FLAX_HEMP_TOBACCO: Calendar(112, 184, 0.88, residue=0.55, worked=38, bloom=(160, 7, 0.25)),
    Crop.SUNFLOWER: Calendar(156, 226, 0.9, residue=0.45, worked=35, bloom=(190, 9, 0.4)),
    Crop.RAPESEED: Calendar(66, 164, 0.95, 0.5, residue=0.55, worked=30, bloom=(108, 11, 0.75), sown=262),
    Crop.OTHER_OILSEED: Calendar(128, 200, 0.86, residue=0.55, worked=30, bloom=(168, 8, 0.45)),
    Crop.SOY: Calendar(178, 255, 0.97, residue=0.4, worked=30),
    Crop.OTHER_PROTEIN_CROPS: Calendar(104, 172, 0.9, residue=0.5, worked=30, bloom=(142, 8, 0.25), sown=300),
    Crop.FODDER_LEGUMES: Calendar(74, 318, 0.96, 0.5, cuts=(130, 168, 206, 250)),
    Crop.BEETROOTS: Calendar(150, 305, 0.95),
    Crop.POTATOES: Calendar(144, 232, 0.94, residue=0.25, worked=30, bloom=(178, 8, 0.2)),
    Crop.OTHER_ARABLE: Calendar(120, 236, 0.75, 0.2, residue=0.35, worked=60),
    Crop.VINEYARD: Calendar(128, 292, 0.5, 0.1),
    Crop.OLIVE_GROVES: Calendar(60, 390, 0.5, 0.46),
    Crop.FRUIT_ORCHARDS: Calendar(98, 305, 0.75, 0.2, bloom=(92, 7, 0.6)),
    Crop.NUT_ORCHARDS: Calendar(124, 298, 0.72, 0.16),
    Crop.OTHER_PERMANENT_CROPS: Calendar(134, 222, 0.6, 0.3, bloom=(186, 11, 0.5)),
    Crop.MIXED_CROPS: Calendar(108, 204, 0.85, 0.2, residue=0.45, worked=50, sown=312),
    Crop.BACKGROUND: Calendar(80, 320, 0.75, 0.5),
}
"""The year of each crop in a season that is neither early nor late."""

CROP_CANOPY: dict[Crop, tuple[str, str]] = {
    Crop.GRASSES: ("grass", "pale flower"),
    Crop.WHEAT: ("cereal", "pale flower"),
    Crop.BARLEY: ("cereal", "pale flower"),
    Crop.MAIZE: ("maize", "pale flower"),
    Crop.OTHER_CEREALS: ("cereal", "pale flower"),
    Crop.RICE: ("paddy", "pale flower"),
    Crop.FLAX_HEMP_TOBACCO: ("legume", "pale flower"),
    Crop.SUNFLOWER: ("broad crop", "yellow flower"),
    Crop.RAPESEED: ("rape", "yellow flower"),
    Crop.OTHER_OILSEED: ("rape", "yellow flower"),
    Crop.SOY: ("legume", "pale flower"),
    Crop.OTHER_PROTEIN_CROPS: ("legume", "pale flower"),
    Crop.FODDER_LEGUMES: ("legume", "pale flower"),
    Crop.BEETROOTS: ("broad crop", "pale flower"),
    Crop.POTATOES: ("broad crop", "pale flower"),
    Crop.OTHER_ARABLE: ("grass", "pale flower"),
    Crop.VINEYARD: ("vine", "pale flower"),
    Crop.OLIVE_GROVES: ("olive", "pale flower"),
    Crop.FRUIT_ORCHARDS: ("poplar", "pale flower"),
    Crop.NUT_ORCHARDS: ("broadleaf", "pale flower"),
    Crop.OTHER_PERMANENT_CROPS: ("shrub", "pale flower"),
    Crop.MIXED_CROPS: ("cereal", "pale flower"),
    Crop.BACKGROUND: ("grass", "pale flower"),
}
"""Materials of each crop's leaves and flowers."""

TREES: dict[str, Calendar] = {
    "evergreen": Calendar(-200, 700, 0.93, 0.93),
    "deciduous": Calendar(112, 303, 0.93, 0.12),
    "scrub": Calendar(96, 318, 0.85, 0.5),
    "lifeless": Calendar(-200, 700, 0.12, 0.12),
}
"""The year of what is not sown; `lifeless` is the constant share of dirt or moss on a roof or road."""
