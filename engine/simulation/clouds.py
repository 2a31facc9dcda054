"""Clouds and snow over a year: what hides the ground from an optical satellite, and what the masks say of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .domain import Domain
from .noise import Floats, Grid, fractal, smooth, smoothstep

__all__ = ["Sky", "make_sky"]


@dataclass(frozen=True)
class Sky:
    """The sky on every date of a series.

    Attributes:
        cloud: share of the light that comes from cloud, float32 [T, Y, X], 0 to 1.
        shadow: factor on the ground's light below clouds, float32 [T, Y, X].
        snow: share of open ground under snow, float32 [T, Y, X].
        mask: snow and cloud as the product reports them, uint8 [T, 2, Y, X], 0 to 100.
    """

    cloud: Floats
    shadow: Floats
    snow: Floats
    mask: NDArray[np.uint8]


def make_sky(grid: Grid, days: NDArray[np.float64], domain: Domain, rng: np.random.Generator) -> Sky:
    """Draw the sky over `grid` on `days` of the year [T]; about half of the dates are cloudy, more so in winter."""
    shape = (len(days), *grid.shape_yx)
    cloud, shadow = np.zeros(shape, np.float32), np.ones(shape, np.float32)
    winter = 0.5 + 0.5 * np.cos((days - 15) * 2 * np.pi / 365)
    for t, gloom in enumerate(winter):
        chance = rng.random()
        if chance < 0.3 + 0.22 * gloom:
            cloud[t] = np.clip(0.86 + 0.12 * fractal(rng, grid, 220.0), 0.45, 1.0)
        elif chance < 0.47 + 0.18 * gloom:
            blobs = fractal(rng, grid, 190.0, octaves=4)
            level = rng.uniform(-0.6, 0.9)
            cloud[t] = 0.97 * smoothstep(blobs, level, level + 0.7)
            drift = rng.integers(-12, 13, 2)
            shadow[t] = 1 - 0.55 * np.roll(cloud[t], tuple(drift), (0, 1))
        elif chance < 0.62:
            cloud[t] = np.clip(0.015 + 0.008 * smooth(rng, grid, 500.0), 0, 0.04)  # haze that no mask reports
    snow = _snow(grid, days, domain, rng)
    mask = np.zeros((len(days), 2, *grid.shape_yx), np.uint8)
    mask[:, 0] = np.rint(100 * smoothstep(snow, 0.15, 0.7) * (cloud < 0.5))
    mask[:, 1] = np.rint(100 * smoothstep(cloud, 0.05, 0.4))
    return Sky(cloud, shadow, snow, mask)


def _snow(grid: Grid, days: NDArray[np.float64], domain: Domain, rng: np.random.Generator) -> Floats:
    snow = np.zeros((len(days), *grid.shape_yx), np.float32)
    cold = np.flatnonzero((days < 60 + domain.season_days) | (days > 335))
    count = min(len(cold), int(rng.poisson(domain.snow_days)))
    for t in rng.choice(cold, count, replace=False):
        snow[t] = np.clip(rng.uniform(0.3, 1.0) + 0.25 * fractal(rng, grid, 90.0), 0, 1)
    return snow
