"""A network's map of a strip: overlapping tiles, each seen in eight positions, probabilities averaged."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from uperfuse.engine.plan.network import Modality
from uperfuse.trainer.data import Sample, prepare_sample
from uperfuse.trainer.network import UPerFuse

from .strips import IMAGE, TASK

__all__ = ["map_strip", "starts"]

_OVERLAPS = 4


@dataclass(frozen=True)
class _Position:
    """How a tile is laid before the network: turned by quarters, then mirrored or not."""

    quarters: int
    mirrored: bool

    def laid(self, tiles: Tensor) -> Tensor:
        turned = torch.rot90(tiles, self.quarters, (-2, -1))
        return turned.flip(-1) if self.mirrored else turned

    def lifted(self, tiles: Tensor) -> Tensor:
        return torch.rot90(tiles.flip(-1) if self.mirrored else tiles, -self.quarters, (-2, -1))


_POSITIONS = tuple(_Position(quarters, mirrored) for quarters in range(4) for mirrored in (False, True))


def starts(extent_px: int, *, side_px: int) -> list[int]:
    """First pixels of overlapping tiles along one axis, the last of which ends where the axis does."""
    last = extent_px - side_px
    return [*range(0, last, max(side_px // _OVERLAPS, 1)), last]


def map_strip(
    network: UPerFuse, strip: Sample, *, modalities: Mapping[str, Modality], side_px: int
) -> NDArray[np.uint8]:
    """Map the land cover of a strip, of which alone the network sees anything.

    A strip that is narrower than a tile is extended by its mirror image.

    Args:
        network: in inference mode.
        strip: any.
        modalities: what the network takes.
        side_px: of a tile.

    Returns:
        Classes [Y, X].
    """
    prepared = prepare_sample(strip, modalities).images[IMAGE]  # [C, Y, X]
    height, width = prepared.shape[1:]
    rest_yx = [max(side_px - side, 0) for side in (height, width)]
    pixels = torch.from_numpy(np.pad(prepared, [(0, 0), (0, rest_yx[0]), (0, rest_yx[1])], mode="symmetric"))
    total: Tensor | float = 0.0
    with torch.inference_mode():
        for position in _POSITIONS:
            total = total + _probabilities(network, pixels, position, side_px)
    assert isinstance(total, Tensor), "there are positions"
    found: NDArray[np.uint8] = total[:, :height, :width].argmax(0).numpy().astype(np.uint8)
    return found


def _probabilities(network: UPerFuse, pixels: Tensor, position: _Position, side_px: int) -> Tensor:
    """Sums over overlapping tiles [K, Y, X], divided by how many there are at each pixel."""
    classes = network.spec.classes
    total = torch.zeros(classes, *pixels.shape[1:])
    count = torch.zeros(pixels.shape[1:])
    for row in _rows(pixels, side_px):
        tiles = torch.stack([pixels[:, window[0], window[1]] for window in row])
        logits = network({IMAGE: position.laid(tiles)})[TASK]
        for window, each in zip(row, position.lifted(torch.softmax(logits, dim=1)), strict=True):
            total[:, window[0], window[1]] += each
            count[window] += 1
    return total / count


def _rows(pixels: Tensor, side_px: int) -> Iterator[list[tuple[slice, slice]]]:
    """Tiles side by side, row by row."""
    height, width = pixels.shape[1:]
    for top in starts(height, side_px=side_px):
        yield [(slice(top, top + side_px), slice(left, left + side_px)) for left in starts(width, side_px=side_px)]
