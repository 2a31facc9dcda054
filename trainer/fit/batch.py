"""Training tiles to batches, through the engine's own preparation, so that training and inference cannot differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...engine.flairhub import dates_key
from ...engine.plan.network import Modality
from ...engine.prepare import prepare_image, prepare_series
from ...engine.series import clear_dates, days_from_reference
from ...engine.tiles import ImageTile, SeriesTile
from .world import TrainingTile

__all__ = ["Batch", "make_batch"]


@dataclass(frozen=True)
class Batch:
    """What the network takes, and the truth: task -> labels [B, Y, X] int64."""

    inputs: dict[str, Tensor]
    days: dict[str, Tensor]
    masks: dict[str, Tensor]
    labels: dict[str, Tensor]


def make_batch(
    tiles: Sequence[TrainingTile],
    modalities: Mapping[str, Modality],
    *,
    rng: np.random.Generator,
    present: Sequence[str],
    max_dates: int,
) -> Batch:
    """Turn, thin out, prepare and stack some tiles.

    Each tile is flipped and turned at random, all sensors alike. Of each series a random part of its clear
    acquisitions is kept.

    Args:
        tiles: of the same size.
        modalities: what the network takes.
        rng: source of chance.
        present: modalities to include.
        max_dates: largest number of acquisitions kept.
    """
    inputs: dict[str, list[NDArray[np.float32]]] = {name: [] for name in present}
    days: dict[str, list[NDArray[np.float32]]] = {}
    masks: dict[str, list[NDArray[np.float32]]] = {}
    labels: dict[str, list[NDArray[Any]]] = {task: [] for task in tiles[0].labels}
    for tile in tiles:
        turns, flip = int(rng.integers(4)), bool(rng.integers(2))
        for name in present:
            modality = modalities[name]
            pixels = _turned(tile.sensors[name], turns, flip)
            if modality.kind == "image":
                inputs[name].append(prepare_image(ImageTile(pixels, None), modality)[0])
                continue
            kept = _kept(tile, modality, rng, max_dates)
            dates = days_from_reference(tile.sensors[dates_key(name)][kept], reference_day=modality.reference_day or "")
            series, when, mask = prepare_series(SeriesTile(pixels[kept], dates, None), modality)
            inputs[name].append(series[0])
            days.setdefault(name, []).append(when[0])
            masks.setdefault(name, []).append(mask[0])
        for task, label in tile.labels.items():
            labels[task].append(_turned(label, turns, flip))
    return Batch(
        {name: torch.from_numpy(_stack(values)) for name, values in inputs.items()},
        {name: torch.from_numpy(_stack(values)) for name, values in days.items()},
        {name: torch.from_numpy(_stack(values)) for name, values in masks.items()},
        {task: torch.from_numpy(np.stack(values).astype(np.int64)) for task, values in labels.items()},
    )


def _kept(tile: TrainingTile, modality: Modality, rng: np.random.Generator, most: int) -> NDArray[np.intp]:
    """Indices of a random part of the clear acquisitions, in order."""
    if modality.filter is not None:
        candidates = clear_dates(tile.snow_cloud, rule=modality.filter)
    else:
        candidates = np.arange(len(tile.sensors[modality.name]))
    count = min(len(candidates), int(rng.integers(max(most // 2, 1), most + 1)))
    chosen: NDArray[np.intp] = np.sort(rng.choice(candidates, count, replace=False)).astype(np.intp)
    return chosen


def _turned(raster: NDArray[Any], turns: int, flip: bool) -> NDArray[Any]:
    turned = np.rot90(raster, turns, axes=(-2, -1))
    return np.ascontiguousarray(turned[..., ::-1] if flip else turned)


def _stack(values: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Stack along a new first axis, padding a first axis (dates) that differs with zeros."""
    longest = max(value.shape[0] for value in values)
    padded = [np.pad(v, [(0, longest - v.shape[0])] + [(0, 0)] * (v.ndim - 1)) for v in values]
    return np.stack(padded)
