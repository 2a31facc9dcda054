"""What stands on the land outside villages: woods, scrub, orchards, greenhouses, ponds, hedges, riverside trees."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .buildings import Frame, block
from .domain import Use
from .ground import Ground, Parcel, Place
from .noise import Floats, fractal, smooth
from .parcels import Border
from .trees import Crown, plant, scatter

__all__ = [
    "bales",
    "greenhouses",
    "hedgerows",
    "orchard",
    "pond",
    "quarries",
    "riverside",
    "scrub",
    "snowfields",
    "stray_trees",
    "woods",
]

_Mask = NDArray[np.bool_]


def _broadleaves(ground: Ground, rng: np.random.Generator, points: Floats, low_m: float, high_m: float) -> None:
    size = rng.uniform(low_m, high_m, len(points)).astype(np.float32)
    kinds = ground.palette.broadleaf
    chosen = kinds[_stands(rng, points, len(kinds))]
    tall = size * rng.uniform(2.2, 3.4, len(points)).astype(np.float32) + 2
    plant(ground.canvas, rng, points, crown=Crown.ROUND, radius_m=size, height_m=tall, surfaces=chosen)


def _stands(rng: np.random.Generator, points: Floats, kinds: int) -> NDArray[np.intp]:
    """Choose a kind for each tree so that neighbours tend to be alike."""
    phase = rng.uniform(0, 2 * np.pi, 2)
    waves = np.sin(points[:, 0] / 19 + phase[0]) + np.sin(points[:, 1] / 24 + points[:, 0] / 60 + phase[1])
    level = 0.5 + 0.25 * waves + rng.normal(0, 0.22, len(points))
    chosen: NDArray[np.intp] = np.clip(level * kinds, 0, kinds - 1).astype(np.intp)
    return chosen


def _conifers(ground: Ground, rng: np.random.Generator, points: Floats, low_m: float, high_m: float) -> None:
    size = rng.uniform(low_m, high_m, len(points)).astype(np.float32)
    kinds = ground.palette.conifer
    chosen = kinds[_stands(rng, points, len(kinds))]
    tall = size * rng.uniform(4.5, 6.5, len(points)).astype(np.float32) + 2
    plant(ground.canvas, rng, points, crown=Crown.CONE, radius_m=size, height_m=tall, surfaces=chosen)


def _bushes(ground: Ground, rng: np.random.Generator, points: Floats, low_m: float, high_m: float) -> None:
    size = rng.uniform(low_m, high_m, len(points)).astype(np.float32)
    kinds = ground.palette.shrubs
    chosen = kinds[rng.integers(0, len(kinds), len(points))]
    tall = size * rng.uniform(0.9, 1.6, len(points)).astype(np.float32)
    plant(ground.canvas, rng, points, crown=Crown.BUSH, radius_m=size, height_m=tall, surfaces=chosen)


def woods(ground: Ground, rng: np.random.Generator) -> None:
    """Fill woods with crowns, each parcel of one kind with some of the other, and a fringe of bushes."""
    for use, own, other in ((Use.WOOD, _broadleaves, _conifers), (Use.PINES, _conifers, _broadleaves)):
        mask = ground.used(use)
        spacing = 4.6 if use is Use.WOOD else 3.1
        points = scatter(rng, ground.canvas, mask, spacing)
        mixed = rng.random(len(points)) < 0.05
        own(ground, rng, points[~mixed], 0.48 * spacing, 0.95 * spacing)
        other(ground, rng, points[mixed], 0.4 * spacing, 0.8 * spacing)
        _bushes(ground, rng, scatter(rng, ground.canvas, mask & (ground.border_m < 2.0), 2.2), 0.6, 1.4)


def scrub(ground: Ground, rng: np.random.Generator) -> None:
    """Cover heaths with shrubs, densely where the label says brushwood, thinly over dry grass elsewhere."""
    canvas, palette = ground.canvas, ground.palette
    heath = ground.used(Use.HEATH)
    density = fractal(rng, canvas.grid, 22.0, octaves=3)
    dense = heath & (density > -0.25)
    canvas.entity[dense] = palette.heath_floor
    canvas.entity[heath & (density < -1.35)] = palette.pale_bare
    _bushes(ground, rng, scatter(rng, canvas, dense, 1.9), 0.5, 1.5)
    sparse = scatter(rng, canvas, heath & ~dense, 6.0)
    _bushes(ground, rng, sparse, 0.4, 0.9)
    few = scatter(rng, canvas, dense, 17.0)
    conifer = rng.random(len(few)) < ground.domain.conifers
    _conifers(ground, rng, few[conifer], 1.0, 1.9)
    _broadleaves(ground, rng, few[~conifer], 1.2, 2.4)


def orchard(ground: Ground, rng: np.random.Generator, parcel: Parcel, place: Place) -> None:
    """Plant trees of one size in rows along the parcel."""
    spacing = float(rng.uniform(4.2, 7.0))
    reach = 0.8 * float(np.sqrt(parcel.area_m2)) + 3 * place.room_m
    frame = Frame(place.x, place.y, parcel.angle)
    along, across = np.arange(-reach, reach, 0.85 * spacing), np.arange(-reach, reach, spacing)
    points = np.array([frame.point(u, v) for u in along for v in across], np.float32)
    points += rng.normal(0, 0.12, points.shape).astype(np.float32)
    points = ground.keep(points[rng.random(len(points)) > 0.04], parcel, inset_m=2.5)
    size = (spacing * rng.uniform(0.27, 0.4) * rng.uniform(0.8, 1.15, len(points))).astype(np.float32)
    surfaces = np.full(len(points), parcel.trees, np.int16)
    plant(ground.canvas, rng, points, crown=Crown.BUSH, radius_m=size, height_m=1.9 * size, surfaces=surfaces)


def greenhouses(ground: Ground, rng: np.random.Generator, parcel: Parcel, place: Place) -> None:
    """Set plastic tunnels or glass roofs side by side along the parcel."""
    reach = min(0.8 * float(np.sqrt(parcel.area_m2)), 60.0)
    window = ground.canvas.window((place.x, place.y), reach, parcel.angle)
    if window is None or not ground.modern:
        return
    span = float(rng.uniform(7.5, 9.5))
    gap = float(rng.choice([0.0, 1.6]))
    offset = np.abs((window.across + 100 * span) % span - span / 2)
    inside = ground.within(parcel, 4.0)(window)
    inside &= (offset < (span - gap) / 2) & (np.abs(window.along + 2) % 38.0 > 3.5)
    arch = 2.0 + 1.8 * np.sqrt(np.clip(1 - (2 * offset / span) ** 2, 0, 1))
    ribs = 1 - 0.1 * ((window.along % 4.0) < 0.35)
    shade = ribs * (1 - 0.16 * (offset / span) * 2)
    surface = ground.palette.tunnel if rng.random() < 0.75 else ground.palette.glass
    ground.canvas.paint(window, inside, surface, height=arch.astype(np.float32), tint=shade.astype(np.float32))


def bales(ground: Ground, rng: np.random.Generator, parcel: Parcel, place: Place) -> None:
    """Leave round bales on a field that the aircraft finds as stubble."""
    canvas = ground.canvas
    look = canvas.surfaces[parcel.surface].look
    if look is None or look[1] < 0.9:
        return
    spacing = float(rng.uniform(13, 20))
    reach = 0.8 * float(np.sqrt(parcel.area_m2))
    frame = Frame(place.x, place.y, parcel.angle)
    for u in np.arange(-reach, reach, spacing):
        for v in np.arange(-reach, reach, spacing):
            bale = Frame(*frame.point(u + rng.normal(0, 3), v + rng.normal(0, 1)), float(rng.uniform(0, np.pi)))
            allowed = ground.within(parcel, 4.0)
            surface = ground.palette.bale
            block(canvas, bale.box(0, 0, 1.7, 1.4), surface, height_m=1.4, rounding_m=0.3, allowed=allowed)


def pond(ground: Ground, rng: np.random.Generator, parcel: Parcel, place: Place) -> None:
    """Dig a pond with a reedy rim into the middle of a parcel."""
    size = float(min(0.62 * place.room_m, rng.uniform(7, 20)))
    window = ground.canvas.window((place.x, place.y), 1.6 * size + 3, parcel.angle)
    if window is None:
        return
    turn = np.arctan2(window.across, window.along)
    shape = 1 + sum(rng.normal(0, 0.11) * np.sin(k * turn + rng.uniform(0, 6.3)) for k in (2, 3, 4, 5))
    gap = np.hypot(window.along / 1.25, window.across) - size * shape
    allowed = ground.within(parcel, 1.0)(window)
    ground.canvas.paint(window, allowed & (gap < 1.2), ground.palette.bare)
    ground.canvas.paint(window, allowed & (gap < 0), ground.palette.pond)
    rim = np.argwhere(allowed & (np.abs(gap - 2.2) < 0.8))
    if len(rim):
        chosen = rim[rng.integers(0, len(rim), max(2, int(size)))]
        points = (chosen[:, ::-1] + (window.columns.start, window.rows.start)) * ground.canvas.grid.gsd_m
        _bushes(ground, rng, points.astype(np.float32), 0.6, 1.6)


def hedgerows(ground: Ground, rng: np.random.Generator) -> None:
    """Grow hedges along the cuts that carry one, and around some gardens, with a taller tree here and there."""
    canvas = ground.canvas
    hedge = (ground.division.border[ground.cut] == Border.HEDGE) & (ground.border_m < 0) & (ground.bank_m > 0)
    _bushes(ground, rng, scatter(rng, canvas, hedge, 1.3), 0.9, 1.7)
    _broadleaves(ground, rng, scatter(rng, canvas, hedge, 9.0), 1.8, 3.6)
    fence = (ground.division.border[ground.cut] == Border.FENCE) & (ground.border_m < 0.3) & (ground.bank_m > 2)
    fence &= (rng.random(len(ground.parcels)) < 0.6)[ground.number]
    _bushes(ground, rng, scatter(rng, canvas, fence, 0.8), 0.5, 0.8)


def riverside(ground: Ground, rng: np.random.Generator) -> None:
    """Line the river with gravel bars, alders and willows, in patches."""
    if ground.bank_m.min() > 100:
        return
    canvas = ground.canvas
    patches = smooth(rng, canvas.grid, 26.0)
    near = (ground.bank_m > 0) & (ground.bank_m < 9) & (ground.border_m > 0.5)
    canvas.entity[(ground.bank_m > -0.3) & (ground.bank_m < 4.5 * (patches - 0.7))] = ground.palette.pale_bare
    wooded = near & (patches < 0.55)
    canvas.entity[wooded & (canvas.height < 0.5)] = ground.palette.wood_floor
    _bushes(ground, rng, scatter(rng, canvas, wooded, 2.6), 0.7, 1.7)
    _broadleaves(ground, rng, scatter(rng, canvas, wooded & (ground.bank_m > 1.5), 4.8), 1.9, 4.3)


def stray_trees(ground: Ground, rng: np.random.Generator) -> None:
    """Let single trees stand in meadows and along tracks."""
    meadow = ground.used(Use.MEADOW) & (ground.border_m > 3) & (ground.canvas.height < 0.5)
    points = scatter(rng, ground.canvas, meadow, 24.0)
    points = points[rng.random(len(points)) < 0.3]
    conifer = rng.random(len(points)) < 0.5 * ground.domain.conifers
    _broadleaves(ground, rng, points[~conifer], 2.2, 5.0)
    _conifers(ground, rng, points[conifer], 1.6, 2.8)


def quarries(ground: Ground, rng: np.random.Generator) -> None:
    """Strip the soil from quarries: bare ground in two shades, with heaps."""
    pit = ground.used(Use.QUARRY) & (ground.border_m > 1.5)
    if not pit.any():
        return
    shade = fractal(rng, ground.canvas.grid, 18.0)
    ground.canvas.entity[pit] = np.where(shade[pit] > 0, ground.palette.bare, ground.palette.pale_bare)
    ground.canvas.entity[pit & (shade > 1.2)] = ground.palette.rock
    heaps = np.maximum(fractal(rng, ground.canvas.grid, 9.0, octaves=2) - 1.0, 0) * np.float32(2.2)
    np.copyto(ground.canvas.height, heaps, where=pit)


def snowfields(ground: Ground, rng: np.random.Generator) -> None:
    """Leave snow in hollows where the domain has lasting snow."""
    if ground.domain.snow_patches <= 0:
        return
    hollow = fractal(rng, ground.canvas.grid, 40.0, octaves=4)
    level = np.quantile(hollow[::16, ::16], 1 - ground.domain.snow_patches)
    lying = (hollow > level) & (ground.canvas.height < 0.6) & (ground.bank_m > 1) & (ground.border_m > 0)
    ground.canvas.entity[lying] = ground.palette.snow
    ground.canvas.height[lying] += np.float32(0.3)
