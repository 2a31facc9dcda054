"""Houses with gardens, pools and sheds; farms with barns; shops with cars in front."""

from __future__ import annotations

import numpy as np

from .buildings import Box, Frame, block, roof
from .ground import Ground, Parcel, Place
from .palette import roof_surface
from .trees import Crown, plant

__all__ = ["car_park", "farm", "house_plot"]


def house_plot(ground: Ground, rng: np.random.Generator, parcel: Parcel, place: Place) -> None:
    """Furnish a plot with a house and what belongs to it; the drive leads to the lane."""
    if place.room_m < 4.0:
        return
    way, reach = ground.way_out(place, parcel.angle)
    width = float(np.clip(rng.uniform(7.0, 10.0), 5.0, 1.15 * place.room_m))
    length = float(np.clip(width * rng.uniform(1.15, 1.9), width, 1.9 * place.room_m))
    aside = rng.uniform(-0.25, 0.25) * place.room_m
    # Across the frame, positive is towards the lane.
    frame = Frame(*Frame(place.x, place.y, way - np.pi / 2).point(0.0, aside), way - np.pi / 2)
    _pave(ground, rng, parcel, frame, length, width, reach - aside)
    if place.room_m > 9 and rng.random() < 0.5:
        _pool(ground, rng, parcel, frame, width)
    if rng.random() < 0.35:
        beds = frame.box(length / 2 + 5, 0, 6.0, 5.0)
        block(ground.canvas, beds, ground.palette.garden_soil, allowed=ground.within(parcel, 0.6))
    _house(ground, rng, frame, length, width, shed=place.room_m > 8)
    if rng.random() < 0.7:
        _car(ground, rng, parcel, frame.box(rng.uniform(-3, 3), width / 2 + 3.2, 4.2, 1.8))
    _garden_trees(ground, rng, parcel, place)


def _pave(
    ground: Ground, rng: np.random.Generator, parcel: Parcel, frame: Frame, length: float, width: float, reach: float
) -> None:
    """Lay the drive, the forecourt and the terrace."""
    canvas, palette, allowed = ground.canvas, ground.palette, ground.within(parcel, 0.0)
    drive = palette.gravel if rng.random() < 0.55 else palette.concrete if rng.random() < 0.5 else palette.asphalt
    terrace = palette.concrete if rng.random() < 0.6 else palette.gravel
    block(canvas, frame.box(0.3 * length, reach / 2, reach + 6, 3.2, turned=True), drive, allowed=allowed)
    forecourt = frame.box(0.0, width / 2 + 2, 0.8 * length, 5.0)
    block(canvas, forecourt, drive, rounding_m=1.0, allowed=allowed)
    block(canvas, frame.box(0.0, -width / 2 - 1.2, 0.6 * length, 4.0), terrace, allowed=allowed)


def _pool(ground: Ground, rng: np.random.Generator, parcel: Parcel, frame: Frame, width: float) -> None:
    if not ground.modern:
        return
    canvas, palette, allowed = ground.canvas, ground.palette, ground.within(parcel, 0.6)
    along, across = rng.uniform(-3, 3), -width / 2 - 6.5
    block(canvas, frame.box(along, across, 10.5, 6.5), palette.concrete, rounding_m=1.0, allowed=allowed)
    water, rounding, tint = frame.box(along, across, 8.0, 4.0), rng.uniform(0.3, 1.6), rng.uniform(0.85, 1.15)
    block(canvas, water, palette.pool, rounding_m=float(rounding), tint=float(tint), allowed=allowed)


def _house(ground: Ground, rng: np.random.Generator, frame: Frame, length: float, width: float, *, shed: bool) -> None:
    """Build a house, perhaps with a wing and a shed."""
    canvas = ground.canvas
    surface = canvas.surfaces.add(roof_surface(rng, ground.domain, frame.angle))
    eaves, pitch = float(rng.uniform(2.8, 5.8)), float(rng.uniform(0.4, 0.85))
    hipped = bool(rng.random() < 0.35)
    roof(canvas, rng, frame.box(0, 0, length, width), surface, eaves_m=eaves, pitch=pitch, hipped=hipped)
    if rng.random() < 0.5:
        end = float(rng.choice([-0.5, 0.5])) * (length - width)
        wing = frame.box(end, 0.5 * width, 1.2 * width, 0.75 * width, turned=True)
        roof(canvas, rng, wing, surface, eaves_m=eaves, pitch=pitch)
    if shed and rng.random() < 0.4:
        own = canvas.surfaces.add(roof_surface(rng, ground.domain, frame.angle))
        corner = frame.box(-length / 2 - 4.5, -rng.uniform(2, 5), 4.5, 3.2)
        roof(canvas, rng, corner, own, eaves_m=2.2, pitch=0.25)


