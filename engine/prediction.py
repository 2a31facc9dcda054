"""What a prediction holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["VOID", "Prediction"]

VOID = 255
"""Label and confidence of a pixel that was not observed."""


@dataclass(frozen=True)
class Prediction:
    """Maps of a batch of tiles, per task.

    Attributes:
        labels: task -> class of each pixel, uint8 [B, Y, X]; 255 where the base modality is void.
        confidence: task -> largest softmax probability in percent, uint8 [B, Y, X]; 255 where void.
        logits: task -> float32 [B, K, Y, X] at the size of the labels; empty unless asked for.
    """

    labels: Mapping[str, NDArray[np.uint8]]
    confidence: Mapping[str, NDArray[np.uint8]]
    logits: Mapping[str, NDArray[np.float32]]
