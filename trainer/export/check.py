"""The plan against the network it was made from, in PyTorch float32, on the same tiles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ...engine.agreement import relative_error
from ...engine.engine import Engine
from ...engine.plan.manifest import Manifest
from ...engine.plan.network import Accuracy
from ...engine.prepare import prepare_image, prepare_series
from ...engine.rasters import Scene
from ...engine.rasters.reader import SceneReader
from ...engine.rasters.tiling import Tiling
from ...engine.tiles import ImageTile, check_tiles
from ..network import UPerFuse

__all__ = ["MAX_RELATIVE_ERROR", "MIN_ARGMAX_EQUAL", "Sample", "compare", "real_samples", "reference_logits"]

MAX_RELATIVE_ERROR = 1e-4
"""Largest relative error (L2) of a float32 plan's logits."""

MIN_ARGMAX_EQUAL = 0.9999
"""Smallest fraction of pixels that a float32 plan must put into PyTorch's class."""


@dataclass(frozen=True)
class Sample:
    """A batch that is compared: tiles and voids as `Engine.predict` takes them."""

    tiles: Mapping[str, Any]
    voids: Mapping[str, Any]


def real_samples(scene: Scene, manifest: Manifest, *, most: int) -> list[Sample]:
    """The first tiles of a scene that are not void, one a sample.

    Raises:
        RasterError: a raster of the scene is not what the plan takes.
    """
    with SceneReader(manifest, scene) as reader:
        tiling = Tiling(reader.grid.shape_yx, tile_px=manifest.base_px, halo_px=0)
        inputs = (tile for tile in map(reader.read, tiling) if tile is not None)
        return [
            Sample(
                {name: values[None] for name, values in tile.tiles.items()},
                {name: void[None] for name, void in tile.voids.items()},
            )
            for tile in islice(inputs, most)
        ]


def reference_logits(
    network: UPerFuse, manifest: Manifest, tiles: Mapping[str, Any], *, voids: Mapping[str, Any] | None = None
) -> dict[str, NDArray[np.float32]]:
    """Logits of the network in PyTorch float32 for tiles as `Engine.predict` takes them.

    Returns:
        Task -> float32 [B, K, Y, X] at `manifest.label_px`.
    """
    size = (manifest.label_px, manifest.label_px)
    logits: dict[str, list[NDArray[np.float32]]] = {task.name: [] for task in manifest.tasks}
    for tile in check_tiles(tiles, manifest=manifest, voids=voids):
        inputs, days, masks = {}, {}, {}
        for name, record in tile.items():
            modality = manifest.modality(name)
            if isinstance(record, ImageTile):
                inputs[name] = torch.from_numpy(prepare_image(record, modality))
            else:
                series = (torch.from_numpy(array) for array in prepare_series(record, modality))
                inputs[name], days[name], masks[name] = series
        with torch.inference_mode():
            result = network(inputs, days, masks, output_px=size, base_px=(manifest.base_px,) * 2)
        for task, maps in logits.items():
            maps.append(result[task][0].numpy())
    return {task: np.stack(maps) for task, maps in logits.items()}


def compare(
    engine: Engine,
    samples: Sequence[tuple[Sample, Mapping[str, NDArray[np.float32]]]],
    *,
    what: str,
) -> tuple[Accuracy, ...]:
    """Measure an engine against PyTorch's logits.

    Args:
        engine: the plan, loaded.
        samples: with their reference logits.
        what: the tiles in words.
    """
    got = [engine.predict(sample.tiles, voids=sample.voids, logits=True).logits for sample, _ in samples]
    measured = []
    for task in engine.manifest.tasks:
        ours = np.concatenate([logits[task.name] for logits in got])
        theirs = np.concatenate([logits[task.name] for _, logits in samples])
        measured.append(
            Accuracy(
                task=task.name,
                backend="cpu",
                precision=engine.precision,
                tiles=what,
                relative_error=relative_error(ours, theirs),
                argmax_equal=float((ours.argmax(1) == theirs.argmax(1)).mean()),
            )
        )
    return tuple(measured)
