"""The other side of both studies: a random forest."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter
from sklearn.ensemble import RandomForestClassifier

from uperfuse.engine.flairhub import TASKS
from uperfuse.trainer.data import Sample

from .strips import IMAGE, TASK

__all__ = ["TREES", "WINDOWS_PX", "PixelForest", "pixel_features"]

TREES = 100
WINDOWS_PX = (5, 15, 31)

Floats = NDArray[np.float32]


def pixel_features(pixels: NDArray[np.generic]) -> Floats:
    """What a forest sees of each pixel: its bands, and their means and deviations in squares around it.

    Squares reach beyond the border into its mirror image, and so see nothing that is not given.

    Args:
        pixels: digital numbers [C, Y, X].

    Returns:
        [Y, X, 7 C].
    """
    maps = [*pixels.astype(np.float32)]
    for band in pixels.astype(np.float64):
        for side_px in WINDOWS_PX:
            mean = uniform_filter(band, side_px, mode="reflect")
            square = uniform_filter(band * band, side_px, mode="reflect")
            deviation = np.sqrt(np.maximum(square - mean * mean, 0))
            maps += [mean.astype(np.float32), deviation.astype(np.float32)]
    return np.stack(maps, axis=-1)


class PixelForest:
    """A forest that maps land cover pixel by pixel.

    Args:
        strips: to learn from.
        pixels: of them, drawn at random; None takes all.
        seed: of the draw and the trees.
        processes: that grow trees at once.
    """

    def __init__(self, strips: Sequence[Sample], *, pixels: int | None, seed: int, processes: int) -> None:
        features = np.concatenate([_rows(strip) for strip in strips])
        labels = np.concatenate([strip.labels[TASK].ravel() for strip in strips])
        evaluated = np.flatnonzero(~np.array([entry.ignored for entry in TASKS[TASK]]))
        known = np.flatnonzero(np.isin(labels, evaluated))
        if pixels is not None and pixels < len(known):
            known = np.random.default_rng(seed).choice(known, pixels, replace=False)
        self.pixels = len(known)
        self._forest = RandomForestClassifier(TREES, random_state=seed, n_jobs=processes)
        self._forest.fit(features[known], labels[known])

    def __call__(self, strip: Sample) -> NDArray[np.uint8]:
        """Classes [Y, X]."""
        found: NDArray[np.uint8] = self._forest.predict(_rows(strip)).astype(np.uint8)
        return found.reshape(strip.labels[TASK].shape)


def _rows(strip: Sample) -> Floats:
    features = pixel_features(strip.images[IMAGE].values[0])
    return features.reshape(-1, features.shape[-1])
