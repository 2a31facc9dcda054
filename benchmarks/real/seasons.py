"""Parcels as samples of the trainer: each a tile of 2 x 2 equal pixels, the smallest that a series' encoder takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from uperfuse.engine.flairhub import MODALITIES
from uperfuse.engine.plan.network import Modality
from uperfuse.engine.rasters.source import Pixels
from uperfuse.trainer.data import (
    Augmentation,
    Draw,
    PatchId,
    Prepared,
    PreparedDataset,
    PreparedSeries,
    Sample,
    Series,
    prepare_sample,
)
from uperfuse.trainer.description import ModalityConfig, describe_modality

from .parcels import Parcels

__all__ = ["TASK", "TILE_PX", "Seasons", "describe"]

TASK = "CROPS"
TILE_PX = 2


def describe(parcels: Parcels, rows: NDArray[np.intp]) -> dict[str, Modality]:
    """What a network takes of parcels, scaled by the statistics of some of them.

    Args:
        parcels: all.
        rows: of those whose statistics may be known: the ones that are learnt from.
    """
    described = {}
    for name, values in parcels.values.items():
        bands = parcels.bands[name]
        mean, std = np.nanmean(values[rows], (0, 1)), np.nanstd(values[rows], (0, 1))
        statistics = {band: (float(m), float(s)) for band, m, s in zip(bands, mean, std, strict=True)}
        said = ModalityConfig(bands=bands, dtype="float32", statistics=statistics, filter=None)
        described[name] = describe_modality(
            name, channels=len(bands), network="crops", may_be_absent=False, tile_px=TILE_PX, said=said
        )
    return described


@dataclass(frozen=True)
class _Year:
    """Days are counted on over the turn of a year, from the reference day of the middle month's."""

    reference: np.datetime64

    def counted(self, series: PreparedSeries) -> PreparedSeries:
        days = (series.dates - self.reference).astype("timedelta64[D]").astype(np.float32)
        return replace(series, days=days)


class Seasons(PreparedDataset):
    """The series of some parcels.

    Args:
        parcels: all.
        rows: of those that belong to this set.
        modalities: what the network takes.
        augmentation: of draws; what has an index alone is given as it is.
        seed: of all chance.
    """

    def __init__(
        self,
        parcels: Parcels,
        rows: Sequence[int] | NDArray[np.intp],
        *,
        modalities: Mapping[str, Modality],
        augmentation: Augmentation,
        seed: int,
    ) -> None:
        self._parcels = parcels
        self._rows = np.asarray(rows, np.intp)
        self._modalities = dict(modalities)
        self._augmentation = augmentation
        self._seed = seed
        middle = parcels.dates[len(parcels.dates) // 2].astype("datetime64[Y]")
        reference_day = next(iter(modalities.values())).reference_day
        self._year = _Year(np.datetime64(f"{middle}-{reference_day}", "D"))

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, draw: Draw | int) -> Prepared:
        """One parcel."""
        if isinstance(draw, Draw):
            rng = np.random.default_rng([self._seed, draw.number])
            sample = self._augmentation(self._sample(int(self._rows[draw.index])), rng)
        else:
            sample = self._sample(int(self._rows[draw]))
        prepared = prepare_sample(sample, self._modalities)
        return replace(prepared, series={name: self._year.counted(one) for name, one in prepared.series.items()})

    def _sample(self, row: int) -> Sample:
        series = {name: self._series(name, row) for name in self._modalities}
        labels = np.full((TILE_PX, TILE_PX), self._parcels.labels[row], np.uint8)
        return Sample(PatchId(f"parcel {row}", "", "", "", ""), {}, series, {TASK: labels})

    def _series(self, name: str, row: int) -> Series:
        """The months of which every band is known, in the bands that files of FLAIR-HUB have."""
        values = self._parcels.values[name][row]  # [T, C]
        seen = ~np.isnan(values).any(axis=1)
        held = MODALITIES[name].bands
        pixels = np.zeros((int(seen.sum()), len(held), TILE_PX, TILE_PX), np.float32)
        places = [held.index(band) for band in self._parcels.bands[name]]
        pixels[:, places] = values[seen][:, :, None, None]
        void = np.zeros((len(pixels), TILE_PX, TILE_PX), np.bool_)
        return Series(Pixels(pixels, void), self._parcels.dates[seen])
