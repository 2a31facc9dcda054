"""The classes of both tasks by name, so that no other file of the simulation speaks in bare numbers."""

from __future__ import annotations

from enum import IntEnum

__all__ = ["UNLABELLED", "Cover", "Crop"]

UNLABELLED = 255
"""Value of both label rasters where the scene is void."""


class Cover(IntEnum):
    """Land cover, the task `AERIAL_LABEL-COSIA`; classes 15 to 18 are never drawn, training ignores them."""

    BUILDING = 0
    GREENHOUSE = 1
    SWIMMING_POOL = 2
    IMPERVIOUS_SURFACE = 3
    PERVIOUS_SURFACE = 4
    BARE_SOIL = 5
    WATER = 6
    SNOW = 7
    HERBACEOUS_VEGETATION = 8
    AGRICULTURAL_LAND = 9
    PLOWED_LAND = 10
    VINEYARD = 11
    DECIDUOUS = 12
    CONIFEROUS = 13
    BRUSHWOOD = 14


class Crop(IntEnum):
    """Crops at level 1 of the land parcel register, the task `ALL_LABEL-LPIS`."""

    GRASSES = 0
    WHEAT = 1
    BARLEY = 2
    MAIZE = 3
    OTHER_CEREALS = 4
    RICE = 5
    FLAX_HEMP_TOBACCO = 6
    SUNFLOWER = 7
    RAPESEED = 8
    OTHER_OILSEED = 9
    SOY = 10
    OTHER_PROTEIN_CROPS = 11
    FODDER_LEGUMES = 12
    BEETROOTS = 13
    POTATOES = 14
    OTHER_ARABLE = 15
    VINEYARD = 16
    OLIVE_GROVES = 17
    FRUIT_ORCHARDS = 18
    NUT_ORCHARDS = 19
    OTHER_PERMANENT_CROPS = 20
    MIXED_CROPS = 21
    BACKGROUND = 22
