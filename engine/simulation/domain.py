"""Regions of the simulated country: what grows and stands there, on which ground, under which sky.

A scene belongs to one domain. Two domains differ in composition (fields, woods, roofs), in colour (soil, haze,
ripeness) and in season (spring comes later uphill), which is what makes a network's life hard on unseen places.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from types import MappingProxyType

from .classes import Crop

__all__ = ["DOMAINS", "Domain", "Use"]


class Use(IntEnum):
    """What a parcel outside a village is used for."""

    CROPS = 0
    VINEYARD = 1
    ORCHARD = 2
    MEADOW = 3
    WOOD = 4
    PINES = 5
    HEATH = 6
    QUARRY = 7
    GREENHOUSES = 8
    FARM = 9


@dataclass(frozen=True)
class Domain:
    """One region.

    Attributes:
        name: short name, also the scene's.
        origin_m: easting and northing (EPSG:2154) around which scenes lie.
        altitude_m: mean altitude.
        relief_m: standard deviation of the terrain within a few hundred metres.
        field_area_m2: usual area of a parcel outside villages.
        towns: chance that a block of 300 m holds a village.
        rivers: chance that a river crosses the scene.
        hedges: share of field borders that are hedges.
        conifers: share of conifers among the trees that stand alone.
        uses: weight of each use outside villages.
        crops: weight of each crop among fields.
        orchards: weight of each permanent crop among orchards.
        roofs: weights of tile, slate and metal.
        soil: brightness and redness of bare ground.
        season_days: by how many days the season is late.
        snow_days: about how many winter dates see snow.
        snow_patches: share of ground under lasting snow.
        haze: blueness and milkiness of the aerial image, 0 to 1.
    """

    name: str
    origin_m: tuple[int, int]
    altitude_m: float
    relief_m: float
    field_area_m2: float
    towns: float
    rivers: float
    hedges: float
    conifers: float
    uses: Mapping[Use, float]
    crops: Mapping[Crop, float]
    orchards: Mapping[Crop, float] = field(default_factory=lambda: MappingProxyType({Crop.FRUIT_ORCHARDS: 1.0}))
    roofs: tuple[float, float, float] = (0.6, 0.25, 0.15)
    soil: tuple[float, float] = (1.0, 0.0)
    season_days: float = 0.0
    snow_days: int = 1
    snow_patches: float = 0.0
    haze: float = 0.3


_CEREALS = {Crop.WHEAT: 5.0, Crop.BARLEY: 3.0, Crop.OTHER_CEREALS: 1.0}

_TABLE = (
    # Orchards, maize and sunflower on rolling hills: the mixture in which every class has a place.
    Domain(
        name="gascogne",
        origin_m=(497_000, 6_290_000),
        altitude_m=190.0,
        relief_m=7.0,
        field_area_m2=5500.0,
        towns=0.85,
        rivers=0.8,
        hedges=0.3,
        conifers=0.25,
        uses={
            Use.CROPS: 11,
            Use.VINEYARD: 2.5,
            Use.ORCHARD: 1.3,
            Use.MEADOW: 3.2,
            Use.WOOD: 2.6,
            Use.PINES: 1.2,
            Use.HEATH: 1.3,
            Use.QUARRY: 0.6,
            Use.GREENHOUSES: 0.5,
            Use.FARM: 0.8,
        },
        crops={
            **_CEREALS,
            Crop.MAIZE: 4,
            Crop.SUNFLOWER: 4,
            Crop.RAPESEED: 2,
            Crop.SOY: 2,
            Crop.OTHER_PROTEIN_CROPS: 1,
            Crop.FODDER_LEGUMES: 1.2,
            Crop.OTHER_OILSEED: 0.3,
            Crop.MIXED_CROPS: 0.4,
            Crop.OTHER_ARABLE: 0.5,
        },
        orchards={Crop.FRUIT_ORCHARDS: 3, Crop.NUT_ORCHARDS: 1.5, Crop.OTHER_PERMANENT_CROPS: 0.4},
        roofs=(0.72, 0.12, 0.16),
        soil=(1.0, 0.04),
    ),
    # Wide open fields on the plain.
    Domain(
        name="beauce",
        origin_m=(601_000, 6_790_000),
        altitude_m=135.0,
        relief_m=2.0,
        field_area_m2=14000.0,
        towns=0.5,
        rivers=0.25,
        hedges=0.05,
        conifers=0.2,
        uses={
            Use.CROPS: 20,
            Use.MEADOW: 1.2,
            Use.WOOD: 2.0,
            Use.PINES: 0.6,
            Use.HEATH: 0.7,
            Use.QUARRY: 0.5,
            Use.FARM: 1.2,
            Use.GREENHOUSES: 0.3,
        },
        crops={
            **_CEREALS,
            Crop.RAPESEED: 3.5,
            Crop.BEETROOTS: 2.2,
            Crop.POTATOES: 1.8,
            Crop.MAIZE: 2,
            Crop.FLAX_HEMP_TOBACCO: 1.2,
            Crop.OTHER_PROTEIN_CROPS: 1.4,
            Crop.SUNFLOWER: 0.6,
            Crop.OTHER_OILSEED: 0.5,
            Crop.MIXED_CROPS: 0.3,
        },
        roofs=(0.35, 0.45, 0.2),
        soil=(1.12, -0.02),
        season_days=6.0,
        haze=0.45,
    ),
    # Small meadows behind hedges.
    Domain(
        name="perche",
        origin_m=(523_000, 6_820_000),
        altitude_m=205.0,
        relief_m=6.0,
        field_area_m2=4800.0,
        towns=0.55,
        rivers=0.7,
        hedges=0.65,
        conifers=0.2,
        uses={
            Use.CROPS: 6,
            Use.ORCHARD: 0.9,
            Use.MEADOW: 9,
            Use.WOOD: 3.2,
            Use.PINES: 0.9,
            Use.HEATH: 0.9,
            Use.QUARRY: 0.3,
            Use.FARM: 1.2,
            Use.GREENHOUSES: 0.3,
        },
        crops={
            **_CEREALS,
            Crop.MAIZE: 5,
            Crop.RAPESEED: 1.5,
            Crop.FODDER_LEGUMES: 1,
            Crop.MIXED_CROPS: 0.8,
            Crop.FLAX_HEMP_TOBACCO: 0.4,
            Crop.BEETROOTS: 0.4,
        },
        orchards={Crop.FRUIT_ORCHARDS: 1},
        roofs=(0.3, 0.55, 0.15),
        soil=(0.88, -0.01),
        season_days=8.0,
        haze=0.5,
    ),
    # Vines, olives, scrub and pines in strong light.
    Domain(
        name="languedoc",
        origin_m=(745_000, 6_265_000),
        altitude_m=85.0,
        relief_m=9.0,
        field_area_m2=4200.0,
        towns=0.75,
        rivers=0.5,
        hedges=0.15,
        conifers=0.6,
        uses={
            Use.CROPS: 3.2,
            Use.VINEYARD: 8,
            Use.ORCHARD: 2.2,
            Use.MEADOW: 1.6,
            Use.WOOD: 1.3,
            Use.PINES: 2.2,
            Use.HEATH: 4.5,
            Use.QUARRY: 1.0,
            Use.GREENHOUSES: 0.7,
            Use.FARM: 0.4,
        },
        crops={
            Crop.WHEAT: 4,
            Crop.BARLEY: 1.5,
            Crop.SUNFLOWER: 2,
            Crop.RICE: 1.6,
            Crop.OTHER_ARABLE: 1.2,
            Crop.FODDER_LEGUMES: 1,
            Crop.OTHER_CEREALS: 0.8,
            Crop.POTATOES: 0.3,
            Crop.RAPESEED: 0.5,
        },
        orchards={
            Crop.OLIVE_GROVES: 3,
            Crop.FRUIT_ORCHARDS: 1.5,
            Crop.NUT_ORCHARDS: 0.6,
            Crop.OTHER_PERMANENT_CROPS: 1.2,
        },
        roofs=(0.88, 0.02, 0.1),
        soil=(1.3, 0.06),
        season_days=-14.0,
        snow_days=0,
        haze=0.15,
    ),
    # Meadows and conifers on slopes, snow lying here and there.
    Domain(
        name="vercors",
        origin_m=(897_000, 6_440_000),
        altitude_m=1080.0,
        relief_m=28.0,
        field_area_m2=6500.0,
        towns=0.4,
        rivers=0.6,
        hedges=0.15,
        conifers=0.75,
        uses={
            Use.CROPS: 2.2,
            Use.MEADOW: 8,
            Use.WOOD: 3,
            Use.PINES: 6,
            Use.HEATH: 3,
            Use.QUARRY: 1.5,
            Use.FARM: 0.7,
            Use.ORCHARD: 0.3,
        },
        crops={**_CEREALS, Crop.MAIZE: 1, Crop.FODDER_LEGUMES: 2, Crop.POTATOES: 0.6, Crop.MIXED_CROPS: 0.6},
        orchards={Crop.NUT_ORCHARDS: 2, Crop.OTHER_PERMANENT_CROPS: 1},
        roofs=(0.35, 0.35, 0.3),
        soil=(1.1, -0.03),
        season_days=20.0,
        snow_days=9,
        snow_patches=0.02,
        haze=0.25,
    ),
)

DOMAINS: Mapping[str, Domain] = MappingProxyType({domain.name: domain for domain in _TABLE})
"""The regions by name, written for variety rather than after real statistics of the places they are named for."""
