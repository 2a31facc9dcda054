"""Land cover of the right of images, learnt from their left: a small network next to a random forest.

    python -m benchmarks.real.land_cover FOLDER [--seeds 3] [-o docs/real.md]

FOLDER holds aerial images and their labels, `*AERIAL_RGBI*.tif` and `*AERIAL_LABEL-COSIA*.tif`, or FLAIR's first
release of them. Of each image the left five eighths of the columns are learnt from, the right five sixteenths are
tested on, and the sixteenth between is used by neither. Both sides see all four bands.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from uperfuse.engine.flairhub import MODALITIES, TASKS
from uperfuse.engine.plan.network import Modality
from uperfuse.trainer.data import Augmentation, Sample
from uperfuse.trainer.description import describe_modality
from uperfuse.trainer.losses import TaskLoss, class_weights
from uperfuse.trainer.network import BackboneSpec, ImageSpec, NetworkSpec, TaskSpec, UPerFuse
from uperfuse.trainer.scores import GroupedConfusion, Scores, scores_of
from uperfuse.trainer.training import Objective, Recipe, fit

from .document import circumstances, spread, write_part
from .forests import TREES, WINDOWS_PX, PixelForest
from .mapping import map_strip
from .picture import draw_strips
from .strips import IMAGE, TASK, Cut, Strip, read_strips
from .windows import Windows

__all__ = ["Learning", "learn", "network_spec", "score"]

Labels = NDArray[np.uint8]

_CLASSES = TASKS[TASK]
_IGNORED = [entry.ignored for entry in _CLASSES]
_PICTURED = 3


@dataclass(frozen=True)
class Learning:
    """How the network learns.

    Attributes:
        backbone: of its encoder.
        side_px: of the windows that it learns from, and of the tiles that it maps.
        steps: updates of the weights.
        batch: windows of one update.
        learning_rate: peak of the cycle.
        weight_decay: of AdamW.
        power: of the class weights; 0 weighs all alike.
        zoom: largest logarithm of a window's scale.
        augmentation: of windows.
        squares: of other windows that are pasted into each.
    """

    backbone: BackboneSpec = field(default_factory=lambda: BackboneSpec("convnextv2", (24, 48, 96, 144), (2, 2, 4, 2)))
    side_px: int = 64
    steps: int = 2000
    batch: int = 24
    learning_rate: float = 2e-3
    weight_decay: float = 0.05
    power: float = 0.0
    zoom: float = 0.25
    augmentation: Augmentation = field(default_factory=lambda: Augmentation(brightness=0.05, haze=0.0))
    squares: int = 3


def network_spec(learning: Learning) -> NetworkSpec:
    """The network: one aerial image of four bands, one task."""
    channels = len(MODALITIES[IMAGE].bands)
    image = ImageSpec(IMAGE, channels, learning.side_px, learning.backbone)
    task = TaskSpec(TASK, len(_CLASSES))
    return NetworkSpec((image,), (), (task,), pyramid_channels=48, segmentation_channels=32)


def describe(learning: Learning) -> dict[str, Modality]:
    """What the network takes, in FLAIR-HUB's statistics."""
    channels = len(MODALITIES[IMAGE].bands)
    return {
        IMAGE: describe_modality(
            IMAGE, channels=channels, network="land cover", may_be_absent=False, tile_px=learning.side_px
        )
    }


