"""Numbers that an operation hands to its kernel beside arrays: the same from PyTorch and from a plan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

__all__ = [
    "AttentionNumbers",
    "ResizeStep",
    "attention_numbers",
    "classify_block",
    "classify_numbers",
    "classify_room",
    "resize_steps",
]


class AttentionNumbers(NamedTuple):
    """The ratio of two neighbouring sinusoids' rates, in two parts: float32 alone is too coarse for it."""

    ratio: float
    ratio_rest: float


def attention_numbers(*, period: float, entries: int) -> AttentionNumbers:
    """Numbers of `temporal_attention`.

    Args:
        period: of the slowest sinusoid, in days over 2 pi.
        entries: of a position, shared by all heads.

    Returns:
        The ratio of two sinusoids' rates, rounded to float32, and what that leaves.
    """
    ratio = float(period ** (-2 / entries))
    leading = float(np.float32(ratio))
    return AttentionNumbers(leading, ratio - leading)


@dataclass(frozen=True)
class ResizeStep:
    """A resize of logits as `classify` computes it along an axis: `place = scale * (index + centre) - centre`."""

    source_yx: tuple[int, int]
    to_yx: tuple[int, int]
    align_corners: bool

    @property
    def centre(self) -> float:
        """0 where corners are aligned, a half otherwise."""
        return 0.0 if self.align_corners else 0.5

    def scale(self, axis: int) -> float:
        """Source places per place of the result, along rows (0) or columns (1)."""
        source, to = self.source_yx[axis], self.to_yx[axis]
        if source == to:
            return 1.0
        return (source - 1) / max(to - 1, 1) if self.align_corners else source / to


def resize_steps(logits_yx: tuple[int, int], *, resizes: Sequence[tuple[tuple[int, int], bool]]) -> list[ResizeStep]:
    """The resizes that change the size of the logits.

    Args:
        logits_yx: rows and columns of the logits.
        resizes: rows and columns after each resize, and whether it aligns corners.
    """
    before = [logits_yx, *(shape_yx for shape_yx, _ in resizes)]
    steps = [ResizeStep(source, to, aligned) for source, (to, aligned) in zip(before, resizes, strict=False)]
    return [step for step in steps if step.source_yx != step.to_yx]


def classify_numbers(
    logits_yx: tuple[int, int], *, map_yx: tuple[int, int], steps: Sequence[ResizeStep]
) -> dict[str, int | float]:
    """Sizes and scales of `classify`, by the names of its arguments; batch and classes come beside them.

    Args:
        logits_yx: rows and columns of the logits.
        map_yx: rows and columns of the map.
        steps: at most two, as `resize_steps` gives them.
    """
    # a step that is not there reads as one that changes nothing
    none = ResizeStep(map_yx, map_yx, align_corners=True)
    first, second = [*steps, none, none][:2]
    numbers: dict[str, int | float] = {"YL": logits_yx[0], "XL": logits_yx[1]}
    numbers |= {"Y1": first.to_yx[0], "X1": first.to_yx[1], "Y": map_yx[0], "X": map_yx[1]}
    numbers |= {"scale_y0": first.scale(0), "scale_x0": first.scale(1), "centre0": first.centre}
    return numbers | {"scale_y1": second.scale(0), "scale_x1": second.scale(1), "centre1": second.centre}


def classify_room(dtype: str, *, steps: int) -> tuple[int, int]:
    """Rows and columns of logits that one program of `classify` has room for.

    At a quarter of the map's size they serve 64 pixels each way, of which 32 logits and the two beside them are read.
    Of float32, where logits weigh more beside the map's two bytes per pixel, twice as many columns keep what
    neighbours read twice below 15 %.

    Args:
        dtype: of the logits, by Triton's names.
        steps: how many resizes there are.
    """
    return 32, 64 if dtype == "fp32" and steps == 1 else 32


def classify_block(
    room_yx: tuple[int, int], *, steps: int, logits_yx: tuple[int, int], map_yx: tuple[int, int]
) -> tuple[int, int]:
    """Rows and columns of the map that one program of `classify` owns, so that it has room for what they read.

    Args:
        room_yx: rows and columns of logits that a program has room for, of `classify_room`.
        steps: how many resizes there are.
        logits_yx: rows and columns of the logits.
        map_yx: rows and columns of the map.
    """
    block = []
    for room, source, size in zip(room_yx, logits_yx, map_yx, strict=True):
        pixels = 2 * room
        apart = source / max(size - 1, 1)  # neighbours in the map, counted in logits, at most
        while steps and pixels > 1 and _places(pixels, apart, steps) > room:
            pixels //= 2
        block.append(pixels)
    return block[0], block[1]


def _places(pixels: int, apart: float, steps: int) -> int:
    """Logits along an axis that so many pixels read at most."""
    return int((pixels - 1) * apart) + 2 * steps + 1
