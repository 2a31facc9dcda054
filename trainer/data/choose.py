"""Which modalities and acquisitions of a sample a network sees, by the engine's own choice."""

from __future__ import annotations

from collections.abc import Mapping

from ...engine.plan.network import Modality
from ...engine.rasters.acquisitions import choose_acquisitions
from ...engine.simulation import MASK
from .errors import DataSetError
from .sample import Sample, Series

__all__ = ["choose"]


def choose(sample: Sample, modalities: Mapping[str, Modality]) -> Sample:
    """Keep what the engine would keep when it maps this place.

    Of each series the acquisitions that see the patch and that the modality's filter calls clear, averaged where it
    says so; and only modalities that see the patch at all, where the network can do without them.

    Args:
        sample: as read.
        modalities: what the network takes, as its plan says it.

    Raises:
        DataSetError: the patch lacks a modality that the network cannot do without, or the masks of a series that is
            filtered.
    """
    for name, modality in modalities.items():
        if name not in sample.images and name not in sample.series and not modality.may_be_absent:
            raise DataSetError(
                f"{sample.patch} lacks {name}, and the network cannot do without it; leave the patch out, or say that "
                f"{name} may be absent"
            )
    seen = {name for name, pixels in sample.images.items() if not pixels.void.all()}
    seen |= {name for name, series in sample.series.items() if not series.pixels.void.all()}
    taken = {name for name, modality in modalities.items() if name in seen or not modality.may_be_absent}
    return Sample(
        sample.patch,
        {name: pixels for name, pixels in sample.images.items() if name in taken},
        {name: _chosen(sample, series, modalities[name]) for name, series in sample.series.items() if name in taken},
        sample.labels,
    )


def _chosen(sample: Sample, series: Series, modality: Modality) -> Series:
    if modality.filter is not None and series.snow_cloud is None:
        raise DataSetError(f"{sample.patch} has {modality.name} without {MASK}, by which it is filtered; add the masks")
    kept = choose_acquisitions(series.pixels, dates=series.dates, snow_cloud=series.snow_cloud, rule=modality.filter)
    return Series(kept.pixels, kept.dates)
