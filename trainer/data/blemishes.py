"""What makes real data hard beyond the world itself.

Labels miss borders, sensors did not come, swaths end, and some places have no clear day.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...engine.flairhub import TASKS
from ...engine.simulation import MASK, Passes
from ...engine.simulation.classes import Cover
from ...engine.simulation.noise import Grid, fractal, smooth

__all__ = [
    "Absences",
    "blur_borders",
    "cut_swaths",
    "draw_absences",
    "hide",
    "lose_passes",
    "mark_unclear",
    "three_levels",
]

_MISSING = {
    "AERIAL-RLT_PAN": 0.08,
    "DEM_ELEV": 0.04,
    "SPOT_RGBI": 0.08,
    "SENTINEL2_TS": 0.04,
    "SENTINEL1-ASC_TS": 0.06,
    "SENTINEL1-DESC_TS": 0.08,
    "ALL_LABEL-LPIS": 0.1,
}
"""Share of regions of interest that lack a product; the aerial image and the land cover are everywhere."""

_NEVER_CLEAR = 0.05
_ENOUGH_REGIONS = 5
_LOST_PASSES = 0.08
_CUT_PASSES = 0.05
_FULL = 100
_CLOUD, _THROUGH_CLOUD = 5500.0, 0.05
_CLASSES = {entry.name: value for value, entry in enumerate(TASKS["AERIAL_LABEL-COSIA"])}


@dataclass(frozen=True)
class Absences:
    """What one region of interest does without.

    Attributes:
        products: those that it lacks.
        never_clear: whether snow or cloud hides it on every date of Sentinel-2.
    """

    products: frozenset[str]
    never_clear: bool


def draw_absences(regions: int, rng: np.random.Generator) -> list[Absences]:
    """Draw what each region of interest lacks.

    The first one has everything. Among at least five, everything is lacking somewhere.
    """

    def some(share: float, *, without: Collection[int] = ()) -> set[int]:
        count = round(share * regions)
        if regions >= _ENOUGH_REGIONS:
            count = max(count, 1)
        return set(rng.choice([region for region in range(1, regions) if region not in without], count, False).tolist())

    lacking = {product: some(share) for product, share in _MISSING.items()}
    lacking[MASK] = lacking["SENTINEL2_TS"]
    hidden = some(_NEVER_CLEAR, without=lacking["SENTINEL2_TS"])
    return [
        Absences(frozenset(name for name, places in lacking.items() if region in places), region in hidden)
        for region in range(regions)
    ]


def blur_borders(label: NDArray[np.uint8], *, grid: Grid, metres: float, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Move borders of a label [Y, X] to and fro, as a hand does that draws them.

    Args:
        label: classes.
        grid: its pixels.
        metres: standard deviation of the displacement, along each axis.
        rng: source of chance.
    """
    height, width = grid.shape_yx
    offsets = [np.rint(smooth(rng, grid, 7.0) * np.float32(metres / grid.gsd_m)).astype(np.intp) for _ in range(2)]
    rows = np.clip(np.arange(height)[:, None] + offsets[0], 0, height - 1)
    columns = np.clip(np.arange(width)[None, :] + offsets[1], 0, width - 1)
    moved: NDArray[np.uint8] = label[rows, columns]
    return moved


def mark_unclear(cover: NDArray[np.uint8], *, grid: Grid, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Give some woods, and some of anything, to the classes that training ignores: mixed, ligneous, undefined."""
    field = fractal(rng, grid, 45.0)
    wood = (cover == Cover.DECIDUOUS) | (cover == Cover.CONIFEROUS)
    marked: NDArray[np.uint8] = cover.copy()
    marked[wood & (field > np.float32(1.5))] = _CLASSES["mixed"]
    marked[wood & (field < np.float32(-1.8))] = _CLASSES["ligneous"]
    marked[fractal(rng, grid, 45.0) > np.float32(2.4)] = _CLASSES["undefined"]
    return marked


def three_levels(crops: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Levels 1 to 3 of the parcels' classes, [3, Y, X]; the finer ones have numbers of their own."""
    finer = crops + np.where(crops >= 8, 8, 0)
    return np.stack([crops, finer, 2 * crops]).astype(np.uint8)


def lose_passes(passes: Passes, rng: np.random.Generator) -> NDArray[np.intp]:
    """Indices of the acquisitions that were delivered; numbers of dates differ from place to place."""
    return np.flatnonzero(rng.random(len(passes.dates)) >= rng.uniform(0, 2 * _LOST_PASSES))


def cut_swaths(values: NDArray[np.generic], *, void: float, rng: np.random.Generator) -> NDArray[np.generic]:
    """End some acquisitions of [T, C, Y, X] in the middle of the place, or before it.

    Args:
        values: digital numbers.
        void: value of pixels that were not seen.
        rng: source of chance.
    """
    cut: NDArray[np.generic] = values.copy()
    columns = np.arange(values.shape[-1])
    for number in np.flatnonzero(rng.random(len(values)) < _CUT_PASSES):
        edge = rng.integers(0, values.shape[-1])
        cut[number][..., columns >= edge] = void
    return cut


def hide(values: NDArray[np.generic], masks: NDArray[np.uint8]) -> tuple[NDArray[np.generic], NDArray[np.uint8]]:
    """Acquisitions [T, C, Y, X] and masks [T, 2, Y, X] of a place that no date shows: snow, and cloud on it."""
    white = np.rint(_CLOUD + _THROUGH_CLOUD * values.astype(np.float32))
    return white.astype(values.dtype), np.full_like(masks, _FULL)
