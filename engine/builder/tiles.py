"""The user's tiles on which a plan is quantised: some give the ranges of its maps, others say what it costs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import RasterError
from ..plan.manifest import Manifest
from ..rasters.reader import SceneReader, TileInputs
from ..rasters.scene import Scene
from ..rasters.tiling import TilePlace, Tiling
from ..tiles import Tile, check_tiles
from .truth import LabelRaster

__all__ = ["CalibrationTiles", "Sample", "spread_places", "tiles_of_scene"]

_GOLDEN_YX = (0.7548776662466927, 0.5698402909980532)
"""Steps of the R2 sequence: the first n of its points lie evenly in a square, for every n (M. Roberts, 2018)."""


@dataclass(frozen=True)
class Sample:
    """One tile as a batch of one, as `Engine.predict` takes it.

    Attributes:
        tiles: modality -> [1, C, Y, X], or [T, C, Y, X] with its dates.
        voids: modality -> True where void.
        truth: task -> classes [Y, X] at the size of the labels, 255 where unknown; empty where nobody knows.
    """

    tiles: Mapping[str, Any]
    voids: Mapping[str, Any] = field(default_factory=dict)
    truth: Mapping[str, NDArray[np.uint8]] = field(default_factory=dict)

    def checked(self, manifest: Manifest) -> Tile:
        """The tile, checked against a plan.

        Raises:
            TileError: it is not what the plan takes.
        """
        return check_tiles(self.tiles, manifest=manifest, voids=self.voids or None)[0]


@dataclass(frozen=True)
class CalibrationTiles:
    """Tiles of two uses that share no pixel.

    Attributes:
        ranges: from which the ranges of maps are taken.
        accuracy: on which the limit has to hold.
    """

    ranges: tuple[Sample, ...]
    accuracy: tuple[Sample, ...]

    def __post_init__(self) -> None:
        if not self.ranges or not self.accuracy:
            raise RasterError(
                f"{len(self.ranges)} tiles for ranges and {len(self.accuracy)} for accuracy, expected some of each; "
                "give a scene of at least two tiles that are not void"
            )

    def __iter__(self) -> Iterator[tuple[Sample, ...]]:
        return iter((self.ranges, self.accuracy))

    @classmethod
    def split(cls, samples: Sequence[Sample]) -> CalibrationTiles:
        """Every other tile for ranges, the others for accuracy."""
        return cls(tuple(samples[::2]), tuple(samples[1::2]))


def tiles_of_scene(
    scene: Scene,
    manifest: Manifest,
    *,
    labels: Mapping[str, Path] | None = None,
    most: int = 32,
    seed: int = 0,
) -> CalibrationTiles:
    """Tiles of the user's rasters, spread over the base raster.

    Args:
        scene: where the rasters are.
        manifest: what the plan takes.
        labels: task -> raster of its truth, where the user has one: one band of classes by the plan's numbers.
        most: tiles for both uses together; fewer where the raster holds fewer that are not void.
        seed: chooses which; the same seed gives the same tiles.

    Raises:
        RasterError: a raster is not what the plan takes, or there are fewer than two tiles.
    """
    labels = labels or {}
    unknown = sorted(set(labels) - {task.name for task in manifest.tasks})
    if unknown:
        raise RasterError(f"labels are given for {unknown[0]}, which the plan does not map; leave them out")
    with ExitStack() as stack:
        reader = stack.enter_context(SceneReader(manifest, scene))
        truths = {
            name: stack.enter_context(LabelRaster(path, task=manifest.task(name))) for name, path in labels.items()
        }
        found = []
        for place in spread_places(Tiling(reader.grid.shape_yx, tile_px=manifest.base_px, halo_px=0), seed=seed):
            inputs = reader.read(place)
            if inputs is not None:
                px = manifest.label_px
                truth = {name: raster.square(reader.grid, place, px=px) for name, raster in truths.items()}
                found.append(_sample(inputs, truth))
            if len(found) == most:
                break
    return CalibrationTiles.split(found)


def spread_places(tiling: Tiling, *, seed: int) -> Iterator[TilePlace]:
    """Places of a tiling that overlap with no other, each once: wherever one stops, what came is spread evenly."""
    whole = [place for place in tiling if all(span.start == span.core_start for span in (place.rows, place.columns))]
    rows = sorted({place.rows.start for place in whole})
    columns = sorted({place.columns.start for place in whole})
    left = {(place.rows.start, place.columns.start): place for place in whole}
    point = np.random.default_rng(seed).random(2)
    while left:
        row, column = rows[int(point[0] * len(rows))], columns[int(point[1] * len(columns))]
        if (row, column) in left:
            yield left.pop((row, column))
        point = (point + _GOLDEN_YX) % 1.0


def _sample(inputs: TileInputs, truth: Mapping[str, NDArray[np.uint8]]) -> Sample:
    return Sample(
        {name: values[None] if values.ndim == 3 else values for name, values in inputs.tiles.items()},
        {name: void[None] if void.ndim == 2 else void for name, void in inputs.voids.items()},
        truth,
    )