def learn(
    strips: Sequence[Sample],
    *,
    learning: Learning,
    modalities: Mapping[str, Modality],
    seed: int,
    progress: Callable[[int, int], None] = lambda _done, _all: None,
) -> UPerFuse:
    """Train a network from random weights.

    Args:
        strips: to learn from.
        learning: how.
        modalities: what the network takes.
        seed: of weights, order and augmentation.
        progress: told the steps that are done, and all of them.
    """
    counts = np.zeros(len(_CLASSES), np.int64)
    for strip in strips:
        counts += np.bincount(strip.labels[TASK].ravel(), minlength=len(_CLASSES))[: len(_CLASSES)]
    weights = class_weights(counts, ignored=_IGNORED, power=learning.power) if learning.power else None
    windows = Windows(
        strips,
        modalities=modalities,
        side_px=learning.side_px,
        zoom=learning.zoom,
        augmentation=learning.augmentation,
        squares=learning.squares,
        seed=seed,
    )
    recipe = Recipe(
        steps=learning.steps,
        round_steps=learning.steps,
        batch=learning.batch,
        learning_rate=learning.learning_rate,
        weight_decay=learning.weight_decay,
        average=0.99,
        label_stride=2,
        seed=seed,
    )
    torch.manual_seed(seed)
    objective = Objective(
        UPerFuse(network_spec(learning)), {TASK: TaskLoss(_IGNORED, weights=weights)}, label_stride=recipe.label_stride
    )
    return fit(objective, windows, recipe=recipe, progress=progress)


def score(maps: Sequence[Labels], strips: Sequence[Strip]) -> Scores:
    """Scores of the maps of all test strips together."""
    confusion = GroupedConfusion(_IGNORED)
    for found, strip in zip(maps, strips, strict=True):
        truth = strip.test.labels[TASK]
        confusion.update(torch.from_numpy(found)[None], torch.from_numpy(truth)[None])
    return scores_of(confusion.matrix(), _CLASSES)


@dataclass(frozen=True)
class _Side:
    """One side of the study, seed by seed: its maps of the test strips, and their scores."""

    name: str
    maps: list[list[Labels]]
    scores: list[Scores]


def _study(
    strips: Sequence[Strip], learning: Learning, *, seeds: range, pixels: int | None, processes: int
) -> tuple[_Side, _Side]:
    modalities = describe(learning)
    train = [strip.train for strip in strips]
    forest, network = _Side("random forest", [], []), _Side("network", [], [])
    for seed in seeds:
        grown = PixelForest(train, pixels=pixels, seed=seed, processes=processes)
        _add(forest, [grown(strip.test) for strip in strips], strips, seed)
        trained = learn(train, learning=learning, modalities=modalities, seed=seed, progress=_say)
        maps = [map_strip(trained, strip.test, modalities=modalities, side_px=learning.side_px) for strip in strips]
        _add(network, maps, strips, seed)
    return forest, network


def _add(side: _Side, maps: list[Labels], strips: Sequence[Strip], seed: int) -> None:
    side.maps.append(maps)
    side.scores.append(score(maps, strips))
    found = side.scores[-1]
    print(f"seed {seed}, {side.name}: mIoU {found.mean_iou:.3f}, accuracy {found.accuracy:.3f}", flush=True)


def _say(done: int, of: int) -> None:
    if done % 100 == 0:
        print(f"step {done} of {of}", flush=True)


def _table(sides: Sequence[_Side]) -> list[str]:
    """Means over classes, then each class: mean and deviation over seeds."""
    lines = [
        "| | " + " | ".join(side.name for side in sides) + " |",
        "| --- |" + " ---: |" * len(sides),
        "| **mIoU** | " + " | ".join(spread([s.mean_iou for s in side.scores]) for side in sides) + " |",
        "| **F1, mean of classes** | " + " | ".join(spread([s.mean_f1 for s in side.scores]) for side in sides) + " |",
        "| **accuracy** | " + " | ".join(spread([s.accuracy for s in side.scores]) for side in sides) + " |",
    ]
    truth = {entry.name: entry.pixels for entry in sides[0].scores[0].classes if entry.pixels}
    for name, pixels in truth.items():
        cells = (
            spread([entry.iou for found in side.scores for entry in found.classes if entry.name == name])
            for side in sides
        )
        lines.append(f"| IoU of {name}, {pixels:,} px | " + " | ".join(cells) + " |")
    return lines