def _garden_trees(ground: Ground, rng: np.random.Generator, parcel: Parcel, place: Place) -> None:
    palette, canvas = ground.palette, ground.canvas
    offsets = rng.normal(0, 0.9 * max(place.room_m, 6.0), (int(rng.integers(3, 11)), 2))
    points = (np.array([place.x, place.y]) + offsets).astype(np.float32)
    points = ground.keep(points, parcel, inset_m=1.0)
    column, row = np.floor(points / canvas.grid.gsd_m).astype(int).T
    points = points[canvas.height[row, column] < 1]
    conifer = rng.random(len(points)) < ground.domain.conifers
    for chosen, crown, kinds, radius in (
        (~conifer, Crown.ROUND, palette.broadleaf, (1.5, 3.8)),
        (conifer, Crown.CONE, palette.conifer, (1.3, 2.6)),
    ):
        size = rng.uniform(*radius, int(chosen.sum())).astype(np.float32)
        surfaces = kinds[rng.integers(0, len(kinds), size.size)]
        plant(canvas, rng, points[chosen], crown=crown, radius_m=size, height_m=size * 2.4 + 1, surfaces=surfaces)


def farm(ground: Ground, rng: np.random.Generator, parcel: Parcel, place: Place) -> None:
    """Furnish a farm: a yard, two long barns, silos, and a house under trees."""
    if place.room_m < 10:
        return
    canvas, palette, allowed = ground.canvas, ground.palette, ground.within(parcel, 0.0)
    way, reach = ground.way_out(place, parcel.angle)
    frame = Frame(place.x, place.y, way - np.pi / 2)
    size = float(min(place.room_m, 32.0))
    yard = palette.concrete if rng.random() < 0.4 else palette.gravel
    block(canvas, frame.box(0, 0, 2.2 * size, 1.7 * size), yard, rounding_m=5.0, allowed=allowed)
    block(canvas, frame.box(0, reach / 2, reach + 6, 4.0, turned=True), yard, allowed=allowed)
    for where in (-0.5, 0.5):
        barn = canvas.surfaces.add(roof_surface(rng, ground.domain, frame.angle, large=ground.modern))
        length, width = size * rng.uniform(1.1, 1.6), size * rng.uniform(0.42, 0.56)
        box = frame.box(rng.uniform(-0.15, 0.15) * size, where * size, length, width)
        roof(canvas, rng, box, barn, eaves_m=float(rng.uniform(4.5, 6.5)), pitch=0.22)
    house = canvas.surfaces.add(roof_surface(rng, ground.domain, frame.angle))
    roof(canvas, rng, frame.box(-size, 0, 13.0, 8.0, turned=True), house, eaves_m=4.5, pitch=0.6)
    for k in range(int(rng.integers(0, 4)) if ground.modern else 0):
        silo = canvas.surfaces.add(roof_surface(rng, ground.domain, frame.angle, large=True))
        block(canvas, frame.box(0.95 * size, (k - 1) * 4.2, 3.6, 3.6), silo, height_m=8.0, rounding_m=1.8)
    _garden_trees(ground, rng, parcel, Place(*frame.point(-size, 0.0), 10.0))


def car_park(ground: Ground, rng: np.random.Generator, parcel: Parcel, place: Place) -> None:
    """Furnish a paved plot: a large flat roof, rows of marked bays, and cars."""
    if place.room_m < 6:
        return
    canvas, allowed, size = ground.canvas, ground.within(parcel, 0.8), place.room_m
    frame = Frame(place.x, place.y, parcel.angle)
    shop = canvas.surfaces.add(roof_surface(rng, ground.domain, parcel.angle, large=True))
    hall = frame.box(0.0, -0.35 * size, 1.9 * size, 0.85 * size)
    roof(canvas, rng, hall, shop, eaves_m=float(rng.uniform(4, 8)), pitch=0.0)
    for row in (0.45, 0.95):
        for bay in np.arange(-1.4 * size, 1.4 * size, 2.7):
            line = frame.box(bay, row * size, 4.8, 0.25, turned=True)
            block(canvas, line, ground.palette.paint, allowed=allowed)
            if rng.random() < 0.55:
                _car(ground, rng, parcel, frame.box(bay + 1.35, row * size, 4.2, 1.8, turned=True))


def _car(ground: Ground, rng: np.random.Generator, parcel: Parcel, box: Box) -> None:
    if ground.modern:
        colour = ground.palette.cars[int(rng.integers(0, len(ground.palette.cars)))]
        block(ground.canvas, box, colour, height_m=1.4, rounding_m=0.4, allowed=ground.within(parcel, 0.8))
