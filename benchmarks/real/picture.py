"""Maps beside the image and the truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from uperfuse.engine.flairhub import TASKS
from uperfuse.trainer.data import Sample

from .strips import IMAGE, TASK

__all__ = ["draw_strips"]

_DPI = 100


def draw_strips(strips: Sequence[Sample], maps: Mapping[str, Sequence[NDArray[np.uint8]]], path: Path) -> None:
    """Draw strips side by side: image, truth, and a map of each side.

    Args:
        strips: with images and labels.
        maps: side -> classes of each strip.
        path: of the PNG.
    """
    columns = 2 + len(maps)
    figure = Figure(figsize=(1.1 * columns * len(strips), 4.6), dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    places = figure.subplots(1, columns * len(strips), squeeze=False)[0]
    colours = np.array([_rgb(entry.colour) for entry in TASKS[TASK]], np.uint8)
    seen: set[int] = set()
    for number, strip in enumerate(strips):
        truth = strip.labels[TASK]
        shown = {"image": strip.images[IMAGE].values[0, :3].transpose(1, 2, 0), "truth": colours[truth]}
        shown |= {name: colours[found[number]] for name, found in maps.items()}
        for name, axes in zip(shown, places[number * columns :], strict=False):
            axes.imshow(shown[name], interpolation="nearest")
            axes.set_title(name, fontsize=8)
            axes.set_axis_off()
        seen |= set(np.unique([truth, *(found[number] for found in maps.values())]).tolist())
    handles = [
        Rectangle((0, 0), 1, 1, color=TASKS[TASK][number].colour, label=TASKS[TASK][number].name)
        for number in sorted(seen)
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), 5), fontsize=8, frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def _rgb(colour: str) -> tuple[int, ...]:
    return tuple(int(colour[place : place + 2], 16) for place in (1, 3, 5))