def _words(strips: Sequence[Strip], learning: Learning, *, pixels: int, seeds: range, weights: int) -> list[str]:
    train, test = strips[0].train.labels[TASK].shape, strips[0].test.labels[TASK].shape
    backbone = learning.backbone
    images = f"{len(strips)} images of {', '.join(MODALITIES[IMAGE].bands)}"
    numbers = f"{'-'.join(map(str, backbone.dims))} (depths {'-'.join(map(str, backbone.depths))})"
    side = learning.side_px
    return [
        f"{images}: {train[1]} columns of {train[0]} px to learn from, {test[1]} to be tested on, on the other side",
        f"of a gap. Seeds {seeds.start} to {seeds.stop - 1}, mean ± standard deviation over them.",
        "",
        f"- **Random forest**: {TREES} trees; each pixel's bands, and their means and deviations over "
        f"{', '.join(map(str, WINDOWS_PX))} px,",
        f"  which see nothing across the gap; {pixels:,} pixels to learn from.",
        f"- **Network**: UPerFuse with ConvNeXtV2 {numbers} and UPerNet,",
        f"  {weights / 1e6:.1f} million weights, random ones at first; {learning.steps} steps of {learning.batch} "
        f"windows of {side} px,",
        f"  turned by any angle, scaled, lit otherwise, and with {learning.squares} squares of other windows pasted in",
        f"  (CutMix). Maps are means of overlapping tiles of {side} px from inside of the test columns alone,",
        "  each seen in eight positions.",
    ]


def main(arguments: Sequence[str] | None = None, *, learning: Learning | None = None) -> None:
    """Read, learn, map, score, write.

    Args:
        arguments: of the command line; the process' own where left out.
        learning: how the network learns where the command line does not say.
    """
    learning = learning or Learning()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, default=3, help="times that both sides learn")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=learning.steps, help="of the network")
    parser.add_argument("--pixels", type=int, help="that the forest learns from, drawn at random; all where left out")
    parser.add_argument("--processes", type=int, default=2, help="that grow the forest")
    parser.add_argument("-o", "--out", type=Path, help="document to write into; a picture is put beside it")
    asked = parser.parse_args(arguments)
    began = time.monotonic()
    strips, learning = read_strips(asked.folder, cut=Cut()), replace(learning, steps=asked.steps)
    seeds = range(asked.first_seed, asked.first_seed + asked.seeds)
    sides = _study(strips, learning, seeds=seeds, pixels=asked.pixels, processes=asked.processes)
    table = _table(sides)
    print("\n".join(table))
    if asked.out is None:
        return
    learnt = sum(int((~np.isin(s.train.labels[TASK], np.flatnonzero(_IGNORED))).sum()) for s in strips)
    weights = sum(weight.numel() for weight in UPerFuse(network_spec(learning)).parameters())
    picture = asked.out.with_name(f"{asked.out.stem}-land-cover.png")
    # of all strips those with the most classes tell the most
    most = sorted(range(len(strips)), key=lambda place: -len(np.unique(strips[place].test.labels[TASK])))[:_PICTURED]
    draw_strips(
        [strips[place].test for place in most],
        {side.name: [side.maps[0][place] for place in most] for side in sides},
        picture,
    )
    command = f"python -m benchmarks.real.land_cover {asked.folder.name} --seeds {asked.seeds} --steps {asked.steps}"
    command += f" --first-seed {asked.first_seed}" if asked.first_seed else ""
    command += f" --pixels {asked.pixels}" if asked.pixels else ""
    lines = [
        *_words(strips, learning, pixels=min(asked.pixels or learnt, learnt), seeds=seeds, weights=weights),
        "",
        *table,
        "",
        f"![Image, truth, and both sides' maps of test strips]({picture.name})",
        "",
        circumstances(command, minutes=(time.monotonic() - began) / 60),
    ]
    write_part(asked.out, "land cover", lines)


if __name__ == "__main__":
    main()
