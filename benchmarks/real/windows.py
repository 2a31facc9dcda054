"""Square windows of strips, each turned and scaled at random: what the network of the land-cover study learns from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

from uperfuse.engine.flairhub import TASKS
from uperfuse.engine.plan.network import Modality
from uperfuse.engine.rasters.source import Pixels
from uperfuse.trainer.data import Augmentation, Draw, Prepared, PreparedDataset, Sample, prepare_sample

from .strips import IMAGE, TASK

__all__ = ["Place", "Windows", "cut_window", "paste"]

_ABOUT_A_CLASS = 0.3
"""Part of the windows that lie about a pixel of a class that was drawn first."""


@dataclass(frozen=True)
class Place:
    """Where a window lies in its strip.

    Attributes:
        centre_yx: in pixels of the strip; its first pixel's centre is at 0, 0.
        side_px: of the window.
        angle: of its columns against the strip's, in radians.
        scale: pixels of the strip to one of the window.
    """

    centre_yx: tuple[float, float]
    side_px: int
    angle: float = 0.0
    scale: float = 1.0

    def grid(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Rows and columns of the strip at which the window's pixels lie, each [Y, X]."""
        steps = np.arange(self.side_px) - (self.side_px - 1) / 2
        down, right = np.meshgrid(steps, steps, indexing="ij")
        sine, cosine = self.scale * np.sin(self.angle), self.scale * np.cos(self.angle)
        return self.centre_yx[0] + cosine * down - sine * right, self.centre_yx[1] + sine * down + cosine * right


def cut_window(sample: Sample, place: Place) -> Sample:
    """Cut a window from the image and the labels of a strip.

    Pixels are interpolated, labels are those of the nearest pixel. What lies outside the strip is its mirror image.
    """
    rows, columns = place.grid()
    pixels = sample.images[IMAGE].values[0]  # [C, Y, X]
    values = np.stack([map_coordinates(band, [rows, columns], order=1, mode="mirror") for band in pixels])
    nearest = np.rint([rows, columns])
    classes = map_coordinates(sample.labels[TASK], nearest, order=0, mode="mirror")
    void = np.zeros((1, *classes.shape), np.bool_)
    return replace(sample, images={IMAGE: Pixels(values[None], void)}, labels={TASK: classes})


def paste(square: Sample, window: Sample, rng: np.random.Generator) -> Sample:
    """Paste a small window, and its labels, into a larger one at a random place; neither is changed."""
    side_px = len(square.labels[TASK])
    top, left = (int(rng.integers(side - side_px + 1)) for side in window.labels[TASK].shape)
    inside = np.s_[..., top : top + side_px, left : left + side_px]
    pixels, labels = window.images[IMAGE].values.copy(), window.labels[TASK].copy()
    pixels[inside], labels[inside] = square.images[IMAGE].values, square.labels[TASK]
    return replace(window, images={IMAGE: replace(window.images[IMAGE], values=pixels)}, labels={TASK: labels})


class Windows(PreparedDataset):
    """Windows of strips, drawn at random.

    Three in ten lie about a pixel of a class that was drawn first, all classes alike: rare ones are seen, too. An index
    alone gives the middle of that strip.

    Args:
        strips: parts of images to learn from.
        modalities: what the network takes.
        side_px: of a window.
        zoom: largest logarithm of its scale.
        augmentation: of a window, after it was cut.
        squares: that are pasted into each window, labels with them, an eighth to a half of it in length (CutMix, Yun
            et al. 2019): what lies around a pixel then says less, which few images teach too well.
        seed: of all chance.
    """

    def __init__(
        self,
        strips: Sequence[Sample],
        *,
        modalities: Mapping[str, Modality],
        side_px: int,
        zoom: float,
        augmentation: Augmentation,
        squares: int,
        seed: int,
    ) -> None:
        self._strips = tuple(strips)
        self._modalities = dict(modalities)
        self._side_px = side_px
        self._zoom = zoom
        self._augmentation = augmentation
        self._squares = squares
        self._seed = seed
        evaluated = [number for number, entry in enumerate(TASKS[TASK]) if not entry.ignored]
        self._places = [_places(strip.labels[TASK], evaluated) for strip in self._strips]
        self._holders = {
            number: holders
            for number in evaluated
            if (holders := [place for place, known in enumerate(self._places) if number in known])
        }

    def __len__(self) -> int:
        return len(self._strips)

    def __getitem__(self, draw: Draw | int) -> Prepared:
        """One window."""
        if not isinstance(draw, Draw):
            strip = self._strips[draw]
            centre_yx = tuple((side - 1) / 2 for side in strip.labels[TASK].shape)
            return prepare_sample(cut_window(strip, Place(centre_yx, self._side_px)), self._modalities)
        rng = np.random.default_rng([self._seed, draw.number])
        window = self._window(draw.index, self._side_px, rng)
        for _ in range(self._squares):
            length = int(rng.integers(self._side_px // 8, self._side_px // 2 + 1))
            window = paste(self._window(int(rng.integers(len(self))), length, rng), window, rng)
        return prepare_sample(window, self._modalities)

    def _window(self, index: int, side_px: int, rng: np.random.Generator) -> Sample:
        """Cut and augment a window of a strip."""
        strip, centre_yx = self._drawn(index, side_px, rng)
        angle = float(rng.uniform(0, 2 * np.pi))
        scale = float(np.exp(rng.uniform(-self._zoom, self._zoom)))
        return self._augmentation(cut_window(strip, Place(centre_yx, side_px, angle, scale)), rng)

    def _drawn(self, index: int, side_px: int, rng: np.random.Generator) -> tuple[Sample, tuple[float, float]]:
        """A strip, and a pixel of it about which the window lies."""
        if rng.random() >= _ABOUT_A_CLASS:
            shape_yx = self._strips[index].labels[TASK].shape
            return self._strips[index], (float(rng.uniform(0, shape_yx[0])), float(rng.uniform(0, shape_yx[1])))
        number = int(rng.choice([*self._holders]))
        holder = int(rng.choice(self._holders[number]))
        shape_yx = self._strips[holder].labels[TASK].shape
        row, column = divmod(int(rng.choice(self._places[holder][number])), shape_yx[1])
        reach = side_px / 2
        offset = rng.uniform(-reach, reach, 2)
        return self._strips[holder], (
            float(np.clip(row + offset[0], 0, shape_yx[0] - 1)),
            float(np.clip(column + offset[1], 0, shape_yx[1] - 1)),
        )


def _places(labels: NDArray[Any], classes: Sequence[int]) -> dict[int, NDArray[np.intp]]:
    """Class -> its pixels in a label [Y, X], counted along rows; classes that do not occur are left out."""
    flat = labels.ravel()
    found = {number: np.flatnonzero(flat == number) for number in classes}
    return {number: pixels for number, pixels in found.items() if len(pixels)}
