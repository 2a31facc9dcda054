"""Tiles of the simulated world, ready for training."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...engine.flairhub import MODALITIES, TASKS, dates_key
from ...engine.simulation import DOMAINS, MASK, simulate

__all__ = ["TrainingTile", "simulate_tiles"]

_SCENE_PX = 1024
_TILE_PX = 512


@dataclass(frozen=True)
class TrainingTile:
    """One place: raw digital numbers of every sensor, and the truth.

    Attributes:
        domain: region the place lies in.
        sensors: modality -> [C, Y, X] or [T, C, Y, X]; `<SENSOR>_DATES` -> datetime64[D] [T].
        snow_cloud: [T, 2, Y, X] percent, of the Sentinel-2 series.
        labels: task -> classes [Y, X] uint8, 255 where unknown.
    """

    domain: str
    sensors: dict[str, NDArray[Any]]
    snow_cloud: NDArray[np.uint8]
    labels: dict[str, NDArray[np.uint8]]

    def quarter(self, row: int, column: int) -> TrainingTile:
        """One of its four quarters of 256 px; `row` and `column` are 0 or 1."""

        def cut(raster: NDArray[Any]) -> NDArray[Any]:
            height, width = (side // 2 for side in raster.shape[-2:])
            return raster[..., row * height : (row + 1) * height, column * width : (column + 1) * width]

        return TrainingTile(
            self.domain,
            {name: raster if raster.ndim == 1 else cut(raster) for name, raster in self.sensors.items()},
            cut(self.snow_cloud),
            {task: cut(label) for task, label in self.labels.items()},
        )


def simulate_tiles(seeds: Iterable[int], *, workers: int = 1) -> Iterator[TrainingTile]:
    """Four tiles of 512 px for each seed; the seed also chooses the region.

    Args:
        seeds: one scene each; the same seed gives the same tiles.
        workers: processes that simulate.
    """
    if workers == 1:
        for seed in seeds:
            yield from _scene_tiles(seed)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        for tiles in pool.map(_scene_tiles, seeds):
            yield from tiles


def _scene_tiles(seed: int) -> list[TrainingTile]:
    names = sorted(DOMAINS)
    domain = DOMAINS[names[seed % len(names)]]
    scene = simulate(seed, shape_yx_px=(_SCENE_PX, _SCENE_PX), domain=domain)
    corners = range(0, _SCENE_PX, _TILE_PX)
    return [_tile(scene.tile(row, column, _TILE_PX), domain.name) for row in corners for column in corners]


def _tile(cut: dict[str, Any], domain: str) -> TrainingTile:
    series = [name for name, facts in MODALITIES.items() if facts.kind == "series"]
    wanted = [*MODALITIES, *map(dates_key, series)]
    return TrainingTile(
        domain=domain,
        sensors={name: np.ascontiguousarray(cut[name]) for name in wanted},
        snow_cloud=np.ascontiguousarray(cut[MASK]),
        labels={task: np.ascontiguousarray(cut[task]) for task in TASKS},
    )
