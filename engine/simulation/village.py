"""Houses with gardens, pools and hedges; farms with barns; yards with cars."""

from __future__ import annotations

import numpy as np

from .buildings import block, roof
from .ground import Ground, Parcel, Place
from .palette import roof_surface
from .trees import Crown, plant

__all__ = ["car_park", "farm", "house_plot"]


def house_plot(ground: Ground, rng: np.random.Generator, parcel: Parcel, place: Place) -> None:
    """Furnish a plot with a house, perhaps a wing, a drive, a pool, a shed, and some trees."""
    if place.room_m < 4.0:
        return
    canvas, palette, allowed = ground.canvas, ground.palette, ground.within(parcel, 0.6)
    angle = parcel.angle + float(rng.choice([0.0, np.pi / 2]))
    width = float(np.clip(rng.uniform(7.0, 10.0), 5.0, 1.15 * place.room_m))
    length = float(np.clip(width * rng.uniform(1.15, 1.9), width, 1.9 * place.room_m))
    axis, side = np.array([np.cos(angle), np.sin(angle)]), np.array([-np.sin(angle), np.cos(angle)])
    middle = np.array([place.x, place.y]) + side * rng.uniform(-0.25, 0.25) * place.room_m

    drive = palette.gravel if rng.random() < 0.55 else palette.concrete if rng.random() < 0.5 else palette.asphalt
    reach = 2.4 * place.room_m
    front = 1.0 if rng.random() < 0.5 else -1.0
    block(canvas, _at(middle + side * front * reach / 2 + axis * 0.3 * length), angle + np.pi / 2, reach, 3.4, drive, allowed=allowed)
    block(canvas, _at(middle + side * front * (width / 2 + 2)), angle, 0.8 * length, 5.0, drive, rounding_m=1.0, allowed=allowed)
    terrace = palette.concrete if rng.random() < 0.6 else palette.gravel
    block(canvas, _at(middle - side * front * (width / 2 + 1.2)), angle, 0.6 * length, 4.0, terrace, allowed=allowed)
    if ground.modern and place.room_m > 9 and rng.random() < 0.5:
        pool = middle - side * front * (width / 2 + 6.5) + axis * rng.uniform(-3, 3)
        block(canvas, _at(pool), angle, 10.5, 6.5, palette.concrete, rounding_m=1.0, allowed=allowed)
        shade = float(rng.uniform(0.85, 1.15))
        block(canvas, _at(pool), angle, 8.0, 4.0, palette.pool, rounding_m=float(rng.uniform(0.3, 1.6)), tint=shade, allowed=allowed)
    if rng.random() < 0.35:
        block(canvas, _at(middle + axis * (length / 2 + 5)), angle, 6.0, 5.0, palette.garden_soil, allowed=allowed)

    surface = canvas.surfaces.add(roof_surface(rng, ground.domain, angle))
    style = {"eaves_m": float(rng.uniform(2.8, 5.8)), "pitch": float(rng.uniform(0.4, 0.85))}
    hipped = rng.random() < 0.35
    roof(canvas, rng, _at(middle), angle, length, width, surface, hipped=hipped, **style)
    if rng.random() < 0.5:
        wing = middle + axis * (length - width) / 2 * rng.choice([-1, 1]) + side * front * width * 0.5
        roof(canvas, rng, _at(wing), angle + np.pi / 2, width * 1.2, width * 0.75, surface, **style)
    if rng.random() < 0.4 and place.room_m > 8:
        shed = canvas.surfaces.add(roof_surface(rng, ground.domain, angle))
        corner = middle - axis * (length / 2 + 4.5) - side * front * rng.uniform(2, 5)
        roof(canvas, rng, _at(corner), angle, 4.5, 3.2, shed, eaves_m=2.2, pitch=0.25)
    if ground.modern and rng.random() < 0.7:
        _car(ground, rng, middle + side * front * (width / 2 + 3.2) + axis * rng.uniform(-3, 3), angle)
    _garden_trees(ground, rng, parcel, place)


def _garden_trees(ground: Ground, rng: np.random.Generator, parcel: Parcel, place: Place) -> None:
    palette, canvas = ground.palette, ground.canvas
    count = int(rng.integers(2, 8))
    offsets = rng.normal(0, 0.9 * max(place.room_m, 6.0), (count, 2))
    points = (np.array([place.x, place.y]) + offsets).astype(np.float32)
    column, row = (points / canvas.grid.gsd_m).astype(int).T
    height, width = canvas.grid.shape_yx
    inside = (row >= 0) & (column >= 0) & (row < height) & (column < width)
    points, row, column = points[inside], row[inside], column[inside]
    free = (ground.number[row, column] == parcel.number) & (canvas.height[row, column] < 1) & (ground.border_m[row, column] > 1)
    points = points[free]
    conifer = rng.random(len(points)) < ground.domain.conifers
    for kind, crown, kinds, radius in (
        (~conifer, Crown.ROUND, palette.broadleaf, (1.5, 3.8)),
        (conifer, Crown.CONE, palette.conifer, (1.3, 2.6)),
    ):
        size = rng.uniform(*radius, int(kind.sum())).astype(np.float32)
        chosen = kinds[rng.integers(0, len(kinds), size.size)]
        plant(canvas, rng, points[kind], crown=crown, radius_m=size, height_m=size * 2.4 + 1, surfaces=chosen)


