"""What the engine asks of a back end.

A back end compiles the segments of one plan for one device. A session is what one thread needs to run them on one
tile at a time; sessions of the same back end share the weights and nothing else.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["Backend", "Pyramid", "Session"]

Pyramid = tuple[NDArray[np.float32], ...]
"""Maps [1, C, Y, X] of one modality, finest first; class logits alone in networks of series."""


class Session(Protocol):
    """Runs the segments on one tile. What it returns is valid until the next call for the same segment."""

    def encode_image(self, modality: str, pixels: NDArray[np.float32]) -> Pyramid:
        """Projected pyramid of prepared pixels [1, C, Y, X]."""
        ...

    def encode_series(
        self, modality: str, pixels: NDArray[np.float32], days: NDArray[np.float32], mask: NDArray[np.float32]
    ) -> Pyramid:
        """Projected pyramid of a padded series [1, T, C, Y, X] with its days and mask [1, T]."""
        ...

    def fuse(self, pyramids: dict[str, Pyramid]) -> Pyramid:
        """Sum of the pyramids of all modalities but the base, resized to the base's sizes."""
        ...

    def decode(self, task: str, base: Pyramid, rest: Pyramid) -> NDArray[np.float32]:
        """Logits [1, K, Y, X] of the base's pyramid plus the sum of the others (empty where there are none)."""
        ...


class Backend(Protocol):
    """Segments of one plan, compiled for one device."""

    device: str
    precision: str
    threads: int
    reasons: tuple[str, ...]

    def session(self) -> AbstractContextManager[Session]:
        """A session for the calling thread."""
        ...

    def stand_in(self, modality: str) -> Pyramid:
        """Learned pyramid of a modality that is absent."""
        ...

    def close(self) -> None:
        """Give memory back."""
        ...
