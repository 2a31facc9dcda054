"""The simulated land, held in memory: many trainings read the same patches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from uperfuse.engine.flairhub import MODALITIES, TASKS
from uperfuse.engine.plan.network import Modality
from uperfuse.engine.rasters.source import Pixels
from uperfuse.trainer.data import (
    Augmentation,
    DataSet,
    Draw,
    Patch,
    Prepared,
    PreparedDataset,
    PreparedSeries,
    Sample,
    choose,
    draw_absent,
    prepare_sample,
    read_sample,
    simulate_data_set,
)
from uperfuse.trainer.data.layout import LABEL_PX
from uperfuse.trainer.training import build

from .kinds import KINDS, SERIES, Land, Settings, config_of

__all__ = ["Draft", "World", "blank", "complete", "simulated"]

_TESTED = 72
"""Test patches at most: subsets of sensors are scored on all of them."""

Statistics = Mapping[str, Mapping[str, tuple[float, float]]]


@dataclass(frozen=True)
class World:
    """Patches with their acquisitions chosen.

    Attributes:
        learnt: patches of the splits "train" and "valid", whatever sensors they have; nothing is chosen by a score,
            so that none need be kept back.
        tested: patches of the test split, of other domains, that have all seven sensors; some of them, where there are
            many.
        statistics: series -> band -> mean and standard deviation in the patches that are learnt from.
        counts: task -> pixels of each class in each patch that is learnt from, [N, K].
        test_patches: in the test split, complete or not.
    """

    learnt: tuple[Sample, ...]
    tested: tuple[Sample, ...]
    statistics: Statistics
    counts: Mapping[str, NDArray[np.int64]]
    test_patches: int

    @classmethod
    def read(cls, root: Path) -> World:
        """Read a data set."""
        data_set = DataSet.open(root)
        modalities = build(config_of(KINDS["dropout"], Settings(), seed=0, statistics={})).modalities

        def samples(patches: Sequence[Patch]) -> tuple[Sample, ...]:
            ids = [patch.id for patch in patches]
            dates = {name: table.only(ids) for name, table in data_set.dates.items()}
            whole = (choose(read_sample(root, patch, dates=dates), modalities) for patch in patches)
            return tuple(_coarser(sample, modalities) for sample in whole)

        learnt = samples([*data_set.split("train").patches, *data_set.split("valid").patches])
        tested = samples(data_set.split("test").patches)
        kept = tuple(sample for sample in tested if complete(sample))
        # every so manieth: domains follow one another
        some = kept[:: -(-len(kept) // _TESTED)] if kept else kept
        return cls(learnt, some, _statistics(learnt), _counts(learnt), len(tested))


def simulated(folder: Path, land: Land, *, workers: int) -> Path:
    """Simulate a data set, unless the folder has it; its own folder."""
    root = folder / f"land-{land.patches}-{land.seed}"
    if not root.exists():
        simulate_data_set(root, patches=land.patches, seed=land.seed, workers=workers)
    return root


def complete(sample: Sample) -> bool:
    """Whether a patch was seen by every sensor, and by each series at least once."""
    held = {*sample.images, *(name for name, series in sample.series.items() if len(series.dates))}
    return held >= MODALITIES.keys()


class Draft(PreparedDataset):
    """Samples in memory as a network takes them: augmented where a draw asks for it.

    A sensor that a patch lacks is left to the network's stand-in, if it has one. One that has not gets zeros: the mean
    of an image, a series without any date.

    Args:
        samples: with their acquisitions chosen.
        modalities: what the network takes.
        augmentation: of draws.
        absence: modality -> probability with which the second look of a draw does without it.
        seed: of all chance.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        modalities: Mapping[str, Modality],
        *,
        augmentation: Augmentation | None = None,
        absence: Mapping[str, float] | None = None,
        seed: int = 0,
    ) -> None:
        self._samples = samples
        self._modalities = dict(modalities)
        self._augmentation = augmentation
        self._absence = dict(absence or {})
        self._seed = seed

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, item: int | Draw) -> Prepared:
        """One patch."""
        if not isinstance(item, Draw):
            return self._prepared(self._samples[item].of(self._modalities))
        rng = np.random.default_rng([self._seed, item.number])
        sample = self._samples[item.index]
        held = [name for name in self._modalities if name in sample.images or name in sample.series]
        # drawn in any case, so that augmentation does not change where nothing is left out
        hidden = draw_absent(held, self._absence, rng)
        sample = sample.of(held)
        sample = sample if self._augmentation is None else self._augmentation(sample, rng)
        return self._prepared(sample, hidden if self._absence else None)

    def _prepared(self, sample: Sample, hidden: frozenset[str] | None = None) -> Prepared:
        prepared = prepare_sample(sample, self._modalities, hidden=hidden)
        side_px = next(iter(sample.labels.values())).shape[-1]
        images, series = dict(prepared.images), dict(prepared.series)
        for name, modality in self._modalities.items():
            if name in images or name in series or modality.may_be_absent:
                continue
            zeros = blank(modality, share=side_px / LABEL_PX)
            if isinstance(zeros, PreparedSeries):
                series[name] = zeros
            else:
                images[name] = zeros
        return replace(prepared, images=images, series=series)


