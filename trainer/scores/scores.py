"""From a confusion matrix to the scores that the field reports."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["ClassScores", "Scores", "scores_of"]


class _Class(Protocol):
    """What is known of a class: `flairhub.ClassFacts`, or a plan's `ClassEntry`."""

    @property
    def name(self) -> str: ...

    @property
    def ignored(self) -> bool: ...


@dataclass(frozen=True)
class ClassScores:
    """One evaluated class that occurs in truth or map.

    Attributes:
        name: of the class.
        iou: intersection over union, 0 to 1.
        f1: harmonic mean of precision and recall.
        precision: fraction of the pixels mapped so that are right; NaN where none is mapped so.
        recall: fraction of the true pixels that were found; NaN where there are none.
        pixels: true pixels.
    """

    name: str
    iou: float
    f1: float
    precision: float
    recall: float
    pixels: int


@dataclass(frozen=True)
class Scores:
    """One task.

    Attributes:
        classes: evaluated classes that occur, in the order of their values.
        accuracy: fraction of valid pixels with the right class; NaN where there are none.
        pixels: valid pixels: those whose true class is evaluated, whatever was mapped there.
    """

    classes: tuple[ClassScores, ...]
    accuracy: float
    pixels: int

    @property
    def mean_iou(self) -> float:
        """Macro mean of the classes' IoU; NaN where no class occurs."""
        return _mean([entry.iou for entry in self.classes])

    @property
    def mean_f1(self) -> float:
        """Macro mean of the classes' F1; NaN where no class occurs."""
        return _mean([entry.f1 for entry in self.classes])

    def mean_iou_of(self, names: Sequence[str]) -> float:
        """Macro mean of the IoU of some classes, rare ones for instance; NaN where none of them occurs."""
        return _mean([entry.iou for entry in self.classes if entry.name in names])


def scores_of(confusion: NDArray[np.integer], classes: Sequence[_Class]) -> Scores:
    """Scores of one task.

    A pixel counts where its true class is evaluated: one that is mapped as an ignored class is an error, and is not
    left out (FLAIR-HUB's own scores leave it out, which flatters them).

    Args:
        confusion: pixels by true class (rows) and mapped class (columns), [K, K].
        classes: K of them, in the order of their values.

    Raises:
        ValueError: another number of classes.
    """
    if confusion.shape != (len(classes), len(classes)):
        raise ValueError(f"a confusion matrix of {confusion.shape} for {len(classes)} classes; give one of as many")
    evaluated = np.array([not entry.ignored for entry in classes])
    counts = np.where(evaluated[:, None], confusion, 0).astype(np.int64)
    right, true, mapped = np.diag(counts), counts.sum(1), counts.sum(0)
    found = tuple(
        ClassScores(
            name=entry.name,
            iou=_ratio(right[value], true[value] + mapped[value] - right[value]),
            f1=_ratio(2 * right[value], true[value] + mapped[value]),
            precision=_ratio(right[value], mapped[value]),
            recall=_ratio(right[value], true[value]),
            pixels=int(true[value]),
        )
        for value, entry in enumerate(classes)
        if evaluated[value] and true[value] + mapped[value] > 0
    )
    return Scores(found, _ratio(right.sum(), counts.sum()), int(counts.sum()))


def _ratio(part: np.int64, whole: np.int64) -> float:
    return float(part / whole) if whole else math.nan


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else math.nan
