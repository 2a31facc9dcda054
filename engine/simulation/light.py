"""Light: the sun on slopes and roofs, and the shadows that everything casts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .noise import Floats, blur

__all__ = ["Sun", "cast_shadows", "shade_slopes"]


@dataclass(frozen=True)
class Sun:
    """Where the sun stands: azimuth clockwise from north and elevation, both in radians."""

    azimuth: float
    elevation: float


def shade_slopes(surface: Floats, gsd_m: float, sun: Sun) -> Floats:
    """Return how much direct light the height model `surface` [Y, X] receives, relative to level ground (1.0).

    Slopes are softened as the eye softens them: a wall is no steeper than two metres per metre.
    """
    dy, dx = (np.clip(d, -2, 2) for d in np.gradient(surface, gsd_m))
    east, north = np.sin(sun.azimuth), np.cos(sun.azimuth)
    facing = np.sin(sun.elevation) - np.cos(sun.elevation) * (np.float32(east) * dx - np.float32(north) * dy)
    light = facing / np.sqrt(1 + dx * dx + dy * dy) / np.float32(np.sin(sun.elevation))
    relative: Floats = np.clip(light, 0.25, 1.55).astype(np.float32)
    return relative


def cast_shadows(surface: Floats, gsd_m: float, sun: Sun, *, reach_m: float = 45.0) -> Floats:
    """Return how much of the sun each pixel of the height model `surface` [Y, X] sees, 0 to 1.

    A pixel is in shadow where, looking towards the sun, something stands above the line of sight. The highest
    obstacle over n steps is the higher of the one over the first n/2 and the one over the next n/2, so that
    log2(n) shifts do the work of n.
    """
    step_m = gsd_m
    east, south = np.sin(sun.azimuth), -np.cos(sun.azimuth)
    drop = np.float32(step_m * np.tan(sun.elevation))
    obstacle = _shifted(surface, south, east) - drop
    steps = 1
    while steps * step_m < reach_m:
        further = _shifted(obstacle, steps * south, steps * east) - steps * drop
        np.maximum(obstacle, further, out=obstacle)
        steps *= 2
    # Over 0.35 m of depth the shadow grows from half to full: the sun is not a point.
    return blur(1 - np.clip((obstacle - surface) * np.float32(1 / 0.35), 0, 1), 0.7)


def _shifted(values: Floats, down: float, right: float) -> Floats:
    """Return at each pixel the value that lies `down` rows and `right` columns away; edges are continued."""
    height, width = values.shape
    rows = np.clip(np.arange(height) + round(down), 0, height - 1)
    columns = np.clip(np.arange(width) + round(right), 0, width - 1)
    shifted: Floats = values[rows[:, None], columns[None, :]]
    return shifted
