"""What a picture is made of: arrays as coloured panels of one size."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..plan.network import Task
from ..prediction import VOID

__all__ = [
    "CONFIDENCE_FROM",
    "VOID_COLOUR",
    "confidence_colours",
    "confidence_panel",
    "image_panel",
    "labels_panel",
    "stretch_limits",
]

VOID_COLOUR = (226, 229, 233)
"""Where nothing was observed."""

CONFIDENCE_FROM = 20
"""Percent that the darkest colour stands for: what is below is as dark."""

# From doubt to certainty; lightness grows evenly, so that it also reads in grey.
_RAMP = np.array([(36, 12, 52), (92, 23, 92), (158, 46, 90), (214, 84, 72), (246, 150, 84), (252, 243, 205)], float)
_GAMMA = 1 / 1.15


def image_panel(
    bands: NDArray[np.generic],
    *,
    size_wh_px: tuple[int, int],
    limits: tuple[NDArray[np.float64], NDArray[np.float64]],
    void: NDArray[np.bool_] | None = None,
) -> Image.Image:
    """Three bands as red, green and blue.

    Args:
        bands: red, green and blue digital numbers, [3, Y, X].
        size_wh_px: width and height of the panel.
        limits: digital number that is black and white, of each band.
        void: pixels that were not observed, [Y, X].
    """
    low, high = limits
    scaled = (bands.astype(np.float64) - low[:, None, None]) / np.maximum(high - low, 1e-6)[:, None, None]
    rgb = (255 * np.clip(scaled, 0, 1) ** _GAMMA).astype(np.uint8).transpose(1, 2, 0)
    if void is not None:
        rgb[void] = VOID_COLOUR
    return _resized(rgb, size_wh_px, smooth=Image.Resampling.LANCZOS)


def stretch_limits(
    bands: NDArray[np.generic], *, void: NDArray[np.bool_] | None = None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Digital numbers of each band [N] that are shown black and white, leaving out one percent of the pixels."""
    seen = bands.reshape(len(bands), -1) if void is None or void.all() else bands[:, ~void]
    low, high = np.percentile(seen.astype(np.float64), (0.5, 99.5), axis=1)
    return np.asarray(low), np.asarray(high)


def labels_panel(labels: NDArray[np.uint8], *, task: Task, size_wh_px: tuple[int, int]) -> Image.Image:
    """A map [Y, X] in the colours of its classes."""
    colours = np.full((VOID + 1, 3), VOID_COLOUR, np.uint8)
    for value, entry in enumerate(task.classes):
        colours[value] = tuple(bytes.fromhex(entry.colour.removeprefix("#")))
    return _resized(colours[labels], size_wh_px, smooth=Image.Resampling.BOX)


def confidence_panel(confidence: NDArray[np.uint8], *, size_wh_px: tuple[int, int]) -> Image.Image:
    """Percent [Y, X] from dark to light."""
    colours = np.full((VOID + 1, 3), VOID_COLOUR, np.uint8)
    colours[:101] = confidence_colours(np.arange(101.0))
    return _resized(colours[confidence], size_wh_px, smooth=Image.Resampling.BOX)


def confidence_colours(percent: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Colour of each percentage [N], as [N, 3]."""
    place = np.clip((percent - CONFIDENCE_FROM) / (100 - CONFIDENCE_FROM), 0, 1) * (len(_RAMP) - 1)
    channels = [np.interp(place, np.arange(len(_RAMP)), _RAMP[:, channel]) for channel in range(3)]
    colours: NDArray[np.uint8] = np.stack(channels, axis=-1).round().astype(np.uint8)
    return colours


def _resized(rgb: NDArray[np.uint8], size_wh_px: tuple[int, int], *, smooth: Image.Resampling) -> Image.Image:
    """Averaged where it shrinks; where it grows, each pixel stays a square."""
    image = Image.fromarray(rgb)
    grows = size_wh_px[0] > image.width
    return image.resize(size_wh_px, Image.Resampling.NEAREST if grows else smooth)
