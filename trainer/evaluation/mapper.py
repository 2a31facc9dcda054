"""What maps patches, whatever it was loaded from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ...engine.plan.network import Modality, Task
from ..data import Sample
from ..description import TaskConfig
from .cost import Cost

__all__ = ["Labels", "Mapper"]

Labels = Mapping[str, NDArray[np.uint8]]
"""Task -> mapped classes [B, Y, X]; 255 where the base image is void."""


class Mapper(Protocol):
    """Maps patches."""

    @property
    def name(self) -> str:
        """Of the network."""

    @property
    def kind(self) -> str:
        """What it was loaded from, "checkpoint" or "plan"."""

    @property
    def modalities(self) -> Mapping[str, Modality]:
        """What it takes."""

    @property
    def tasks(self) -> Sequence[Task]:
        """What it makes."""

    @property
    def said(self) -> Mapping[str, TaskConfig]:
        """Task -> what its file says of labels in a data set, where it says something."""

    @property
    def cost(self) -> Cost:
        """Weights and operations."""

    @property
    def runs(self) -> str:
        """Where it runs and in which precision, in words."""

    def map(self, samples: Sequence[Sample]) -> Labels:
        """Map some patches, from which `choose` has chosen."""

    def close(self) -> None:
        """Give memory and devices back."""
