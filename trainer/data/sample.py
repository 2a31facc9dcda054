"""One patch in memory as it lies on disk: raw digital numbers, dates, masks and labels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ...engine.rasters.source import Pixels
from .dates import Dates
from .layout import PatchId

__all__ = ["UNLABELLED", "Sample", "Series"]

UNLABELLED = 255
"""Value of a label whose class is not known."""


@dataclass(frozen=True)
class Series:
    """One series of a patch.

    Attributes:
        pixels: digital numbers [T, C, Y, X] and void pixels [T, Y, X].
        dates: of its acquisitions, datetime64[D] [T].
        snow_cloud: percent of snow and cloud [T, 2, Y, X], where the product comes with masks.
    """

    pixels: Pixels
    dates: Dates
    snow_cloud: Pixels | None = None


@dataclass(frozen=True)
class Sample:
    """One patch; what it lacks is in no mapping.

    Attributes:
        patch: which.
        images: modality -> digital numbers [1, C, Y, X] in the file's bands and type, and void pixels [1, Y, X].
        series: modality -> acquisitions.
        labels: task -> classes [Y, X] uint8, `UNLABELLED` where void. Of crops the first level.
    """

    patch: PatchId
    images: Mapping[str, Pixels]
    series: Mapping[str, Series]
    labels: Mapping[str, NDArray[np.uint8]]

    def of(self, modalities: Iterable[str]) -> Sample:
        """The same with some of its modalities alone, in their order."""
        names = tuple(modalities)
        return replace(
            self,
            images={name: self.images[name] for name in names if name in self.images},
            series={name: self.series[name] for name in names if name in self.series},
        )
