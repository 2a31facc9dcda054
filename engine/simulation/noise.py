"""Grids, streams of chance, and smooth random fields: what everything else is drawn with.

A field is drawn on a lattice whose spacing is given in metres and interpolated to the pixels by cubic B-splines. Two
grids of different pixel size over the same ground therefore see the same field, which is how the old photograph shows
the same hills and rivers as the new one.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Floats", "Grid", "Table", "blur", "fractal", "smooth", "smoothstep", "stream"]

Floats = NDArray[np.float32]

# A B-spline field of unit lattice noise has a standard deviation of about 0.479 over the plane.
_SPLINE_STD = 0.479


def stream(seed: int, *subject: str | int) -> np.random.Generator:
    """Return a generator of its own for `subject`: drawing more of one thing never changes another."""
    return np.random.default_rng([seed, *(zlib.crc32(str(part).encode()) for part in subject)])


@dataclass(frozen=True)
class Grid:
    """Pixels over the ground: x grows eastwards, y southwards, both in metres from the north-west corner."""

    shape_yx: tuple[int, int]
    gsd_m: float

    @property
    def extent_yx_m(self) -> tuple[float, float]:
        """Height and width of the ground that the grid covers."""
        height, width = (round(size * self.gsd_m, 6) for size in self.shape_yx)
        return height, width

    def axes(self) -> tuple[Floats, Floats]:
        """Return y `[Y, 1]` and x `[1, X]` of the pixel centres in metres."""
        y, x = (((np.arange(n) + 0.5) * self.gsd_m).astype(np.float32) for n in self.shape_yx)
        return y[:, None], x[None, :]


def _spline(lattice: Floats, positions: NDArray[np.float64], axis: int) -> Floats:
    """Interpolate along `axis` at `positions`, counted in lattice steps from the second row."""
    first = np.floor(positions).astype(np.intp)
    t = positions - first
    taps = ((1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3)
    shape = (-1, 1) if axis == 0 else (1, -1)
    values: Floats = np.zeros(1, np.float32)
    for k, weight in enumerate(taps):
        values = values + np.take(lattice, first + k, axis) * (weight / 6).astype(np.float32).reshape(shape)
    return values


def smooth(rng: np.random.Generator, grid: Grid, scale_m: float) -> Floats:
    """Draw a smooth field `[Y, X]` of mean 0 and standard deviation 1 with features of about `scale_m` metres."""
    steps = [int(np.ceil(extent / scale_m)) + 4 for extent in grid.extent_yx_m]
    lattice = rng.standard_normal(steps, dtype=np.float32)
    # The offset keeps lattice points, where a spline is a little flatter, away from the scene's corner.
    offsets = rng.random(2)
    y, x = ((np.arange(n) + 0.5) * (grid.gsd_m / scale_m) + o for n, o in zip(grid.shape_yx, offsets, strict=True))
    field: Floats = _spline(_spline(lattice, y, 0), x, 1) * np.float32(1 / _SPLINE_STD)
    return field


def fractal(
    rng: np.random.Generator, grid: Grid, scale_m: float, *, octaves: int = 3, roughness: float = 0.5
) -> Floats:
    """Sum `octaves` smooth fields, each half the size and `roughness` times the strength; standard deviation 1."""
    field: Floats = np.zeros(grid.shape_yx, np.float32)
    for k in range(octaves):
        field += smooth(rng, grid, scale_m / 2**k) * np.float32(roughness**k)
    field *= np.float32(1 / np.sqrt(sum(roughness ** (2 * k) for k in range(octaves))))
    return field


class Table:
    """Smooth noise that can be read at any pair of coordinates; it repeats after 256 lattice steps."""

    _SIDE = 256

    def __init__(self, rng: np.random.Generator) -> None:
        self._values = rng.standard_normal((self._SIDE, self._SIDE), dtype=np.float32)

    def __call__(self, along: Floats, across: Floats) -> Floats:
        """Return noise of standard deviation about 0.6 at lattice coordinates `along` and `across` of any one shape."""
        first, second = np.floor(along), np.floor(across)
        s, t = smoothstep(along - first), smoothstep(across - second)
        i, j = first.astype(np.int32), second.astype(np.int32)
        wrap = self._SIDE - 1
        here, below = (i & wrap) * self._SIDE, ((i + 1) & wrap) * self._SIDE
        left, right = j & wrap, (j + 1) & wrap
        flat = self._values.ravel()
        upper = _between(flat[here + left], flat[here + right], t)
        lower = _between(flat[below + left], flat[below + right], t)
        return _between(upper, lower, s)


def _between(first: Floats, second: Floats, share: Floats) -> Floats:
    mixed: Floats = first + (second - first) * share
    return mixed


def smoothstep(values: Floats, low: float = 0.0, high: float = 1.0) -> Floats:
    """Rise smoothly from 0 at `low` to 1 at `high`."""
    t = np.clip((values - np.float32(low)) * np.float32(1 / (high - low)), 0, 1)
    eased: Floats = t * t * (3 - 2 * t)
    return eased


def blur(values: Floats, sigma_px: float) -> Floats:
    """Blur the last two axes with a Gaussian; edges are continued."""
    radius = max(1, int(np.ceil(2.5 * sigma_px)))
    taps = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma_px) ** 2)
    taps = (taps / taps.sum()).astype(np.float32)
    for axis in (-2, -1):
        size = values.shape[axis]
        pads = [(radius, radius) if a - values.ndim == axis else (0, 0) for a in range(values.ndim)]
        padded = np.pad(values, pads, mode="edge")
        blurred = np.zeros(values.shape, np.float32)
        for k, tap in enumerate(taps):
            shifted = padded[..., k : k + size, :] if axis == -2 else padded[..., k : k + size]
            blurred += shifted * tap
        values = blurred
    return values
