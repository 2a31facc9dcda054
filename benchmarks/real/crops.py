"""Crops of parcels from monthly satellite values: networks of U-TAEs next to a random forest.

    python -m benchmarks.real.crops FILE [--folds 5] [--seeds 3] [--networks 3] [-o docs/real.md]

FILE is a GeoParquet file with a row for each parcel and month, as ESA's WorldCereal extracts them. A parcel is tested
on by what learnt from parcels in other squares of ground. Both sides see the same numbers of the same parcels.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from sklearn.metrics import confusion_matrix

from uperfuse.engine.plan.network import ClassEntry
from uperfuse.trainer.network import UPerFuse
from uperfuse.trainer.scores import Scores, scores_of

from .document import circumstances, spread, write_part
from .folds import Labels, Learning, Probabilities, Rows, by_forest, by_network, crop_network, folds
from .forests import TREES
from .parcels import Parcels, grid_cells, read_parcels

__all__ = ["Side", "compare"]

_CHOSEN = """The network's settings were chosen on another cut (seed 9) of 500 French parcels of 2022, those of
`2022_FRA_LPIS_POLY_110_month`, by the accuracy of one network there, among ten: of widths, depth, augmentation, decay,
mixing, losses and logarithms; the forest's are its library's."""


@dataclass
class Side:
    """One side of the study.

    Attributes:
        name: in words.
        apart: scores of every fold of every seed; where a side is one network of several, of each of them.
        together: scores of all parcels of a seed, each tested on once; of each network likewise.
    """

    name: str
    apart: list[Scores] = field(default_factory=list)
    together: list[Scores] = field(default_factory=list)


def compare(parcels: Parcels, *, learning: Learning, count: int, side_km: float, seeds: range) -> tuple[Side, ...]:
    """All sides on the same folds: the forest, one network, and where there are several their mean.

    Args:
        parcels: all.
        learning: how the networks learn.
        count: of folds.
        side_km: of the squares of ground that are not torn apart.
        seeds: of folds, trees, weights and augmentation.
    """
    several = learning.networks
    sides = [Side("random forest"), Side("one network")]
    if several > 1:
        sides.append(Side(f"mean of {several} networks"))
    for seed in seeds:
        by_trees = np.zeros(len(parcels), np.int64)
        probabilities = np.zeros((several, len(parcels), len(parcels.classes)), np.float32)
        for number, fold in enumerate(folds(parcels, count=count, side_km=side_km, seed=seed)):
            by_trees[fold.test] = by_forest(parcels, fold, seed=seed)
            for member in range(several):
                own = seed * several + member  # no two networks begin alike
                probabilities[member, fold.test] = by_network(parcels, fold, learning=learning, seed=own)
            for side, scores in zip(sides, _scored(parcels, fold.test, by_trees, probabilities), strict=True):
                side.apart.extend(scores)
            for side in (sides[0], sides[-1]):
                last = side.apart[-1]
                print(
                    f"seed {seed}, fold {number + 1} of {count}, {side.name}: mIoU {last.mean_iou:.3f}, "
                    f"F1 {last.mean_f1:.3f}, accuracy {last.accuracy:.3f}",
                    flush=True,
                )
        everything = np.arange(len(parcels))
        for side, scores in zip(sides, _scored(parcels, everything, by_trees, probabilities), strict=True):
            side.together.extend(scores)
    return tuple(sides)


def _scored(parcels: Parcels, rows: Rows, by_trees: Labels, probabilities: Probabilities) -> list[list[Scores]]:
    """Scores on some parcels: of the forest, of each network, and where there are several of their mean.

    Args:
        parcels: all.
        rows: of those that count.
        by_trees: the forest's classes of all parcels, [N].
        probabilities: each network's, of all parcels, [M, N, K].
    """
    answers = [[by_trees], [*probabilities.argmax(2)]]
    if len(probabilities) > 1:
        answers.append([probabilities.mean(0).argmax(1)])
    return [[_scores(parcels, rows, answer[rows]) for answer in each] for each in answers]


def _scores(parcels: Parcels, rows: Rows, found: Labels) -> Scores:
    counts = confusion_matrix(parcels.labels[rows], found, labels=range(len(parcels.classes)))
    return scores_of(counts, [ClassEntry(name=name, colour="#000000") for name in parcels.classes])


def _table(sides: Sequence[Side]) -> list[str]:
    lines = ["| | " + " | ".join(side.name for side in sides) + " |", "| --- |" + " ---: |" * len(sides)]
    measures: dict[str, Callable[[Scores], float]] = {
        "mIoU": lambda scores: scores.mean_iou,
        "F1, mean of classes": lambda scores: scores.mean_f1,
        "accuracy": lambda scores: scores.accuracy,
    }
    for word, of in measures.items():
        cells = " | ".join(spread([of(each) for each in side.apart]) for side in sides)
        lines.append(f"| {word}, of a fold | {cells} |")
    for word, of in measures.items():
        cells = " | ".join(spread([of(each) for each in side.together]) for side in sides)
        lines.append(f"| **{word}, of all folds together** | {cells} |")
    names = {entry.name: entry.pixels for entry in sides[0].together[0].classes}
    for name, count in sorted(names.items(), key=lambda item: -item[1]):
        cells = " | ".join(
            spread([entry.f1 for found in side.together for entry in found.classes if entry.name == name])
            for side in sides
        )
        lines.append(f"| F1 of {name}, {count} parcels | {cells} |")
    return lines


def _cuts(seeds: range) -> str:
    if len(seeds) == 1:
        return f", cut once (seed {seeds.start})."
    return f", cut {len(seeds)} times (seeds {seeds.start} to {seeds.stop - 1})."


def _words(parcels: Parcels, learning: Learning, *, count: int, side_km: float, seeds: range) -> list[str]:
    bands = {name: len(names) for name, names in parcels.bands.items()}
    spec = crop_network(bands, classes=len(parcels.classes), widths=learning.widths)
    weights = sum(weight.numel() for weight in UPerFuse(spec).parameters())
    squares = len(np.unique(grid_cells(parcels.lon_lat, side_km=side_km)))
    most = Counter(parcels.labels.tolist()).most_common(1)[0][1]
    augmentation = learning.augmentation
    seen = "; ".join(f"{', '.join(names)} of {name}" for name, names in parcels.bands.items())
    changed = (
        f"up to {augmentation.dropped_dates:.0%} of the months left out, the others dated up to "
        f"{augmentation.jitter_days} days wrongly and scaled by about {augmentation.jitter:.0%}"
    )
    return [
        f"{len(parcels)} parcels over {len(parcels.dates)} months: {seen}.",
        f"{len(parcels.classes)} classes, by crop code; those with fewer than five parcels are one. The most frequent "
        f"holds {most / len(parcels):.0%} of the parcels.",
        f"{count} folds of whole squares of {side_km:g} km, of which {squares} hold parcels, with classes spread as",
        f"evenly as squares allow{_cuts(seeds)}",
        "Every parcel is tested on once by what learnt from other folds. Mean ± standard deviation: for scores of a",
        "fold over folds, else over what there is several of: cuts and, for one network, networks.",
        "",
        f"- **Random forest**: {TREES} trees on the values of all months.",
        "- **Network**: UPerFuse of series alone, a U-TAE each for Sentinel-2 and Sentinel-1 with widths "
        f"{'-'.join(map(str, learning.widths))},",
        f"  scores averaged; {weights / 1e3:.0f} thousand weights, random ones at first. A parcel is a tile of 2 x 2 "
        "equal pixels,",
        f"  scaled by the statistics of the parcels that are learnt from. {learning.epochs} epochs in batches of "
        f"{learning.batch},",
        f"  weights decay by {learning.weight_decay:g}; {changed}.",
        *(
            [
                f"- **Mean of {learning.networks} networks**: their probabilities are averaged, as a forest averages "
                "its trees'. They differ in",
                "  first weights, order and augmentation.",
            ]
            if learning.networks > 1
            else []
        ),
        "",
        _CHOSEN,
    ]


def main(arguments: Sequence[str] | None = None, *, learning: Learning | None = None) -> None:
    """Read, learn fold by fold, score, write.

    Args:
        arguments: of the command line; the process' own where left out.
        learning: how the network learns where the command line does not say.
    """
    learning = learning or Learning()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=3, help="times that folds are cut and all sides learn")
    parser.add_argument("--square-km", type=float, default=5.0, help="side of the squares that are not torn apart")
    parser.add_argument("--epochs", type=int, default=learning.epochs, help="of the network")
    parser.add_argument("--networks", type=int, default=learning.networks, help="whose probabilities are averaged")
    parser.add_argument("-o", "--out", type=Path, help="document to write into")
    asked = parser.parse_args(arguments)
    began = time.monotonic()
    parcels, seeds = read_parcels(asked.file), range(asked.seeds)
    learning = replace(learning, epochs=asked.epochs, networks=asked.networks)
    settings = {"count": asked.folds, "side_km": asked.square_km, "seeds": seeds}
    table = _table(compare(parcels, learning=learning, **settings))
    print("\n".join(table))
    if asked.out is None:
        return
    command = (
        f"python -m benchmarks.real.crops {asked.file.name} --folds {asked.folds} --seeds {asked.seeds} "
        f"--square-km {asked.square_km:g} --epochs {asked.epochs} --networks {asked.networks}"
    )
    lines = [
        *_words(parcels, learning, **settings),
        "",
        *table,
        "",
        circumstances(command, minutes=(time.monotonic() - began) / 60),
    ]
    write_part(asked.out, "crops", lines)


if __name__ == "__main__":
    main()
