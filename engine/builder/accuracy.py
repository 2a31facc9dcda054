"""What a quantised plan costs: its maps beside those of the plan in float32, on the user's tiles.

The mean IoU of one map with the other is no measure of it: pixels that change class are those at which the plan is in
two minds, and a class of few pixels weighs as much as any. Measured on the small plan with all layers in int8 (6
simulated tiles): the maps of crops agree at 99.7 % of pixels and have a mean IoU of 89 with each other, but against
the truth land cover and crops lose 0.0 points. So, where the user has no truth, the plan's probabilities stand for it:
a pixel at which two classes are equally probable costs nothing. In that trial 0.05 points are to be expected; with
maps and weights in 7, 6, 5 and 4 bits 0.2, 0.4, 1.0 and 3.1, where truly 0.0, 1.5, 3.1 and 5.2 were lost (the worst
task): the order is right, and a network that is surer than it is right expects too little. Labels are better.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from ..agreement import mean_iou
from ..plan.manifest import Manifest
from ..plan.payloads import Agreement
from ..prediction import VOID
from .pipeline import TileMap
from .tiles import Sample

__all__ = ["FloatMaps", "Maps"]

_LEAST_SHARE = 1e-3

Maps = Sequence[Mapping[str, TileMap]]
"""Maps of tiles, in their order, by task."""


class FloatMaps:
    """Maps of a plan in float32, and the truth where the user has it.

    Args:
        manifest: of the plan.
        maps: of the plan in float32.
        samples: the tiles, in the order of the maps.
    """

    def __init__(self, manifest: Manifest, maps: Maps, *, samples: Sequence[Sample]) -> None:
        self._classes = {task.name: len(task.classes) for task in manifest.tasks}
        self._maps = maps
        self._samples = samples

    def agreement(self, maps: Maps) -> tuple[Agreement, ...]:
        """Other maps of the same tiles beside those in float32."""
        return tuple(self._agreement(task, maps) for task in self._classes)

    def drop(self, maps: Maps) -> float:
        """Points of mean IoU that the worst task loses.

        Of a task whose truth is known for some tiles, the mean IoU of the map in float32 less that of the other. Else
        what is to be expected if the plan's own probabilities are right: of every class its expected IoU, less that of
        the other map, gains not counted; the mean over classes that have a thousandth of the map in float32, for of
        smaller ones single pixels would decide.
        """
        return max(self._drop(task, maps) for task in self._classes)

    def _drop(self, task: str, maps: Maps) -> float:
        known = [place for place, sample in enumerate(self._samples) if task in sample.truth]
        if known:
            truth = np.stack([self._samples[place].truth[task] for place in known])
            ours, theirs = (_labels([each[place] for place in known], task) for each in (maps, self._maps))
            return self._miou(task, theirs, truth) - self._miou(task, ours, truth)
        got, expected = self._expected_iou(task, maps), self._expected_iou(task, self._maps)
        mapped = sum(self._areas(tile[task].logits, task) for tile in self._maps)
        counts = mapped >= _LEAST_SHARE * np.sum(mapped)
        return float(100 * np.maximum(expected - got, 0)[counts].mean())

    def _areas(self, logits: NDArray[np.float32], task: str) -> NDArray[np.int64]:
        """Pixels mapped as each class."""
        return np.bincount(logits.argmax(0).ravel(), minlength=self._classes[task])

    def _expected_iou(self, task: str, maps: Maps) -> NDArray[np.float64]:
        """IoU of each class if a pixel is of a class with the probability that the plan in float32 gives it.

        On the decoder's own pixels: of a sum of probabilities over the pixels mapped as a class, its part in all that
        is mapped as it or is it. Classes of which there is nothing have 1.
        """
        classes = self._classes[task]
        mapped, right, true = np.zeros(classes), np.zeros(classes), np.zeros(classes)
        for tile, exact in zip(maps, self._maps, strict=True):
            probabilities = _softmax(exact[task].logits).reshape(classes, -1)  # [K, Y X]
            labels = tile[task].logits.argmax(0).ravel()
            chosen = probabilities[labels, np.arange(labels.size)]
            mapped += np.bincount(labels, minlength=classes)
            right += np.bincount(labels, weights=chosen, minlength=classes)
            true += probabilities.sum(1)
        either = mapped + true - right
        iou: NDArray[np.float64] = np.where(either > 0, right / np.maximum(either, 1e-30), 1.0)
        return iou

    def _agreement(self, task: str, maps: Maps) -> Agreement:
        ours, theirs = _labels(maps, task), _labels(self._maps, task)
        seen = theirs != VOID
        difference = whole = 0.0
        for one, other in zip(maps, self._maps, strict=True):
            got, expected = (each[task].logits.astype(np.float64) for each in (one, other))
            difference += float(((got - expected) ** 2).sum())
            whole += float((expected**2).sum())
        return Agreement(
            task=task,
            relative_error=float(np.sqrt(difference / max(whole, 1e-60))),
            argmax_equal=float((ours[seen] == theirs[seen]).mean()) if seen.any() else 1.0,
            miou=self._miou(task, ours, theirs),
        )

    def _miou(self, task: str, got: NDArray[np.uint8], truth: NDArray[np.uint8]) -> float:
        seen = (got != VOID) & (truth < self._classes[task])
        return mean_iou(got[seen], truth[seen], classes=self._classes[task]) if seen.any() else 100.0


def _labels(maps: Maps, task: str) -> NDArray[np.uint8]:
    return np.stack([tile[task].labels for tile in maps])


def _softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """Probabilities [K, Y, X] of logits."""
    powers = np.exp(logits.astype(np.float64) - logits.max(0))
    probabilities: NDArray[np.float64] = powers / powers.sum(0)
    return probabilities
