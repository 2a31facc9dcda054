"""A map against the truth: areas, and how far both agree on each class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from ..plan.network import Task
from ..prediction import VOID

__all__ = ["Agreement", "ClassAgreement", "compare"]

_HECTARE_M2 = 10_000.0


@dataclass(frozen=True)
class ClassAgreement:
    """One class that occurs in the map or in the truth.

    Attributes:
        name: as in the plan.
        colour: `#rrggbb`, as in the plan.
        mapped_ha: area on the map.
        share: of the map's area that is not void, 0 to 1.
        true_ha: area in the truth where the map is not void; None where there is no truth.
        users: user's accuracy, the fraction of the mapped area that is right; None where nothing is mapped.
        producers: producer's accuracy, the fraction of the true area that was found; None where there is none.
        iou: intersection over union of both areas; None where there is no truth, or the class is left out of scores.
    """

    name: str
    colour: str
    mapped_ha: float
    share: float
    true_ha: float | None
    users: float | None
    producers: float | None
    iou: float | None


@dataclass(frozen=True)
class Agreement:
    """One task.

    Attributes:
        classes: those that occur in the map or in the truth, the largest on the map first.
        mapped_ha: area of the map that is not void.
        void_share: void share of the map's pixels, 0 to 1.
        accuracy: overall accuracy, the fraction of the area in the right class; None where there is no truth.
    """

    classes: tuple[ClassAgreement, ...]
    mapped_ha: float
    void_share: float
    accuracy: float | None

    @property
    def mean_iou(self) -> float | None:
        """Mean IoU over the classes that have one."""
        scores = [entry.iou for entry in self.classes if entry.iou is not None]
        return float(np.mean(scores)) if scores else None


def compare(
    labels: NDArray[np.uint8], *, task: Task, pixel_m2: float, truth: NDArray[np.uint8] | None = None
) -> Agreement:
    """Measure areas, and count where map and truth agree.

    Args:
        labels: the map, [Y, X]; 255 where void.
        task: what the labels mean.
        pixel_m2: area of a pixel on the ground.
        truth: on the same pixels, 255 where unknown; None where the task has no truth.
    """
    counts = np.bincount(labels.ravel(), minlength=VOID + 1)
    confusion = None if truth is None else _confusion(labels, truth)
    occurs = counts[:VOID] > 0 if confusion is None else (counts[:VOID] > 0) | confusion.any(axis=1)
    valid = int(counts[:VOID].sum())
    classes = [
        ClassAgreement(
            name=entry.name,
            colour=entry.colour,
            mapped_ha=float(counts[value]) * pixel_m2 / _HECTARE_M2,
            share=float(counts[value]) / max(valid, 1),
            **_scores(confusion, value, pixel_m2, scored=not entry.ignored),
        )
        for value, entry in enumerate(task.classes)
        if occurs[value]
    ]
    return Agreement(
        classes=tuple(sorted(classes, key=lambda entry: -entry.mapped_ha)),
        mapped_ha=valid * pixel_m2 / _HECTARE_M2,
        void_share=float(counts[VOID] / labels.size),
        accuracy=None if confusion is None else _ratio(np.trace(confusion), confusion.sum()),
    )


class _Scores(TypedDict):
    true_ha: float | None
    users: float | None
    producers: float | None
    iou: float | None


def _scores(confusion: NDArray[np.int64] | None, value: int, pixel_m2: float, *, scored: bool) -> _Scores:
    if confusion is None:
        return _Scores(true_ha=None, users=None, producers=None, iou=None)
    right, true, mapped = confusion[value, value], confusion[value].sum(), confusion[:, value].sum()
    return _Scores(
        true_ha=float(true) * pixel_m2 / _HECTARE_M2,
        users=_ratio(right, mapped),
        producers=_ratio(right, true),
        iou=_ratio(right, true + mapped - right) if scored else None,
    )


def _confusion(labels: NDArray[np.uint8], truth: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Pixels by true (rows) and mapped class (columns), where both are known."""
    known = (labels != VOID) & (truth != VOID)
    pairs = truth[known].astype(np.int64) * VOID + labels[known]
    return np.bincount(pairs, minlength=VOID * VOID).reshape(VOID, VOID)


def _ratio(part: np.int64, whole: np.int64) -> float | None:
    return float(part / whole) if whole else None
