"""Scores of a network for any subset of its sensors; each sensor is encoded once for all subsets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Tensor

from uperfuse.engine.plan.network import Modality, Task
from uperfuse.trainer.data import Batch, PreparedDataset, collate, make_loader
from uperfuse.trainer.data.prepare import Prepared
from uperfuse.trainer.network import UPerFuse
from uperfuse.trainer.scores import GroupedConfusion, Scores, scores_of

__all__ = ["Maps", "Subset", "averaged", "learned", "score", "subsets_of", "zeroed"]

Maps = Sequence[Tensor]
"""Maps of one sensor at every level, projected: its share of the fusion."""

Subset = tuple[str, ...]
"""Sensors that are present, in FLAIR-HUB's order."""

_STRIDE = 4
"""Of the labels every how manieth pixel is scored, along both axes; the maps of a decoder are enlarged so far."""


def subsets_of(modalities: Sequence[str]) -> list[Subset]:
    """Every subset but the empty one, smallest first."""
    return [chosen for count in range(1, len(modalities) + 1) for chosen in combinations(modalities, count)]


@torch.no_grad()
def score(
    network: UPerFuse,
    patches: PreparedDataset,
    tasks: Sequence[Task],
    *,
    ways: Mapping[str, Mapping[str, Maps]],
    subsets: Sequence[Subset],
    batch: int = 4,
) -> dict[str, dict[Subset, dict[str, Scores]]]:
    """Scores over every fourth pixel along both axes; of several subsets, where the decoder's own cells lie.

    Args:
        network: in inference mode.
        patches: complete ones.
        tasks: of the network.
        ways: how absence is answered -> sensor -> maps that take its place; see `learned`, `zeroed` and `averaged`.
        subsets: sensors that are present, the others absent; of all sensors alone there may be no maps in their place.
        batch: patches at once.

    Returns:
        Way -> subset -> task -> scores.
    """
    counts = {
        (way, subset, task.name): GroupedConfusion([entry.ignored for entry in task.classes])
        for way in ways
        for subset in subsets
        for task in tasks
    }
    for each in make_loader(patches, batch=batch):
        side_px = next(iter(each.labels.values())).shape[-1]
        grid = _Grid.of(side_px, dense=len(subsets) == 1)
        truth = {task: labels[:, grid.pixels][:, :, grid.pixels] for task, labels in each.labels.items()}
        here = _encoded(network, each)
        sizes = [(level.shape[-2], level.shape[-1]) for level in next(iter(here.values()))]
        here = {name: _fitted(network, name, maps, sizes) for name, maps in here.items()}
        for way, replacements in ways.items():
            away = {name: _fitted(network, name, maps, sizes) for name, maps in replacements.items()}
            for subset in subsets:
                shares = {name: here[name] if name in subset else away[name] for name in network.spec.modalities}
                pyramid = network.fuse(shares)
                for task, labels in truth.items():
                    found = _map(network, task, pyramid, grid)
                    counts[way, subset, task].update(found, labels)
    return {
        way: {
            subset: {task.name: scores_of(counts[way, subset, task.name].matrix(), task.classes) for task in tasks}
            for subset in subsets
        }
        for way in ways
    }


@torch.no_grad()
def learned(network: UPerFuse) -> dict[str, Maps]:
    """What takes an absent sensor's place in a network that has learnt it: its stand-in."""
    return {name: network.project(name, network.stand_in(name)) for name in network.spec.absent}


@torch.no_grad()
def zeroed(network: UPerFuse, modalities: Mapping[str, Modality]) -> dict[str, Maps]:
    """What takes its place otherwise: an image of zeros, which is the mean of images, and a series without dates."""
    return {name: _alone(network, modality) for name, modality in modalities.items()}


@torch.no_grad()
def averaged(network: UPerFuse, patches: Iterable[Prepared]) -> dict[str, Maps]:
    """What one may put there without training: the sensor's maps, averaged over patches that have it."""
    sums: dict[str, list[Tensor]] = {}
    count = 0
    for patch in patches:
        count += 1
        for name, maps in _encoded(network, collate([patch])).items():
            means = [level.mean((-2, -1), keepdim=True) for level in maps]
            sums[name] = [a + b for a, b in zip(sums[name], means, strict=True)] if name in sums else means
    return {name: [level / count for level in maps] for name, maps in sums.items()}


def _encoded(network: UPerFuse, batch: Batch) -> dict[str, list[Tensor]]:
    """Maps of every sensor, projected."""
    encoded = {}
    for name in network.spec.modalities:
        pixels = batch.inputs[name]
        if name in batch.days:
            maps = network.encode_series(name, pixels, batch.days[name], batch.masks[name])
        else:
            maps = network.encode_image(name, pixels)
        encoded[name] = network.project(name, maps)
    return encoded


def _alone(network: UPerFuse, modality: Modality) -> list[Tensor]:
    name, side = modality.name, modality.tile_px
    zeros = torch.zeros(1, len(modality.channels), side, side)
    if modality.kind == "image":
        return network.project(name, network.encode_image(name, zeros))
    nothing = torch.zeros(1, 1, dtype=torch.bool)
    return network.project(name, network.encode_series(name, zeros[None], torch.zeros(1, 1), nothing))


def _fitted(network: UPerFuse, name: str, maps: Maps, sizes: Sequence[tuple[int, int]]) -> list[Tensor]:
    """Maps at the sizes that are fused, so that subsets need only add them up."""
    return network.fuse({name: maps}, sizes=sizes)


@dataclass(frozen=True)
class _Grid:
    """Where maps and labels are compared, along one side.

    Attributes:
        enlarged_px: side of the map.
        places: rows and columns of that map, which may lie between its pixels.
        pixels: the same of the labels.
    """

    enlarged_px: int
    places: Tensor
    pixels: Tensor

    @classmethod
    def of(cls, side_px: int, *, dense: bool) -> _Grid:
        """Every pixel of the map; or the cells of a decoder whose maps are enlarged by 4 with their corners aligned."""
        enlarged_px = side_px // _STRIDE
        count = enlarged_px if dense else enlarged_px // 4
        places = torch.linspace(0, enlarged_px - 1, count)
        pixels = ((places + 0.5) * _STRIDE - 0.5).round().long().clamp(0, side_px - 1)
        return cls(enlarged_px, places, pixels)


def _map(network: UPerFuse, task: str, pyramid: Maps, grid: _Grid) -> Tensor:
    """Classes [B, Y, X] on a grid."""
    logits = network.decode(task, pyramid)
    if logits.shape[-1] != len(grid.places):
        nearest = grid.places.round().long()
        size = grid.enlarged_px, grid.enlarged_px
        logits = network.enlarge(logits, output_px=size)[..., nearest, :][..., nearest]
    return logits.argmax(1)
