"""Patches that were mapped best and worst; pictures are made of no others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from ...engine.demo.panels import image_panel, stretch_limits
from ...engine.flairhub import MODALITIES
from ...engine.plan.network import Task
from ...engine.rasters.source import Pixels
from ..data import Sample
from ..data.layout import LABEL_PX
from .evaluation import Example
from .tally import Tally

__all__ = ["Examples", "picture_of"]

_SHOWN = {
    "AERIAL_RGBI": ("R", "G", "B"),
    "SPOT_RGBI": ("R", "G", "B"),
    "AERIAL-RLT_PAN": ("PAN", "PAN", "PAN"),
    "SENTINEL2_TS": ("B04", "B03", "B02"),
    "DEM_ELEV": ("DSM", "DSM", "DSM"),
    "SENTINEL1-ASC_TS": ("VV", "VH", "VV"),
    "SENTINEL1-DESC_TS": ("VV", "VH", "VV"),
}
"""Bands for red, green and blue, the modality that a person reads most easily first."""


@dataclass(frozen=True)
class _Kept:
    order: tuple[float, int]
    example: Example


class Examples:
    """The best and worst patches of one task so far.

    Args:
        task: what is mapped.
        most: how many of each.
    """

    def __init__(self, task: Task, *, most: int) -> None:
        self._task = task
        self._most = most
        self._best: list[_Kept] = []
        self._worst: list[_Kept] = []
        self._count = 0

    def offer(self, sample: Sample, found: NDArray[np.uint8], truth: NDArray[np.uint8]) -> None:
        """Look at one patch.

        Args:
            sample: chosen from by `choose`.
            found: mapped classes [Y, X].
            truth: true classes [Y, X].
        """
        tally = Tally([self._task])
        name = self._task.name
        tally.update({name: torch.from_numpy(found)[None]}, {name: torch.from_numpy(truth)[None]})
        scores = tally.scores(name)
        if not self._most or not scores.pixels:
            return
        self._count += 1
        order = (scores.accuracy, -self._count)  # of patches that are alike the first is the better one

        def made() -> _Kept:
            seen, picture = picture_of(sample)
            return _Kept(order, Example(str(sample.patch), scores, seen, picture, truth.copy(), found.copy()))

        _keep(self._best, order, made, most=self._most, sign=-1)
        _keep(self._worst, order, made, most=self._most, sign=1)

    @property
    def best(self) -> tuple[Example, ...]:
        """The best first."""
        return tuple(kept.example for kept in self._best)

    @property
    def worst(self) -> tuple[Example, ...]:
        """The worst first, without those that are among the best."""
        best = {kept.order for kept in self._best}
        return tuple(kept.example for kept in self._worst if kept.order not in best)


def _keep(kept: list[_Kept], order: tuple[float, int], made: Callable[[], _Kept], *, most: int, sign: int) -> None:
    def place(one: tuple[float, int]) -> tuple[float, float]:
        return sign * one[0], sign * one[1]

    if len(kept) == most and place(order) >= place(kept[-1].order):
        return
    kept.append(made())
    kept.sort(key=lambda one: place(one.order))
    del kept[most:]


def picture_of(sample: Sample) -> tuple[str, NDArray[np.uint8]]:
    """The modality that a person reads most easily, and its picture [Y, X, 3]; of a series the mean of its dates."""
    for name, shown in _SHOWN.items():
        held = MODALITIES[name].bands
        places = [held.index(band) for band in shown]
        if name in sample.images:
            return name, _picture(sample.images[name], places)
        if name in sample.series and len(sample.series[name].dates):
            return name, _picture(_mean(sample.series[name].pixels), places)
    return "nothing", np.full((LABEL_PX, LABEL_PX, 3), 128, np.uint8)


def _mean(pixels: Pixels) -> Pixels:
    seen = ~pixels.void[:, None]  # [T, 1, Y, X]
    total = np.where(seen, pixels.values, 0).sum(axis=0, dtype=np.float64)
    return Pixels((total / np.maximum(seen.sum(axis=0), 1))[None], pixels.unseen[None])


def _picture(pixels: Pixels, places: list[int]) -> NDArray[np.uint8]:
    bands, void = pixels.values[0, places], pixels.void[0]
    low, high = stretch_limits(bands, void=void)
    # one stretch for all bands keeps the colours of the image
    limits = np.full(3, low.min()), np.full(3, high.max())
    panel = image_panel(bands, size_wh_px=(LABEL_PX, LABEL_PX), void=void, limits=limits)
    return np.asarray(panel.convert("RGB"))
