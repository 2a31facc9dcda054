"""The landscape: from a site to a world in which every pixel has a surface, a height and a texture.

Order matters, later things lie on earlier ones: parcels, river, roads, furniture of each parcel, trees, textures.
The past of a place is built by the same hands from the same hills, river and main roads, with smaller parcels, fewer
houses and other crops.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from . import countryside, village
from .canvas import Canvas
from .classes import Cover, Crop
from .domain import Domain, Use
from .ground import Ground, Parcel, Place
from .noise import Floats, Grid, stream
from .palette import Palette, field_surface, make_palette
from .parcels import Border, Division, divide
from .phenology import CALENDARS, CROP_CANOPY
from .site import Site
from .surfaces import Surface, Surfaces
from .texture import weave

__all__ = ["Landscape", "build"]

_CROPPED = (Use.CROPS, Use.VINEYARD, Use.ORCHARD, Use.MEADOW)


@dataclass(frozen=True)
class Landscape:
    """A finished world.

    Attributes:
        grid: its pixels.
        surfaces: what `entity` numbers.
        entity: number of the surface of each pixel, int16 [Y, X].
        terrain: altitude of the ground in metres, float32 [Y, X].
        height: metres above ground, float32 [Y, X].
        pattern: texture of mean 0 that opens and closes canopies, float32 [Y, X].
        tint: factor on brightness, float32 [Y, X].
        crop: crop label, uint8 [Y, X].
    """

    grid: Grid
    surfaces: Surfaces
    entity: NDArray[np.int16]
    terrain: Floats
    height: Floats
    pattern: Floats
    tint: Floats
    crop: NDArray[np.uint8]

    @property
    def cover(self) -> NDArray[np.uint8]:
        """Land cover label, uint8 [Y, X]."""
        return self.surfaces.covers()[self.entity]


def build(site: Site, grid: Grid, *, modern: bool = True) -> Landscape:
    """Build the world of `site` on `grid`; with `modern` false, the one that an old photograph shows."""
    rng = stream(site.seed, "modern" if modern else "past")
    division = _divide(site, grid, rng, modern=modern)
    surfaces = Surfaces()
    palette = make_palette(surfaces, site.domain, rng)
    bank = site.bank_distance(grid)
    y, x = site.warped_axes(grid)
    number, border_m, cut = division.locate(y, x)
    parcels = [_parcel(rng, site.domain, division, palette, surfaces, k, modern) for k in range(len(division.area_m2))]
    floor = np.array([parcel.surface for parcel in parcels], np.int16)
    canvas = Canvas(grid, surfaces, floor[number])
    ground = Ground(
        canvas, palette, site.domain, division, number, border_m, cut, bank, y, x, modern=modern, parcels=parcels
    )
    weave(ground, rng)
    _borders(ground)
    _furnish(ground, rng)
    return Landscape(
        grid=grid,
        surfaces=surfaces,
        entity=canvas.entity,
        terrain=site.terrain(grid, bank),
        height=canvas.height,
        pattern=canvas.pattern,
        tint=canvas.tint,
        crop=_crop_label(ground),
    )


def _divide(site: Site, grid: Grid, rng: np.random.Generator, *, modern: bool) -> Division:
    # Fields were merged and villages grew: an old parcel is smaller, an old village plot larger.
    return divide(
        grid.extent_yx_m,
        skeleton=stream(site.seed, "skeleton"),
        detail=rng,
        town=site.town,
        field_area_m2=site.domain.field_area_m2 * (1.0 if modern else 0.4),
        plot_area_m2=float(rng.uniform(550, 950)) * (1.0 if modern else 2.5),
        hedges=site.domain.hedges if modern else min(1.0, site.domain.hedges * 1.7 + 0.1),
    )


def _parcel(
    rng: np.random.Generator,
    domain: Domain,
    division: Division,
    palette: Palette,
    surfaces: Surfaces,
    number: int,
    modern: bool,
) -> Parcel:
    angle, area = float(division.angle[number]), float(division.area_m2[number])
    if division.town[number] > 0.5:
        surface = palette.asphalt if modern and rng.random() < 0.07 else palette.lawn
        return Parcel(number, None, surface, Crop.BACKGROUND, angle, area)
    weights = np.array([domain.uses.get(use, 0.0) for use in Use])
    if area < 900:
        weights[[Use.QUARRY, Use.FARM, Use.GREENHOUSES]] = 0
    if not modern:
        weights[Use.GREENHOUSES] = 0
        weights[Use.FARM] *= 0.3  # parcels were smaller: as many farms on more of them
    use = Use(int(rng.choice(len(weights), p=weights / weights.sum())))
    crop = Crop.BACKGROUND
    if use is Use.CROPS:
        crop = _pick(rng, domain.crops)
    elif use is Use.ORCHARD:
        crop = _pick(rng, domain.orchards)
    elif use is Use.VINEYARD:
        crop = Crop.VINEYARD
    elif use is Use.MEADOW:
        crop = Crop.GRASSES
    parcel = Parcel(number, use, 0, crop, angle, area)
    _dress(rng, domain, palette, surfaces, parcel)
    return parcel


def _pick(rng: np.random.Generator, weights: Mapping[Crop, float]) -> Crop:
    shares = np.array(list(weights.values()))
    return list(weights)[int(rng.choice(len(shares), p=shares / shares.sum()))]


def _dress(rng: np.random.Generator, domain: Domain, palette: Palette, surfaces: Surfaces, parcel: Parcel) -> None:
    """Give a parcel outside villages its surface and its rows."""
    use, crop = parcel.use, parcel.crop
    if use is Use.CROPS:
        parcel.surface = surfaces.add(field_surface(rng, domain, crop))
        parcel.row_m, parcel.rows = float(rng.choice([0.0, 0.0, 0.75, 1.1])), 0.6
        parcel.tram_m = float(rng.choice([0.0, 18.0, 24.0, 28.0]))
    elif use is Use.VINEYARD:
        parcel.surface = surfaces.add(field_surface(rng, domain, crop, Cover.VINEYARD))
        parcel.row_m, parcel.rows = float(rng.uniform(1.8, 2.6)), 2.2
    elif use is Use.MEADOW:
        parcel.surface = surfaces.add(field_surface(rng, domain, crop, Cover.HERBACEOUS_VEGETATION))
        parcel.row_m, parcel.rows = float(rng.choice([0.0, 0.0, 6.0, 9.0])), 0.35
    elif use is Use.ORCHARD:
        leaves, flower = CROP_CANOPY[crop]
        parcel.surface = surfaces.add(field_surface(rng, domain, Crop.GRASSES, Cover.HERBACEOUS_VEGETATION))
        parcel.trees = surfaces.add(
            Surface(Cover.DECIDUOUS, "dry grass", leaves, flower, CALENDARS[crop], vigour=1.25, contrast=0.3)
        )
    else:
        assert use is not None
        parcel.surface = {
            Use.WOOD: palette.wood_floor,
            Use.PINES: palette.pine_floor,
            Use.HEATH: palette.dry_grass,
            Use.QUARRY: palette.bare,
            Use.GREENHOUSES: palette.gravel,
            Use.FARM: palette.lawn,
        }[use]


def _borders(ground: Ground) -> None:
    """Lay the river, then everything that runs along a cut: bridges cross, tracks and hedges end at the bank."""
    canvas, palette = ground.canvas, ground.palette
    kind = ground.division.border[ground.cut]
    on_strip, wet = ground.border_m < 0, ground.bank_m < 0
    canvas.entity[wet] = palette.water
    road = on_strip & (kind >= Border.LANE)
    canvas.height[wet & road] = 1.8
    canvas.entity[road] = palette.asphalt if ground.modern else palette.gravel
    shoulder = (kind >= Border.LANE) & (ground.border_m > 0) & (ground.border_m < 1.3) & ~wet
    canvas.entity[shoulder] = palette.verge
    strip = on_strip & ~wet
    canvas.entity[strip & ((kind == Border.MARGIN) | (kind == Border.FENCE) | (kind == Border.HEDGE))] = palette.verge
    canvas.entity[strip & (kind == Border.TRACK)] = palette.ruts
    canvas.pattern[on_strip | shoulder] *= 0.3
    centre = ground.border_m + ground.division.half_width[ground.cut]
    grassy = strip & (kind == Border.TRACK) & (centre < 0.35)
    canvas.entity[grassy] = palette.ruts_middle
    if ground.modern:
        dashes = np.mod(ground.division.along(ground.cut, ground.y, ground.x), 6.0) < 3.0
        canvas.entity[road & (kind == Border.ROAD) & (centre < 0.13) & dashes] = palette.paint
    canvas.tint[wet] = 1.0
    canvas.tint[road] = 1 + 0.15 * (canvas.tint[road] - 1) + 0.06 * np.cos(centre[road] * np.float32(2 * np.pi / 1.6))


def _furnish(ground: Ground, rng: np.random.Generator) -> None:
    countryside.quarries(ground, rng)
    countryside.scrub(ground, rng)
    countryside.riverside(ground, rng)
    countryside.snowfields(ground, rng)
    for parcel, place in zip(ground.parcels, ground.places(), strict=True):
        if place.room_m > 2:
            _furnish_parcel(ground, rng, parcel, place)
    countryside.woods(ground, rng)
    countryside.hedgerows(ground, rng)
    countryside.stray_trees(ground, rng)


def _furnish_parcel(ground: Ground, rng: np.random.Generator, parcel: Parcel, place: Place) -> None:
    if parcel.use is None:
        if parcel.surface == ground.palette.asphalt:
            village.car_park(ground, rng, parcel, place)
        elif rng.random() < (0.9 if ground.modern else 0.3):
            village.house_plot(ground, rng, parcel, place)
    elif parcel.use is Use.FARM:
        village.farm(ground, rng, parcel, place)
    elif parcel.use is Use.CROPS:
        if rng.random() < 0.35:
            countryside.bales(ground, rng, parcel, place)
    elif parcel.use is Use.ORCHARD:
        countryside.orchard(ground, rng, parcel, place)
    elif parcel.use is Use.GREENHOUSES:
        countryside.greenhouses(ground, rng, parcel, place)
    elif parcel.use is Use.MEADOW and place.room_m > 14 and rng.random() < 0.2:
        countryside.pond(ground, rng, parcel, place)


def _crop_label(ground: Ground) -> NDArray[np.uint8]:
    """Return the land parcel register: whole parcels without their borders, background elsewhere."""
    crops = np.array([p.crop if p.use in _CROPPED else Crop.BACKGROUND for p in ground.parcels], np.uint8)
    label = crops[ground.number]
    label[(ground.border_m < 0) | (ground.bank_m < 1)] = Crop.BACKGROUND
    water = np.isin(ground.canvas.entity, (ground.palette.pond, ground.palette.water))
    label[water] = Crop.BACKGROUND
    return label
