"""Trees, shrubs and hedges: crowns with a shape, painted one by one, the taller over the lower."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from .canvas import Canvas
from .noise import Floats, stream

__all__ = ["Crown", "plant", "scatter"]


class Crown(IntEnum):
    """Shape of a crown."""

    ROUND = 0
    CONE = 1
    BUSH = 2


@dataclass(frozen=True)
class _Sprite:
    """One crown seen from above: height as a share of the tree's, texture, and where it is."""

    profile: Floats
    texture: Floats
    mask: NDArray[np.bool_]


_VARIANTS = 5


@lru_cache(maxsize=1024)
def _sprite(crown: Crown, radius_px: int, variant: int) -> _Sprite:
    rng = stream(variant, "crown", crown.name, radius_px)
    side = 2 * radius_px + 1
    y, x = np.mgrid[-radius_px : radius_px + 1, -radius_px : radius_px + 1].astype(np.float32)
    theta = np.arctan2(y, x)
    lobes = 1 + sum(rng.normal(0, 0.055) * np.sin(k * theta + rng.uniform(0, 6.3)) for k in (2, 3, 5, 7))
    reach = np.hypot(y, x) / (radius_px * 0.9 + 0.3) / lobes
    # Boughs: a few bumps per crown, each the top of a paraboloid.
    bumps = np.zeros((side, side), np.float32)
    for _ in range(3 + radius_px):
        cy, cx = rng.normal(0, 0.5 * radius_px, 2)
        size = rng.uniform(0.16, 0.34) * radius_px + 0.7
        bumps = np.maximum(bumps, 1 - ((y - cy) ** 2 + (x - cx) ** 2) / size**2)
    inside = np.clip(1 - reach, 0, 1)
    if crown is Crown.CONE:
        profile = 0.25 + 0.75 * inside**0.9 + 0.06 * bumps
    else:
        profile = 0.52 + 0.34 * np.sqrt(np.clip(1 - reach**2, 0, 1)) + 0.14 * bumps
    texture = 0.5 * bumps + 0.3 * rng.standard_normal((side, side)) - 0.25
    return _Sprite(profile.astype(np.float32), texture.astype(np.float32), reach < 1)


def plant(
    canvas: Canvas,
    rng: np.random.Generator,
    points_xy: Floats,
    *,
    crown: Crown,
    radius_m: Floats,
    height_m: Floats,
    surfaces: NDArray[np.int16],
) -> None:
    """Plant one tree at every point (x, y) [N, 2] in metres.

    Args:
        canvas: where.
        rng: chance of the crowns' shapes and shades.
        points_xy: float32 [N, 2].
        crown: their shape.
        radius_m: of the crowns, float32 [N].
        height_m: of the trees, float32 [N].
        surfaces: number of the surface of each tree, int16 [N].
    """
    gsd, (height, width) = canvas.grid.gsd_m, canvas.grid.shape_yx
    columns, rows = (np.floor(points_xy / gsd).astype(int)).T if len(points_xy) else (np.zeros(0, int),) * 2
    radii = np.maximum(1, np.rint(radius_m / gsd)).astype(int)
    variants = rng.integers(0, _VARIANTS, len(points_xy))
    shades = np.exp(rng.normal(0, 0.14, len(points_xy))).astype(np.float32)
    for row, column, radius, variant, shade, tall, surface in zip(
        rows, columns, radii, variants, shades, height_m, surfaces, strict=True
    ):
        top, bottom, left, right = row - radius, row + radius + 1, column - radius, column + radius + 1
        if bottom <= 0 or right <= 0 or top >= height or left >= width:
            continue
        sprite = _sprite(crown, int(radius), int(variant))
        cut = (
            slice(max(0, -top), bottom - top - max(0, bottom - height)),
            slice(max(0, -left), right - left - max(0, right - width)),
        )
        area = slice(max(0, top), min(bottom, height)), slice(max(0, left), min(right, width))
        profile = sprite.profile[cut] * tall
        mask = sprite.mask[cut] & (profile > canvas.height[area])
        np.copyto(canvas.height[area], profile, where=mask)
        np.copyto(canvas.entity[area], surface, where=mask)
        np.copyto(canvas.pattern[area], sprite.texture[cut], where=mask)
        np.copyto(canvas.tint[area], shade, where=mask)


def scatter(rng: np.random.Generator, canvas: Canvas, mask: NDArray[np.bool_], spacing_m: float) -> Floats:
    """Draw points (x, y) [N, 2] about `spacing_m` apart wherever `mask` [Y, X] holds: a jittered, staggered lattice."""
    extent_y, extent_x = canvas.grid.extent_yx_m
    y, x = np.mgrid[0 : extent_y + spacing_m : spacing_m, 0 : extent_x + spacing_m : spacing_m]
    x = x + (np.arange(x.shape[0]) % 2)[:, None] * spacing_m / 2
    points = np.stack([x, y], -1).reshape(-1, 2) + rng.uniform(-0.42, 0.42, (x.size, 2)) * spacing_m
    column, row = (points / canvas.grid.gsd_m).astype(int).T
    inside = (points >= 0).all(1) & (row < mask.shape[0]) & (column < mask.shape[1])
    points, row, column = points[inside], row[inside], column[inside]
    points = points[mask[row, column]]
    return rng.permutation(points).astype(np.float32)
