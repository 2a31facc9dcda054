"""Prepared patches to a batch: series padded to the longest, absences marked, labels as class maps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...engine.plan.network import Modality
from .dates import Dates
from .layout import PatchId
from .prepare import Prepared, PreparedSeries
from .sample import UNLABELLED

__all__ = ["Batch", "collate"]


@dataclass(frozen=True)
class Batch:
    """What `UPerFuse.forward` takes, and the truth.

    Attributes:
        patches: which, B of them, with their domains and regions.
        inputs: modality -> float32 [B, C, Y, X] or [B, T, C, Y, X]; 0 where a patch lacks it, and in padding. A
            modality that all of them lack is left out.
        days: series -> days from the reference date, float32 [B, T].
        masks: series -> True for a date, False for padding, bool [B, T].
        present: modality that some of them lack -> True where the patch has it, bool [B]. All have the others.
        labels: task -> classes, uint8 [B, Y, X]; 255 where not known and for a patch without this label. A task that
            no patch has a label of is left out.
        dates: series -> datetime64[D] [T] of each patch, without padding.
        teacher: the same patches as another network takes them, that teaches this one.
        shown: modality -> False where a second look at the patch does without it, bool [B]; None where patches are
            looked at once.
    """

    patches: tuple[PatchId, ...]
    inputs: dict[str, Tensor]
    days: dict[str, Tensor]
    masks: dict[str, Tensor]
    present: dict[str, Tensor]
    labels: dict[str, Tensor]
    dates: dict[str, tuple[Dates, ...]]
    teacher: Batch | None = None
    shown: dict[str, Tensor] | None = None

    def __len__(self) -> int:
        return len(self.patches)

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> Batch:
        """The same on another device."""
        return self._each(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def first(self, count: int) -> Batch:
        """The first patches of it; `present` then says of modalities that none of them has, too."""
        cut = self._each(lambda tensor: tensor[:count])
        dates = {name: entries[:count] for name, entries in self.dates.items()}
        return replace(cut, patches=self.patches[:count], dates=dates)

    def pin_memory(self) -> Batch:
        """The same in memory from which a GPU can copy by itself."""
        return self._each(lambda tensor: tensor.pin_memory())

    def _each(self, change: Callable[[Tensor], Tensor]) -> Batch:
        def changed(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
            return {name: change(tensor) for name, tensor in tensors.items()}

        return replace(
            self,
            inputs=changed(self.inputs),
            days=changed(self.days),
            masks=changed(self.masks),
            present=changed(self.present),
            labels=changed(self.labels),
            teacher=None if self.teacher is None else self.teacher._each(change),
            shown=None if self.shown is None else changed(self.shown),
        )


def collate(prepared: Sequence[Prepared], *, complete: Mapping[str, Modality] | None = None) -> Batch:
    """Stack some patches.

    Every series is padded with zeros to the longest of the batch, at least to one date; masks say what is real.

    Args:
        prepared: B patches; they may differ in modalities, labels and numbers of dates.
        complete: modalities that are never left out of a batch: zeros stand for one that no patch has. Processes that
            train together need it, for each must run the layers that the others run.
    """
    if complete is not None:
        blank = _blank(prepared, complete)
        batch = collate([*prepared, blank])
        return batch.first(len(prepared))
    inputs: dict[str, Tensor] = {}
    days: dict[str, Tensor] = {}
    masks: dict[str, Tensor] = {}
    present: dict[str, Tensor] = {}
    dates: dict[str, tuple[Dates, ...]] = {}
    for name in _names([each.images for each in prepared]):
        images = [each.images.get(name) for each in prepared]
        inputs[name] = _stack(images)
        _mark(present, name, images)
    for name in _names([each.series for each in prepared]):
        series = [each.series.get(name) for each in prepared]
        longest = max(1, *(len(one.days) for one in series if one is not None))
        inputs[name] = _stack([None if one is None else _padded(one.pixels, longest) for one in series])
        days[name] = _stack([None if one is None else _padded(one.days, longest) for one in series])
        counts = [0 if one is None else len(one.days) for one in series]
        masks[name] = torch.arange(longest) < torch.tensor(counts)[:, None]
        _mark(present, name, series)
        dates[name] = tuple(np.zeros(0, "datetime64[D]") if one is None else one.dates for one in series)
    labels = {
        task: _stack_labels([each.labels.get(task) for each in prepared])
        for task in _names([each.labels for each in prepared])
    }
    taught = [each.teacher for each in prepared if each.teacher is not None]
    teacher = collate(taught) if taught else None
    patches = tuple(each.patch for each in prepared)
    return Batch(patches, inputs, days, masks, present, labels, dates, teacher, _shown(prepared))


def _blank(prepared: Sequence[Prepared], modalities: Mapping[str, Modality]) -> Prepared:
    """A patch of zeros that has all modalities, of the size that others have, and no labels."""
    some = prepared[0]
    name, held = next(iter([*some.images.items(), *((name, one.pixels) for name, one in some.series.items())]))
    scale = held.shape[-1] / modalities[name].tile_px
    images: dict[str, NDArray[np.float32]] = {}
    series: dict[str, PreparedSeries] = {}
    for modality in modalities.values():
        side = round(scale * modality.tile_px)
        zeros = np.zeros((len(modality.channels), side, side), np.float32)
        if modality.kind == "image":
            images[modality.name] = zeros
        else:
            series[modality.name] = PreparedSeries(
                zeros[None][:0], np.zeros(0, np.float32), np.zeros(0, "datetime64[D]")
            )
    return Prepared(some.patch, images, series, {})


def _names(mappings: Sequence[Mapping[str, object]]) -> list[str]:
    """Keys of all mappings, in the order in which they are met."""
    return list(dict.fromkeys(name for mapping in mappings for name in mapping))


def _mark(present: dict[str, Tensor], name: str, values: Sequence[object]) -> None:
    """Say which patches have a modality, where not all have; a network that needs it takes no such word."""
    if any(value is None for value in values):
        present[name] = torch.tensor([value is not None for value in values])


def _shown(prepared: Sequence[Prepared]) -> dict[str, Tensor] | None:
    """What second looks do without, if there are any."""
    hidden = [each.hidden for each in prepared if each.hidden is not None]
    if not hidden:
        return None
    names = sorted(frozenset().union(*hidden))
    return {name: torch.tensor([name not in (each.hidden or ()) for each in prepared]) for name in names}


def _padded(values: NDArray[np.float32], dates: int) -> NDArray[np.float32]:
    padded = np.zeros((dates, *values.shape[1:]), np.float32)
    padded[: len(values)] = values
    return padded


def _stack_labels(labels: Sequence[NDArray[np.uint8] | None]) -> Tensor:
    """Stack along a new first axis; what is None is not known anywhere."""
    unknown = np.full_like(next(label for label in labels if label is not None), UNLABELLED)
    return torch.from_numpy(np.stack([unknown if label is None else label for label in labels]))


def _stack(values: Sequence[NDArray[np.float32] | None]) -> Tensor:
    """Stack along a new first axis; zeros stand for what is None."""
    shape = next(value.shape for value in values if value is not None)
    stacked = np.zeros((len(values), *shape), np.float32)
    for place, value in zip(stacked, values, strict=True):
        if value is not None:
            place[...] = value
    return torch.from_numpy(stacked)
