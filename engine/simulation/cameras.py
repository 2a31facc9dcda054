"""The cameras: aerial colour and infrared, SPOT, the old panchromatic film, and the elevation that photographs give."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .domain import Domain
from .footprint import pixel_means
from .landscape import Landscape
from .light import Sun, cast_shadows, shade_slopes
from .materials import BLUE, GREEN, NIR, RED
from .noise import Floats, blur, fractal, smooth

__all__ = ["aerial", "elevation", "illumination", "panchromatic", "spot"]

_BANDS = (RED, GREEN, BLUE, NIR)

# Share of the light that comes from the sky and reaches shadows too: bluer is more.
_SKY = {RED: 0.15, GREEN: 0.18, BLUE: 0.25, NIR: 0.10}
# The aerial camera's tone curve, digital number = gain * sqrt(reflectance + haze), fitted to FLAIR-HUB's statistics.
_AERIAL = {RED: (382.0, 0.004), GREEN: (392.0, 0.006), BLUE: (410.0, 0.012), NIR: (206.0, 0.002)}
# SPOT's digital numbers are linear in reflectance, above the light that the air scatters.
_SPOT = {RED: (4300.0, 130.0), GREEN: (4700.0, 180.0), BLUE: (4300.0, 260.0), NIR: (4100.0, 60.0)}


def illumination(landscape: Landscape, sun: Sun) -> Floats:
    """Return the direct light on each pixel relative to open level ground, float32 [Y, X]."""
    gsd = landscape.grid.gsd_m
    surface = landscape.terrain + landscape.height
    return shade_slopes(blur(surface, 0.16 / gsd), gsd, sun) * cast_shadows(surface, gsd, sun)


def _reflectance(landscape: Landscape, band: int, state: tuple[Floats, Floats, Floats]) -> Floats:
    """Return the reflectance of every pixel in `band`, its canopy opened and closed by the texture."""
    floor, canopy, cover = state
    entity = landscape.entity
    share = cover[entity] + landscape.surfaces.contrasts()[entity] * landscape.pattern
    np.clip(share, 0, 1, out=share)
    bare = floor[:, band][entity]
    return (bare + (canopy[:, band][entity] - bare) * share) * landscape.tint


def aerial(
    landscape: Landscape, light: Floats, domain: Domain, day: float, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Photograph the world: R, G, B, NIR, uint8 [4, Y, X]; 0 is left to void pixels.

    Args:
        landscape: the world at 0.2 m.
        light: direct light from `illumination`.
        domain: whose haze is in the air.
        day: day of the year.
        rng: chance of exposure, fall-off and noise.
    """
    state = landscape.surfaces.aerial(day)
    grid = landscape.grid
    falloff = 1 + 0.05 * smooth(rng, grid, 400.0) * rng.uniform(0.3, 1.0)
    exposure = rng.uniform(0.93, 1.08)
    image = np.empty((4, *grid.shape_yx), np.uint8)
    for k, band in enumerate(_BANDS):
        gain, veil = _AERIAL[band]
        lit = _reflectance(landscape, band, state) * (_SKY[band] + (1 - _SKY[band]) * light)
        tone = np.sqrt(np.maximum(lit, 0) + np.float32(veil * (0.4 + 2 * domain.haze)))
        numbers = blur(tone * falloff, 0.45) * np.float32(gain * exposure * rng.uniform(0.98, 1.02))
        numbers += rng.standard_normal(grid.shape_yx, dtype=np.float32) * np.float32(1.6)
        image[k] = np.clip(np.rint(numbers), 1, 255)
    return image


def spot(landscape: Landscape, light: Floats, day: float, rng: np.random.Generator) -> NDArray[np.uint16]:
    """Photograph the world from SPOT on another day: R, G, B, NIR, uint16 [4, Y/8, X/8] at 1.6 m."""
    mean = landscape.surfaces.series(np.array([day]))[:, 0]
    exposure = float(np.exp(rng.normal(0, 0.08)))
    image = []
    for band in _BANDS:
        gain, veil = _SPOT[band]
        lit = mean[:, band][landscape.entity] * landscape.tint * (_SKY[band] + (1 - _SKY[band]) * light)
        numbers = blur(pixel_means(lit, 8), 0.45) * np.float32(gain * exposure) + np.float32(veil)
        numbers *= 1 + 0.012 * rng.standard_normal(numbers.shape, dtype=np.float32)
        image.append(np.clip(np.rint(numbers), 1, 65535).astype(np.uint16))
    return np.stack(image)


def elevation(landscape: Landscape, rng: np.random.Generator) -> Floats:
    """Return what matching of photographs makes of the world: DSM and DTM in metres, float32 [2, Y, X]."""
    shape = landscape.grid.shape_yx
    roughness = 0.05 + 0.06 * np.minimum(landscape.height, 6) / 6
    surface = blur(landscape.height, 0.8) + roughness * rng.standard_normal(shape, dtype=np.float32)
    error = 0.12 * smooth(rng, landscape.grid, 30.0)
    terrain = landscape.terrain + error.astype(np.float32)
    return np.stack([landscape.terrain + surface, terrain]).astype(np.float32)


def panchromatic(past: Landscape, light: Floats, day: float, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return the scan of an old photograph of the world `past`: PAN, uint8 [1, Y, X] at 0.4 m.

    The film is grainy, a little out of focus, darker towards a corner, scratched, and developed to taste.
    """
    state = past.surfaces.aerial(day)
    grid = past.grid
    film = sum(
        weight * _reflectance(past, band, state) * (0.2 + 0.8 * light)
        for band, weight in ((RED, 0.5), (GREEN, 0.4), (BLUE, 0.1))
    )
    tone = blur(np.sqrt(np.maximum(film, 0) + np.float32(0.006)), float(rng.uniform(0.9, 1.4)))
    tone = (tone - tone.mean()) / tone.std() * np.float32(rng.uniform(30, 40))
    y, x = grid.axes()
    corner = rng.uniform(0, 1, 2) * grid.extent_yx_m
    reach = np.hypot(y - np.float32(corner[0]), x - np.float32(corner[1])) / np.float32(max(grid.extent_yx_m))
    grain = blur(rng.standard_normal(grid.shape_yx, dtype=np.float32), 0.7) * 7 + 3 * fractal(rng, grid, 60.0)
    numbers = np.float32(rng.uniform(118, 138)) + tone + grain - 16 * reach * reach
    for _ in range(int(rng.poisson(2 * reach.size / 1e6))):
        column = int(rng.integers(0, grid.shape_yx[1]))
        top = int(rng.integers(0, grid.shape_yx[0]))
        numbers[top : top + int(rng.integers(80, 400)), column] += 45
    scan: NDArray[np.uint8] = np.clip(np.rint(numbers), 1, 255).astype(np.uint8)[None]
    return scan
