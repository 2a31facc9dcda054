"""Mixing what neighbouring tiles say along their seams.

    logits of each tile -> probabilities in 16 bits, kept with the tile -> weighted mean -> labels, confidence, percent

Sixteen bits tell probabilities apart by 1/65535: the label of the mix can be another one than without rounding only
where the two largest probabilities are closer than that, which is fewer than one pixel in ten thousand. With eight bits
it would be some in a thousand. Sums are of whole numbers, so that they are the same in any order.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..prediction import VOID
from .seams import Piece

__all__ = ["Mix", "kept_probabilities", "mix", "probabilities"]

_WHOLE = 65535


@dataclass(frozen=True)
class Mix:
    """A piece of the map of one task, 255 where void.

    Attributes:
        labels: class of the largest probability, uint8 [Y, X].
        confidence: that probability in percent, uint8 [Y, X].
        percent: probability of each class in percent, uint8 [K, Y, X], if asked for.
    """

    labels: NDArray[np.uint8]
    confidence: NDArray[np.uint8]
    percent: NDArray[np.uint8] | None


def probabilities(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Probabilities of the classes, float32 [K, Y, X] of logits [K, Y, X]."""
    powers = np.exp(logits - logits.max(axis=0))
    shares: NDArray[np.float32] = powers / powers.sum(axis=0)
    return shares


def kept_probabilities(logits: NDArray[np.float32], *, void: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """What is kept of a tile's logits [K, Y, X] along a seam.

    Returns:
        Probabilities of 65535, their high bytes apart from their low ones (the high ones, mostly 0, compress well):
        uint8 [2, K, Y, X]; all of them 0 where void [Y, X].
    """
    kept = np.rint(_WHOLE * probabilities(logits)).astype(np.uint16)
    kept[:, void] = 0
    return np.stack([kept >> 8, kept & 255]).astype(np.uint8)


def mix(piece: Piece, kept: Mapping[int, NDArray[np.uint8]], *, classes: int, percent: bool) -> Mix:
    """Mix what tiles say of a piece.

    A pixel is void where the tile that has it in its core says so; another tile that says nothing of a pixel, or was
    not mapped, has no weight there.

    Args:
        piece: where.
        kept: number of a tile -> what `kept_probabilities` gave, in any shape, for tiles that were mapped.
        classes: number of classes.
        percent: also tell the probability of each class.
    """
    sums = np.zeros((classes, *piece.shape_yx), np.uint64)
    weights = np.zeros(piece.shape_yx, np.uint64)
    void = np.ones(piece.shape_yx, np.bool_)
    for tile, both in kept.items():
        high, low = both.reshape(2, *sums.shape)
        given = (high.astype(np.uint64) << np.uint64(8)) | low  # [K, Y, X]
        seen = given.any(axis=0)
        weight = piece.weights(tile)
        sums += weight * given
        weights += weight * seen
        owned = piece.owned_yx(tile)
        void[owned] = ~seen[owned]
    whole = _WHOLE * np.maximum(weights, np.uint64(1))

    def shown(values: NDArray[Any]) -> NDArray[np.uint8]:
        return np.where(void, np.uint8(VOID), values.astype(np.uint8))

    return Mix(
        labels=shown(sums.argmax(axis=0)),
        confidence=shown(np.rint(100 * sums.max(axis=0) / whole)),
        percent=shown(np.rint(100 * sums / whole)) if percent else None,
    )
