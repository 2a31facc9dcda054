"""Texture: rows, tramlines and streaks of worked land, mottling of everything else."""

from __future__ import annotations

import numpy as np

from .ground import Ground
from .noise import Floats, Table, fractal, smooth

__all__ = ["weave"]

_HEADLAND_M = 7.5
_AT_ONCE = 1 << 17


def weave(ground: Ground, rng: np.random.Generator) -> None:
    """Fill pattern and tint of the canvas, before anything stands on it."""
    grid, canvas = ground.canvas.grid, ground.canvas
    canvas.pattern = 0.55 * fractal(rng, grid, 3.0, octaves=3, roughness=0.7) + 0.5 * fractal(
        rng, grid, 26.0, octaves=3
    )
    canvas.pattern += 0.35 * rng.standard_normal(grid.shape_yx, dtype=np.float32)
    canvas.tint = 1 + 0.035 * smooth(rng, grid, 45.0) + 0.03 * fractal(rng, grid, 5.0, octaves=2)
    canvas.tint += 0.03 * rng.standard_normal(grid.shape_yx, dtype=np.float32)
    _rows(ground, rng)


def _rows(ground: Ground, rng: np.random.Generator) -> None:
    """Add what machines leave: streaks along the rows, the rows themselves (vines stand up), and tramlines."""
    parcels = ground.parcels
    spacing = np.array([p.row_m for p in parcels], np.float32)
    strength = np.array([p.rows for p in parcels], np.float32)
    tram = np.array([p.tram_m for p in parcels], np.float32)
    angle = np.array([p.angle for p in parcels], np.float32)
    worked = np.flatnonzero(((strength > 0)[ground.number] & (ground.border_m > 0)).ravel())
    table = Table(rng)
    flat = {name: getattr(ground, name).ravel() for name in ("number", "border_m", "cut", "y", "x")}
    pattern, height = ground.canvas.pattern.ravel(), ground.canvas.height.ravel()  # views
    for start in range(0, len(worked), _AT_ONCE):
        at = worked[start : start + _AT_ONCE]
        number, y, x = flat["number"][at], flat["y"][at], flat["x"][at]
        turn = angle[number]
        along, across = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
        turned = (flat["border_m"][at] < _HEADLAND_M) & (strength[number] < 2)
        along = np.where(turned, ground.division.along(flat["cut"][at], y, x), along)
        across = np.where(turned, flat["border_m"][at] + 300, across)
        streaks = 0.5 * table(along * np.float32(1 / 14), across * np.float32(1 / 0.8))
        streaks += 0.45 * table(along * np.float32(1 / 45) + 77, across * np.float32(1 / 3.1))
        pattern[at] = 0.6 * pattern[at] + streaks
        furrows = _furrows(across, spacing[number])
        pattern[at] += strength[number] * furrows
        height[at] = np.where(strength[number] > 2, np.clip(1.1 * furrows + 0.4 * streaks, 0, 1.4), 0)
        pattern[at] -= 1.5 * _tramlines(across, tram[number])


def _furrows(across: Floats, spacing: Floats) -> Floats:
    turns = np.where(spacing > 0, across / np.maximum(spacing, np.float32(0.1)), np.float32(0.25))
    furrows: Floats = np.cos(turns * np.float32(2 * np.pi))
    return furrows


def _tramlines(across: Floats, spacing: Floats) -> Floats:
    """Return 1 in the two wheel tracks, 1.8 m apart, of every pass of the sprayer."""
    apart = np.abs(np.mod(across, np.maximum(spacing, np.float32(1))) - spacing / 2)
    wheel = np.abs(apart - np.float32(0.9)) < np.float32(0.22)
    tracks: Floats = (wheel & (spacing > 0)).astype(np.float32)
    return tracks
