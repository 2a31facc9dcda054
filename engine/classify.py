"""The step `classify`: logits at the decoder's size to labels and confidence at the map's size."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from . import _native
from .errors import BackendError
from .plan.manifest import Manifest
from .prediction import VOID, Prediction
from .resize import axis_resize, resize

__all__ = ["Classifier", "nearest", "overflowed"]


class Classifier:
    """Resizes, argmax and largest softmax probability, for maps of one size.

    The full-size logits never exist unless they are asked for.

    Args:
        manifest: classes and resizes of the plan.
        grid: "label" for maps of `manifest.label_px`, "base" for the base modality's own pixels.
        threads: processor threads.
    """

    def __init__(self, manifest: Manifest, *, grid: Literal["label", "base"], threads: int) -> None:
        steps = [(step.px, step.align_corners) for step in manifest.resizes(grid=grid)]
        self._axis = axis_resize(manifest.logits_px, steps=steps)
        self._px = len(self._axis.start)
        self._classes = {task.name: len(task.classes) for task in manifest.tasks}
        self._threads = threads

    def empty(self, tiles: int, *, logits: bool) -> Prediction:
        """Arrays for `tiles` maps, to be filled by `write`."""
        shape = (tiles, self._px, self._px)
        return Prediction(
            labels={task: np.empty(shape, np.uint8) for task in self._classes},
            confidence={task: np.empty(shape, np.uint8) for task in self._classes},
            logits={
                task: np.empty((tiles, count, self._px, self._px), np.float32)
                for task, count in self._classes.items()
                if logits
            },
        )

    def write(
        self,
        maps: Prediction,
        index: int,
        logits: NDArray[np.float32],
        *,
        task: str,
        void: NDArray[np.bool_] | None = None,
    ) -> None:
        """Classify one tile into place `index` of `maps`.

        Args:
            maps: from `empty`.
            index: which tile of the batch.
            logits: float32 [K, Y, X] at the decoder's size.
            task: which of the plan's tasks.
            void: void pixels [Y, X] of the base modality.

        Raises:
            BackendError: the network gave NaN or infinite logits.
        """
        labels, confidence = maps.labels[task][index], maps.confidence[task][index]
        try:
            _native.classify(
                logits, rows=self._axis, columns=self._axis, out=(labels, confidence), threads=self._threads
            )
        except ValueError as error:
            raise overflowed(task, str(error)) from error
        if task in maps.logits:
            maps.logits[task][index] = resize(logits, rows=self._axis, columns=self._axis)
        if void is not None:
            unseen = nearest(void, self._px)
            labels[unseen] = VOID
            confidence[unseen] = VOID


def overflowed(task: str, what: str) -> BackendError:
    """What is said of logits that are no numbers."""
    return BackendError(f"{task}: {what}; the network overflowed, load with precision='float32' or check the inputs")


def nearest(mask: NDArray[np.bool_], px: int) -> NDArray[np.bool_]:
    """A mask [Y, X] at `px` x `px` pixels: each takes the one under its centre."""
    if mask.shape == (px, px):
        return mask
    rows, columns = (np.minimum((np.arange(px) + 0.5) * side / px, side - 1).astype(np.intp) for side in mask.shape)
    return mask[np.ix_(rows, columns)]