def blank(modality: Modality, *, share: float) -> NDArray[np.float32] | PreparedSeries:
    """What stands for a sensor that is absent where the network has learnt nothing for it.

    Args:
        modality: of the network.
        share: of the side of a tile.
    """
    side = round(share * modality.tile_px)
    zeros = np.zeros((len(modality.channels), side, side), np.float32)
    if modality.kind == "image":
        return zeros
    return PreparedSeries(zeros[None][:0], np.zeros(0, np.float32), np.zeros(0, "datetime64[D]"))


def _coarser(sample: Sample, modalities: Mapping[str, Modality]) -> Sample:
    """A patch whose images have the pixels that the networks take, which may be means over several of the sensor's."""
    return replace(
        sample, images={name: _means(pixels, modalities[name].tile_px) for name, pixels in sample.images.items()}
    )


def _means(pixels: Pixels, side_px: int) -> Pixels:
    """Means over squares of pixels; void where any pixel is."""
    rows, columns = pixels.values.shape[-2:]
    factor = rows // side_px
    if factor == 1:
        return pixels
    shape = rows // factor, factor, columns // factor, factor
    values = pixels.values.reshape(*pixels.values.shape[:-2], *shape).mean((-3, -1), dtype=np.float64)
    void: NDArray[np.bool_] = np.asarray(pixels.void.reshape(len(pixels.void), *shape).any((-3, -1)))
    exact = np.rint(values) if pixels.values.dtype.kind in "iu" else values
    return Pixels(np.where(void[:, None], 0, exact).astype(pixels.values.dtype), void)


def _statistics(samples: Sequence[Sample]) -> Statistics:
    """Mean and standard deviation of every band of the series."""
    found: dict[str, dict[str, tuple[float, float]]] = {}
    for name in SERIES:
        bands = [
            sample.series[name].pixels.values.swapaxes(0, 1)[:, ~sample.series[name].pixels.void].astype(np.float64)
            for sample in samples
            if name in sample.series
        ]
        joined = np.concatenate(bands, axis=1)  # [C, N]
        found[name] = {
            band: (float(f"{values.mean():.4g}"), float(f"{values.std():.4g}"))
            for band, values in zip(MODALITIES[name].bands, joined, strict=True)
        }
    return found


def _counts(samples: Sequence[Sample]) -> dict[str, NDArray[np.int64]]:
    return {
        task: np.stack(
            [
                np.bincount(sample.labels[task].ravel(), minlength=2**8)[: len(classes)]
                if task in sample.labels
                else np.zeros(len(classes), np.int64)
                for sample in samples
            ]
        )
        for task, classes in TASKS.items()
    }
