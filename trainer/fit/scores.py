"""Scores of a plan on tiles with truth."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...engine.engine import Engine
from ...engine.flairhub import dates_key
from ...engine.plan.network import Task
from ...engine.series import clear_dates
from .world import TrainingTile

__all__ = ["Scores", "score"]


@dataclass(frozen=True)
class Scores:
    """Scores of one task.

    Attributes:
        iou: class name -> intersection over union, for evaluated classes that occur in truth or map.
        accuracy: fraction of valid pixels with the right class.
    """

    iou: dict[str, float]
    accuracy: float

    @property
    def mean_iou(self) -> float:
        """Mean over the classes of `iou`."""
        return float(np.mean(list(self.iou.values())))


def score(engine: Engine, tiles: Iterable[TrainingTile], *, absent: Sequence[str] = ()) -> dict[str, Scores]:
    """Map tiles and compare with their truth; every valid pixel counts, also where an ignored class was predicted.

    Args:
        engine: a loaded plan.
        tiles: with truth.
        absent: modalities to leave out.
    """
    tasks = {task.name: task for task in engine.manifest.tasks}
    counts = {name: np.zeros((len(task.classes),) * 2, np.int64) for name, task in tasks.items()}
    for tile in tiles:
        labels = engine.predict(_inputs(engine, tile, absent)).labels
        for name, task in tasks.items():
            counts[name] += _confusion(tile.labels[name], labels[name][0], task)
    return {name: _scores(counts[name], task) for name, task in tasks.items()}


def _inputs(engine: Engine, tile: TrainingTile, absent: Sequence[str]) -> dict[str, Any]:
    inputs: dict[str, Any] = {}
    for modality in engine.manifest.modalities:
        if modality.name in absent:
            continue
        values = tile.sensors[modality.name]
        if modality.kind == "image":
            inputs[modality.name] = values
            continue
        dates = tile.sensors[dates_key(modality.name)]
        kept = np.arange(len(values))
        if modality.filter is not None:
            kept = clear_dates(tile.snow_cloud, rule=modality.filter)
        inputs[modality.name] = [values[kept]]
        inputs[dates_key(modality.name)] = [dates[kept]]
    return inputs


def _confusion(truth: NDArray[np.uint8], found: NDArray[np.uint8], task: Task) -> NDArray[np.int64]:
    classes = len(task.classes)
    evaluated = np.array([not entry.ignored for entry in task.classes])
    valid = truth < classes
    valid[valid] = evaluated[truth[valid]]
    pairs = truth[valid].astype(np.int64) * classes + found[valid]
    return np.bincount(pairs, minlength=classes * classes).reshape(classes, classes)


def _scores(confusion: NDArray[np.int64], task: Task) -> Scores:
    right = np.diag(confusion)
    union = confusion.sum(0) + confusion.sum(1) - right
    iou = {
        entry.name: float(right[value] / union[value])
        for value, entry in enumerate(task.classes)
        if not entry.ignored and union[value] > 0
    }
    return Scores(iou, float(right.sum() / max(confusion.sum(), 1)))
