"""The surfaces that every place has, by name, and the drawing of one-off surfaces: fields, roofs, cars."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .classes import Cover, Crop
from .domain import Domain
from .phenology import CALENDARS, CROP_CANOPY, TREES, Calendar
from .surfaces import Surface, Surfaces

__all__ = ["Palette", "field_surface", "make_palette", "roof_surface"]

_GREEN, _TREE, _SCRUB, _EVER = CALENDARS[Crop.BACKGROUND], TREES["deciduous"], TREES["scrub"], TREES["evergreen"]

# Cover and dryness of a field in the aerial image: the same choice for every crop.
_LOOKS = ((0.92, 0.02), (0.8, 0.15), (0.62, 0.08), (0.9, 0.5), (0.92, 0.88), (0.85, 0.95), (0.6, 0.95), (0.35, 0.2))
_LOOK_WEIGHTS = (0.2, 0.14, 0.1, 0.1, 0.16, 0.14, 0.1, 0.06)
_PLOWED_SHARE = 0.13


@dataclass(frozen=True)
class Palette:
    """Numbers of the surfaces that every world shares; tuples are kinds to choose from."""

    lawn: int
    verge: int
    dry_grass: int
    asphalt: int
    concrete: int
    paint: int
    gravel: int
    ruts: int
    ruts_middle: int
    bale: int
    bare: int
    pale_bare: int
    water: int
    pond: int
    pool: int
    tunnel: int
    glass: int
    snow: int
    rock: int
    shrub: int
    hedge: int
    wood_floor: int
    pine_floor: int
    heath_floor: int
    garden_soil: int
    cars: tuple[int, ...]
    broadleaf: NDArray[np.int16]
    conifer: NDArray[np.int16]
    shrubs: NDArray[np.int16]


def make_palette(surfaces: Surfaces, domain: Domain, rng: np.random.Generator) -> Palette:
    """Add the shared surfaces of `domain` to `surfaces`."""
    light, warmth = domain.soil
    late = domain.season_days

    def ground(cover: Cover, floor: str, dirt: str = "dry grass", contrast: float = 0.1, bright: float = 1.0) -> int:
        return surfaces.add(Surface(cover, floor, dirt, contrast=contrast, brightness=bright))

    def plants(
        cover: Cover,
        leaves: str,
        calendar: Calendar,
        *,
        floor: str = "soil",
        contrast: float = 0.15,
        bright: float = 1.0,
    ) -> int:
        return surfaces.add(
            Surface(cover, floor, leaves, calendar=calendar, shift=late, contrast=contrast, brightness=bright)
        )

    herb, brush = Cover.HERBACEOUS_VEGETATION, Cover.BRUSHWOOD
    hard, soft, soil = Cover.IMPERVIOUS_SURFACE, Cover.PERVIOUS_SURFACE, Cover.BARE_SOIL
    return Palette(
        lawn=plants(herb, "grass", _GREEN, contrast=0.16),
        verge=plants(herb, "grass", _GREEN, floor="dry grass", contrast=0.45),
        dry_grass=plants(herb, "dry grass", _GREEN, floor="pale soil", contrast=0.3),
        asphalt=ground(hard, "asphalt", "gravel", bright=float(rng.uniform(0.85, 1.25))),
        concrete=ground(hard, "concrete", "asphalt", contrast=0.15, bright=float(rng.uniform(0.8, 1.05))),
        paint=ground(hard, "paint", "asphalt", contrast=0.3),
        gravel=ground(soft, "gravel", "soil", contrast=0.2),
        ruts=ground(soft, "gravel", "soil", contrast=0.35, bright=0.95 * light),
        ruts_middle=plants(soft, "grass", _GREEN, floor="gravel", contrast=0.4),
        bale=ground(Cover.AGRICULTURAL_LAND, "straw", "soil", contrast=0.2, bright=1.15),
        bare=surfaces.add(Surface(soil, "soil", "gravel", contrast=0.4, brightness=light, warmth=warmth)),
        pale_bare=surfaces.add(
            Surface(soil, "pale soil", "gravel", contrast=0.4, brightness=1.1 * light, warmth=warmth)
        ),
        water=ground(Cover.WATER, "green water", "water", contrast=0.5, bright=float(rng.uniform(0.9, 1.4))),
        pond=ground(Cover.WATER, "water", "green water", contrast=0.5, bright=float(rng.uniform(0.8, 1.3))),
        pool=ground(Cover.SWIMMING_POOL, "pool", "pool", contrast=0.2),
        tunnel=ground(Cover.GREENHOUSE, "plastic", "grass", contrast=0.15),
        glass=ground(Cover.GREENHOUSE, "glass", "plastic", contrast=0.3),
        snow=ground(Cover.SNOW, "snow", "gravel", contrast=0.1),
        rock=ground(soil, "gravel", "concrete", contrast=0.5, bright=1.1),
        shrub=plants(brush, "shrub", _SCRUB, floor="shade", contrast=0.35),
        hedge=plants(brush, "broadleaf", _SCRUB, floor="shade", contrast=0.35),
        wood_floor=plants(Cover.DECIDUOUS, "shrub", _SCRUB, floor="litter", contrast=0.2, bright=0.7),
        pine_floor=plants(Cover.CONIFEROUS, "shrub", _SCRUB, floor="litter", contrast=0.2, bright=0.7),
        heath_floor=plants(brush, "dry grass", _SCRUB, floor="dry grass", contrast=0.3),
        garden_soil=ground(herb, "dark soil", "grass", contrast=0.5),
        cars=tuple(
            ground(hard, material, "glass", bright=bright)
            for material, bright in (
                ("paint", 1.2),
                ("asphalt", 0.35),
                ("concrete", 0.8),
                ("tile", 0.8),
                ("slate", 1.3),
            )
        ),
        broadleaf=_kinds(
            surfaces,
            Cover.DECIDUOUS,
            _TREE,
            (("broadleaf", 1.0, late), ("poplar", 1.0, late + 4), ("oak", 1.1, late - 4), ("broadleaf", 1.2, late + 7)),
        ),
        conifer=_kinds(
            surfaces, Cover.CONIFEROUS, _EVER, (("needle", 1.0, 0), ("dark needle", 1.05, 0), ("needle", 1.2, 0))
        ),
        shrubs=_kinds(surfaces, brush, _SCRUB, (("shrub", 1.0, late), ("shrub", 0.8, late), ("oak", 1.1, late))),
    )


def _kinds(
    surfaces: Surfaces, cover: Cover, calendar: Calendar, kinds: tuple[tuple[str, float, float], ...]
) -> NDArray[np.int16]:
    floor = "litter" if calendar is _TREE else "shade"
    numbers = [
        surfaces.add(Surface(cover, floor, leaves, calendar=calendar, shift=shift, brightness=bright, contrast=0.3))
        for leaves, bright, shift in kinds
    ]
    return np.array(numbers, np.int16)


def field_surface(rng: np.random.Generator, domain: Domain, crop: Crop, cover: Cover | None = None) -> Surface:
    """Draw the surface of one parcel of `crop`; a field may have been plowed by the time the aircraft comes."""
    leaves, flower = CROP_CANOPY[crop]
    light, warmth = domain.soil
    plowed = cover is None and rng.random() < _PLOWED_SHARE
    look = None
    if cover is None:
        look = (0.03, 0.5) if plowed else _LOOKS[rng.choice(len(_LOOKS), p=_LOOK_WEIGHTS)]
        cover = Cover.PLOWED_LAND if plowed else Cover.AGRICULTURAL_LAND
    return Surface(
        cover,
        floor="dark soil" if plowed else "soil",
        canopy=leaves,
        flower=flower,
        calendar=CALENDARS[crop],
        shift=domain.season_days + float(rng.normal(0, 5)),
        vigour=float(rng.uniform(0.85, 1.08)),
        brightness=float(np.exp(rng.normal(0, 0.12))) * (0.5 + 0.5 * light),
        warmth=float(rng.normal(0.02 + 0.5 * warmth, 0.05)),
        look=look,
        contrast=0.3 if plowed else 0.22,
        facing=float(rng.uniform(0, np.pi)) if crop in (Crop.MAIZE, Crop.VINEYARD) else None,
    )


def roof_surface(rng: np.random.Generator, domain: Domain, angle: float, *, large: bool = False) -> Surface:
    """Draw the surface of one roof; large ones are flat or metal, and grey roofs are as grey as streets."""
    tile, slate, metal = domain.roofs
    weights = np.array(
        [0.1 * tile, 0.05, 0.5 * slate, 0.35, 0.8] if large else [tile, 0.35 * tile, slate, 0.14, 0.3 * metal]
    )
    material = ("tile", "old tile", "slate", "flat roof", "metal")[rng.choice(5, p=weights / weights.sum())]
    return Surface(
        Cover.BUILDING,
        floor=material,
        canopy="litter",
        vigour=float(rng.uniform(0.3, 1.8)),
        brightness=float(np.exp(rng.normal(-0.06, 0.2 if material != "metal" else 0.35))),
        warmth=float(rng.normal(0, 0.05)),
        contrast=0.1,
        facing=angle,
    )
