"""Samples to what a network takes, by the engine's own preparation, so that training and inference cannot differ."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...engine.errors import TileError
from ...engine.flairhub import MODALITIES
from ...engine.plan.network import Modality
from ...engine.prepare import prepare_image, prepare_series
from ...engine.rasters.source import Pixels
from ...engine.series import days_from_reference
from ...engine.tiles import ImageTile, SeriesTile
from .dates import Dates
from .errors import DataSetError
from .layout import PatchId
from .sample import UNLABELLED, Sample, Series

__all__ = ["Prepared", "PreparedSeries", "prepare_sample", "take_bands"]

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class PreparedSeries:
    """A series as its encoder takes it, without padding.

    Attributes:
        pixels: float32 [T, C, Y, X].
        days: from the reference date, float32 [T].
        dates: datetime64[D] [T].
    """

    pixels: Floats
    days: Floats
    dates: Dates


@dataclass(frozen=True)
class Prepared:
    """One patch as the network takes it; a modality or label that it lacks is in no mapping.

    Attributes:
        patch: which.
        images: modality -> float32 [C, Y, X], 0 where void.
        series: modality -> acquisitions; there may be none.
        labels: task -> classes [Y, X] uint8, 255 where not known.
        teacher: the same patch as another network takes it, that teaches this one.
        hidden: modalities that a second look at the patch does without; None where it is looked at once.
    """

    patch: PatchId
    images: Mapping[str, Floats]
    series: Mapping[str, PreparedSeries]
    labels: Mapping[str, NDArray[np.uint8]]
    teacher: Prepared | None = None
    hidden: frozenset[str] | None = None


def prepare_sample(
    sample: Sample,
    modalities: Mapping[str, Modality],
    *,
    teacher: Prepared | None = None,
    hidden: frozenset[str] | None = None,
) -> Prepared:
    """Prepare every modality of a sample.

    Args:
        sample: chosen from by `choose`, and augmented or not. Labels are not known where the first image is void,
            for the map will be.
        modalities: what the network takes, as its plan says it.
        teacher: the same sample, prepared for a teacher.
        hidden: modalities that a second look does without.

    Raises:
        DataSetError: names the patch that has numbers that are none.
    """
    try:
        images = {name: _image(pixels, modalities[name]) for name, pixels in sample.images.items()}
        series = {name: _series(series, modalities[name]) for name, series in sample.series.items()}
    except TileError as error:
        raise DataSetError(f"{sample.patch}: {error}") from None
    return Prepared(sample.patch, images, series, _seen_labels(sample, modalities), teacher, hidden)


def _seen_labels(sample: Sample, modalities: Mapping[str, Modality]) -> Mapping[str, NDArray[np.uint8]]:
    """Labels without those under void pixels of the network's first modality, if that is an image."""
    base = next(iter(modalities))
    if base not in sample.images or not sample.images[base].void.any():
        return sample.labels
    void = sample.images[base].void[0]

    def masked(label: NDArray[np.uint8]) -> NDArray[np.uint8]:
        rows, columns = (np.arange(side) * many // side for side, many in zip(label.shape, void.shape, strict=True))
        return np.where(void[np.ix_(rows, columns)], np.uint8(UNLABELLED), label)

    return {task: masked(label) for task, label in sample.labels.items()}


def _image(pixels: Pixels, modality: Modality) -> Floats:
    void = pixels.void[0] if pixels.void.any() else None
    prepared: Floats = prepare_image(ImageTile(take_bands(pixels.values, modality)[0], void), modality)[0]
    return prepared


def _series(series: Series, modality: Modality) -> PreparedSeries:
    days = days_from_reference(series.dates, reference_day=modality.reference_day or "")
    void = series.pixels.void if series.pixels.void.any() else None
    tile = SeriesTile(take_bands(series.pixels.values, modality), days, void)
    pixels, days, _ = prepare_series(tile, modality, buckets=(len(series.dates),))
    return PreparedSeries(pixels[0], days[0], series.dates)


def take_bands(values: NDArray[Any], modality: Modality) -> NDArray[Any]:
    """Of all bands of a data set's file [T, C, Y, X] those that a network takes, in its order.

    Raises:
        DataSetError: it takes others.
    """
    held = MODALITIES[modality.name].bands
    if modality.bands == held:
        return values
    try:
        return values[:, [held.index(band) for band in modality.bands]]
    except ValueError:
        raise DataSetError(
            f"the network takes {', '.join(modality.bands)} of {modality.name}, files hold {', '.join(held)}; "
            "name bands of the files"
        ) from None
