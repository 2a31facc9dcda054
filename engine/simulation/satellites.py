"""Sentinel-2 and Sentinel-1: one year of passes over the same surfaces, each on its own dates."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .clouds import make_sky
from .domain import Domain
from .footprint import Footprints, cell_means
from .landscape import Landscape
from .light import Sun, shade_slopes
from .materials import OPTICAL, RADAR
from .noise import Floats, Grid, blur

__all__ = ["CELL_M", "Passes", "day_of_year", "radar_dates", "sentinel1", "sentinel2", "sentinel2_dates"]

CELL_M = 10.24

_Dates = NDArray[np.datetime64]
_CLOUD = np.array([0.58, 0.56, 0.55, 0.56, 0.57, 0.58, 0.59, 0.59, 0.42, 0.33], np.float32)
_SNOW = np.array([0.80, 0.80, 0.78, 0.77, 0.76, 0.74, 0.72, 0.70, 0.11, 0.09], np.float32)
_HAZE = np.array([0.016, 0.010, 0.006, 0.004, 0.003, 0.002, 0.002, 0.002, 0.001, 0.001], np.float32)
_LOOKS = 4.4  # of a ground-range product at 10 m


@dataclass(frozen=True)
class Passes:
    """A series as the satellite delivers it: values [T, C, Y, X] at 10.24 m, and dates datetime64[D] [T]."""

    values: NDArray[np.generic]
    dates: _Dates


def day_of_year(dates: _Dates) -> NDArray[np.float64]:
    """Return the day of the year of each date, 1 on 1 January."""
    since: NDArray[np.float64] = (dates - dates.astype("datetime64[Y]").astype("datetime64[D]")).astype(np.float64)
    return since + 1


def sentinel2_dates(year: int, rng: np.random.Generator) -> _Dates:
    """Return about 91 dates: one orbit every five days, and some passes of the neighbouring one."""
    start = np.datetime64(f"{year}-01-01", "D")
    first = int(rng.integers(0, 5))
    own = np.arange(first, 365, 5)
    beside = np.arange((first + 3) % 5, 365, 5)
    beside = beside[rng.random(len(beside)) < 0.27]
    return np.sort(start + np.concatenate([own, beside]))


def radar_dates(year: int, tracks: tuple[int, ...]) -> tuple[_Dates, NDArray[np.intp]]:
    """Return the dates of passes every six days on each track, first days given, and the track of each."""
    start = np.datetime64(f"{year}-01-01", "D")
    days = np.concatenate([np.arange(first, 365, 6) for first in tracks])
    track = np.concatenate([np.full(len(range(first, 365, 6)), k) for k, first in enumerate(tracks)])
    order = np.argsort(days, kind="stable")
    return start + days[order], track[order]


def _cell_grid(landscape: Landscape) -> tuple[Grid, Floats]:
    """Return the grid of 10.24 m cells and the mean altitude of the ground in each."""
    terrain = cell_means(landscape.terrain)
    return Grid((terrain.shape[0], terrain.shape[1]), CELL_M), terrain


def sentinel2(
    landscape: Landscape, footprints: Footprints, dates: _Dates, domain: Domain, rng: np.random.Generator
) -> tuple[Passes, NDArray[np.uint8]]:
    """Return ten bands, uint16 [T, 10, Y, X], reflectance times 10,000, and the mask of snow and cloud [T, 2, Y, X]."""
    days = day_of_year(dates)
    grid, terrain = _cell_grid(landscape)
    ground = footprints.mean(landscape.surfaces.series(days)[..., OPTICAL])  # [Y, X, T, C]
    ground = np.ascontiguousarray(ground.transpose(2, 3, 0, 1))
    texture = cell_means(landscape.tint)
    sky = make_sky(grid, days, domain, rng)
    shelter = 1 - 0.6 * np.clip(cell_means(np.minimum(landscape.height, 8)) / 5, 0, 1)  # crowns hide snow
    values = np.empty(ground.shape, np.uint16)
    for t, day in enumerate(days):
        height = np.radians(44 + 22 * np.sin((day - 81) * 2 * np.pi / 365))
        light = shade_slopes(terrain, CELL_M, Sun(np.radians(155), float(height)))
        air = 1 + rng.normal(0, 0.03)
        signal = ground[t] * (light * texture * np.float32(air))
        lying = sky.snow[t] * shelter
        signal += lying * (_SNOW[:, None, None] * light - signal)
        signal = blur(signal, 0.35) * sky.shadow[t] + np.float32(rng.gamma(2.0, 0.5)) * _HAZE[:, None, None]
        white = _CLOUD[:, None, None] * np.float32(rng.uniform(0.7, 1.35))
        signal += sky.cloud[t] * (white - signal)
        signal *= 1 + 0.012 * rng.standard_normal(signal.shape, dtype=np.float32)
        values[t] = np.clip(np.rint(signal * 10_000), 1, 65535)
    return Passes(values, dates), sky.mask


def sentinel1(
    landscape: Landscape,
    footprints: Footprints,
    dates: _Dates,
    track: NDArray[np.intp],
    rng: np.random.Generator,
    *,
    look_azimuth: float,
) -> Passes:
    """Return VV and VH, float32 [T, 2, Y, X], as linear power with speckle.

    Args:
        landscape: the world.
        footprints: shares of its surfaces in each cell.
        dates: of the passes [T].
        track: number of each pass's track [T]; tracks differ in angle of incidence.
        rng: chance of rain and speckle.
        look_azimuth: direction in which the radar looks, radians clockwise from north; orbits differ in it.
    """
    days = day_of_year(dates)
    _, terrain = _cell_grid(landscape)
    per_surface = landscape.surfaces.series(days)[..., RADAR]  # [N, T, 2]
    # Walls and rows that face the radar throw it back; direction is that of the wall, the look is across it.
    turn = landscape.surfaces.facing() - (look_azimuth - np.pi / 2)
    corner = np.where(np.isnan(turn), 1.0, 0.55 + 0.9 * np.cos(2 * np.nan_to_num(turn)) ** 4).astype(np.float32)
    power = footprints.mean(per_surface * corner[:, None, None]).transpose(2, 3, 0, 1)  # [T, C, Y, X]
    dy, dx = np.gradient(terrain, CELL_M)
    tilt = np.exp(-2.0 * np.clip(np.sin(look_azimuth) * dx - np.cos(look_azimuth) * dy, -0.4, 0.4))
    wet = np.exp(_rain(days, rng))[:, None, None, None] * np.array([1.0, 0.85], np.float32)[:, None, None]
    incidence = np.array([1.0, 0.82, 1.15], np.float32)[track][:, None, None, None]
    speckle = rng.standard_gamma(_LOOKS, power.shape, dtype=np.float32) * np.float32(1 / _LOOKS)
    return Passes((power * speckle * wet * incidence * tilt + np.float32(2e-4)).astype(np.float32), dates)


def _rain(days: NDArray[np.float64], rng: np.random.Generator) -> Floats:
    """Return the logarithm of the brightening of wet ground on each day: rain falls, soil dries within a week."""
    level, wet, last = 0.0, [], days[0]
    for day in days:
        level *= float(np.exp(-(day - last) / 5.0))
        last = day
        if rng.random() < 0.3:
            level = min(0.5, level + float(rng.gamma(2.0, 0.09)))
        wet.append(level - 0.08)
    return np.array(wet, np.float32)