def farm(ground: Ground, rng: np.random.Generator, parcel: Parcel, place: Place) -> None:
    """Furnish a farm: a yard, two or three long barns, silos, and a house."""
    if place.room_m < 10:
        return
    canvas, palette, allowed = ground.canvas, ground.palette, ground.within(parcel, 1.5)
    angle = parcel.angle
    axis, side = np.array([np.cos(angle), np.sin(angle)]), np.array([-np.sin(angle), np.cos(angle)])
    middle = np.array([place.x, place.y])
    size = float(min(place.room_m, 32.0))
    yard = palette.concrete if rng.random() < 0.4 else palette.gravel
    block(canvas, _at(middle), angle, 2.2 * size, 1.7 * size, yard, rounding_m=5.0, allowed=allowed)
    block(canvas, _at(middle + side * 1.6 * size), angle + np.pi / 2, 2.0 * size, 4.0, yard, allowed=allowed)
    for where in (-0.5, 0.5):
        barn = canvas.surfaces.add(roof_surface(rng, ground.domain, angle, large=ground.modern))
        length, width = size * rng.uniform(1.1, 1.6), size * rng.uniform(0.42, 0.56)
        centre = middle + side * where * size + axis * rng.uniform(-0.15, 0.15) * size
        roof(canvas, rng, _at(centre), angle, length, width, barn, eaves_m=float(rng.uniform(4.5, 6.5)), pitch=0.22)
    house = canvas.surfaces.add(roof_surface(rng, ground.domain, angle))
    roof(canvas, rng, _at(middle - axis * 1.0 * size), angle + np.pi / 2, 13.0, 8.0, house, eaves_m=4.5, pitch=0.6)
    for k in range(int(rng.integers(0, 4)) if ground.modern else 0):
        silo = canvas.surfaces.add(roof_surface(rng, ground.domain, angle, large=True))
        spot = middle + axis * 0.95 * size + side * (k - 1) * 4.2
        block(canvas, _at(spot), angle, 3.6, 3.6, silo, height_m=8.0, rounding_m=1.8)
    _garden_trees(ground, rng, parcel, Place(float(middle[0] - axis[0] * size), float(middle[1] - axis[1] * size), 10.0))


def car_park(ground: Ground, rng: np.random.Generator, parcel: Parcel, place: Place) -> None:
    """Furnish a paved plot: a large flat roof, rows of marked bays, and cars."""
    if place.room_m < 6:
        return
    canvas, allowed = ground.canvas, ground.within(parcel, 0.8)
    angle = parcel.angle
    axis, side = np.array([np.cos(angle), np.sin(angle)]), np.array([-np.sin(angle), np.cos(angle)])
    middle = np.array([place.x, place.y])
    size = place.room_m
    shop = canvas.surfaces.add(roof_surface(rng, ground.domain, angle, large=True))
    roof(canvas, rng, _at(middle - side * 0.35 * size), angle, 1.9 * size, 0.85 * size, shop, eaves_m=float(rng.uniform(4, 8)), pitch=0.0)
    for row in (0.45, 0.95):
        for bay in np.arange(-1.4 * size, 1.4 * size, 2.7):
            spot = middle + side * row * size + axis * bay
            block(canvas, _at(spot), angle + np.pi / 2, 4.8, 0.25, ground.palette.paint, allowed=allowed)
            if rng.random() < 0.55:
                _car(ground, rng, spot + axis * 1.35, angle + np.pi / 2, parcel=parcel)


def _car(ground: Ground, rng: np.random.Generator, centre: np.ndarray, angle: float, *, parcel: Parcel | None = None) -> None:
    if not ground.modern:
        return
    colours = ground.palette.cars
    allowed = None if parcel is None else ground.within(parcel, 0.8)
    colour = colours[int(rng.integers(0, len(colours)))]
    block(ground.canvas, _at(centre), angle, 4.2, 1.8, colour, height_m=1.4, rounding_m=0.4, allowed=allowed)


def _at(point: np.ndarray) -> tuple[float, float]:
    return float(point[0]), float(point[1])
