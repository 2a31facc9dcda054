"""The site: hills, the river and where villages lie. It is the same for every age of a place."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .domain import Domain
from .noise import Floats, Grid, fractal, smooth, smoothstep, stream

__all__ = ["River", "Site", "Village", "choose_site"]

_BLOCK_M = 300.0


@dataclass(frozen=True)
class Village:
    """A place where plots are small: centre and radius in metres."""

    x: float
    y: float
    radius: float


@dataclass(frozen=True)
class River:
    """A meandering river: a straight axis, and sine waves (amplitude, wavelength, phase) across it; metres."""

    angle: float
    offset: float
    half_width: float
    waves: tuple[tuple[float, float, float], ...]

    def distance(self, y: Floats, x: Floats) -> Floats:
        """Return the distance to the bank, negative in the water, for points of any one shape."""
        cos, sin = np.float32(np.cos(self.angle)), np.float32(np.sin(self.angle))
        u, v = x * cos + y * sin, y * cos - x * sin
        course, slope = np.full(u.shape, self.offset, np.float32), np.zeros(u.shape, np.float32)
        for amplitude, length, phase in self.waves:
            turn = u * np.float32(2 * np.pi / length) + np.float32(phase)
            course += np.float32(amplitude) * np.sin(turn)
            slope += np.float32(amplitude * 2 * np.pi / length) * np.cos(turn)
        distance: Floats = np.abs(v - course) / np.sqrt(1 + slope * slope) - np.float32(self.half_width)
        return distance


@dataclass(frozen=True)
class Site:
    """Everything about a place that outlasts its inhabitants."""

    seed: int
    domain: Domain
    villages: tuple[Village, ...]
    river: River | None

    def town(self, points: Floats) -> Floats:
        """Return how much of a village the points (x, y) [N, 2] are, 0 to 1."""
        share = np.zeros(len(points), np.float32)
        for village in self.villages:
            gap = np.hypot(points[:, 0] - village.x, points[:, 1] - village.y)
            share = np.maximum(share, 1 - smoothstep(gap, 0.75 * village.radius, 1.1 * village.radius))
        return share

    def bank_distance(self, grid: Grid) -> Floats:
        """Return the distance to the river's bank, negative in the water, float32 [Y, X]; far away without a river."""
        if self.river is None:
            return np.full(grid.shape_yx, 1e4, np.float32)
        y, x = grid.axes()
        return self.river.distance(np.broadcast_to(y, grid.shape_yx), np.broadcast_to(x, grid.shape_yx))

    def terrain(self, grid: Grid, bank: Floats) -> Floats:
        """Return the altitude of the ground in metres, float32 [Y, X]."""
        rng = stream(self.seed, "terrain")
        y, x = grid.axes()
        tilt = rng.normal(0, 0.008 + self.domain.relief_m / 900, 2)
        hills = np.float32(self.domain.relief_m) * fractal(rng, grid, 240.0, octaves=4, roughness=0.4)
        altitude = (
            np.float32(self.domain.altitude_m + rng.normal(0, 15)) + np.float32(tilt[0]) * y + np.float32(tilt[1]) * x
        )
        if self.river is not None:
            near = np.exp(-np.maximum(bank, 0) * np.float32(1 / 45.0))
            hills *= 1 - np.float32(0.75) * near
            altitude = altitude - near * np.float32(2.0 + 0.4 * self.domain.relief_m)
            altitude = altitude - np.float32(1.6) * smoothstep(-bank, -2.0, 1.0)
        return np.asarray(altitude + hills, np.float32)

    def warped_axes(self, grid: Grid) -> tuple[Floats, Floats]:
        """Return y and x [Y, X] in metres, bent a little so that straight cuts become gentle curves."""
        rng = stream(self.seed, "warp")
        y, x = grid.axes()
        return y + 5.0 * smooth(rng, grid, 110.0), x + 5.0 * smooth(rng, grid, 110.0)


def choose_site(seed: int, domain: Domain, extent_yx_m: tuple[float, float]) -> Site:
    """Draw villages and a river for the ground of `extent_yx_m`; the river keeps away from the first village."""
    rng = stream(seed, "site")
    height, width = extent_yx_m
    villages = []
    for top in np.arange(0.0, max(height - 0.5 * _BLOCK_M, 1.0), _BLOCK_M):
        for left in np.arange(0.0, max(width - 0.5 * _BLOCK_M, 1.0), _BLOCK_M):
            y = top + rng.uniform(0.2, 0.8) * min(_BLOCK_M, height)
            x = left + rng.uniform(0.2, 0.8) * min(_BLOCK_M, width)
            radius = rng.uniform(45.0, 85.0)
            if rng.random() < domain.towns:
                villages.append(Village(float(x), float(y), float(radius)))
    river = _draw_river(rng, (height, width), villages) if rng.random() < domain.rivers else None
    return Site(seed, domain, tuple(villages), river)


def _draw_river(rng: np.random.Generator, extent_yx_m: tuple[float, float], villages: list[Village]) -> River:
    height, width = extent_yx_m
    waves = tuple(
        (float(rng.uniform(low, high)), float(rng.uniform(short, long)), float(rng.uniform(0, 2 * np.pi)))
        for low, high, short, long in ((14, 26, 210, 320), (4, 8, 90, 140))
    )
    half_width = float(rng.uniform(3.5, 9.0))
    best, distance = None, -np.inf
    for _ in range(12):
        angle = float(rng.uniform(-0.7, 0.7) + (np.pi / 2 if rng.random() < 0.5 else 0.0))
        x, y = rng.uniform(0.1, 0.9) * width, rng.uniform(0.1, 0.9) * height
        river = River(angle, float(y * np.cos(angle) - x * np.sin(angle)), half_width, waves)
        gaps = [river.distance(*np.array([[v.y], [v.x]], np.float32)).item() - v.radius for v in villages]
        gap = min(gaps, default=0.0)
        if gap > distance:
            best, distance = river, gap
    assert best is not None
    return best
