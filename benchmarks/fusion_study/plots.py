"""Plots of the study: bars with their spread over seeds, and a dot for every subset of sensors."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import combinations
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from .findings import ANSWERS, TASK_WORDS
from .kinds import ALL, KINDS
from .study import Measure, Study, ends_of

__all__ = ["draw"]

_DPI = 100
_WAYS = (
    ("longer", "zeros", "without dropout: zeros", "#c2593f", -0.22),
    ("longer", "mean", "without dropout: mean maps", "#d9a441", 0.0),
    ("dropout", "stand-in", "with dropout: stand-ins", "#2f6f9f", 0.22),
)
_COLOURS = {"alone": "#8aa8b8", "pair": "#5b8a72", "other": "#2f6f9f"}


def draw(study: Study, folder: Path) -> dict[str, str]:
    """Draw what the results allow.

    Returns:
        Name of the file -> what it shows.
    """
    plots: dict[str, tuple[str, Callable[[Study], Figure | None]]] = {
        "fusion-sensors.png": ("mIoU of each choice of sensors, mean and standard deviation over seeds", _sensors),
        "fusion-absent.png": ("mIoU of every subset of sensors against how many there are", _absent),
        "fusion-rare.png": ("mean IoU of rare classes, and of all, under each answer to imbalance", _rare),
    }
    drawn = {}
    folder.mkdir(parents=True, exist_ok=True)
    for name, (words, make) in plots.items():
        figure = make(study)
        if figure is not None:
            figure.savefig(folder / name)
            drawn[name] = words
    return drawn


def _sensors(study: Study) -> Figure | None:
    kinds = [
        kind
        for kind in KINDS
        if study.has(kind)
        and (kind.startswith(("alone-", "pair-")) or kind in ("all", "no-history", "no-series", "series"))
    ]
    if not kinds:
        return None
    kinds.sort(key=lambda kind: (_family(kind) != "alone", _family(kind) != "pair"))
    figure, panels = _figure(height=1.6 + 0.25 * len(kinds))
    for axes, (task, words) in zip(panels, TASK_WORDS.items(), strict=True):
        _bars(axes, study, kinds, task, "mIoU", colours=[_COLOURS[_family(kind)] for kind in kinds])
        axes.set(xlabel="mIoU in test domains (%)", title=words)
    panels[1].tick_params(labelleft=False)
    return figure


def _absent(study: Study) -> Figure | None:
    ways = [way for way in _WAYS if study.has(way[0])]
    if not ways:
        return None
    figure, panels = _figure(height=4.2)
    counts = range(1, len(ALL) + 1)
    for axes, (task, words) in zip(panels, TASK_WORDS.items(), strict=True):
        for kind, way, label, colour, shift in ways:
            means = []
            for count in counts:
                found = [
                    100 * ends_of(study.absent(kind, way, chosen, task))["mean"] for chosen in combinations(ALL, count)
                ]
                axes.scatter([count + shift] * len(found), found, s=9, color=colour, alpha=0.4, linewidths=0)
                means.append(sum(found) / len(found))
            axes.plot([count + shift for count in counts], means, color=colour, label=label, linewidth=1.8)
        axes.set(xlabel="sensors present", ylabel="mIoU in test domains (%)", title=words, ylim=(0, None))
        axes.set_xticks([*counts])
        axes.grid(axis="y", alpha=0.3)
    panels[0].legend(fontsize=8, loc="upper left", frameon=False)
    return figure


def _rare(study: Study) -> Figure | None:
    kinds = [kind for kind in ("all", *ANSWERS) if study.has(kind)]
    if len(kinds) < 2:
        return None
    figure, panels = _figure(height=1.9 + 0.45 * len(kinds))
    for axes, (task, words) in zip(panels, TASK_WORDS.items(), strict=True):
        _bars(
            axes,
            study,
            kinds,
            task,
            "mIoU",
            colours=["#8aa8b8"] * len(kinds),
            label="all classes",
            shift=0.2,
            height=0.38,
        )
        _bars(
            axes,
            study,
            kinds,
            task,
            "rare",
            colours=["#c2593f"] * len(kinds),
            label="rare classes",
            shift=-0.2,
            height=0.38,
        )
        axes.set(xlabel="mean IoU in test domains (%)", title=words)
        axes.set_yticks(range(len(kinds)), ["cross-entropy", *(KINDS[kind].words for kind in kinds[1:])])
    panels[1].tick_params(labelleft=False)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, fontsize=8, loc="outside lower center", ncols=2, frameon=False)
    return figure


def _bars(
    axes: Axes,
    study: Study,
    kinds: Sequence[str],
    task: str,
    measure: Measure,
    *,
    colours: Sequence[str],
    label: str = "",
    shift: float = 0.0,
    height: float = 0.72,
) -> None:
    """A bar for each kind, the first at the top, with its spread and each seed as a dot."""
    for place, (kind, colour) in enumerate(zip(kinds, colours, strict=True)):
        values = [100 * value for value in study.values(kind, task, measure)]
        ends = ends_of(values)
        spread = 0.0 if math.isnan(ends["deviation"]) else ends["deviation"]
        axes.barh(
            place - shift,
            ends["mean"],
            height,
            xerr=spread,
            color=colour,
            label=label if place == 0 and label else None,
            error_kw={"elinewidth": 1, "capsize": 2, "ecolor": "#333333"},
        )
        axes.annotate(
            f"{ends['mean']:.1f}",
            (ends["mean"] + spread, place - shift),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize=7,
        )
    axes.set_yticks(range(len(kinds)), [KINDS[kind].words for kind in kinds])
    axes.set_ylim(len(kinds) - 0.45, -0.55)
    axes.margins(x=0.12)
    axes.grid(axis="x", alpha=0.3)
    axes.set_axisbelow(True)


def _figure(*, height: float) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(9.5, height), dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=8)
    return figure, [left, right]


def _family(kind: str) -> str:
    start = kind.partition("-")[0]
    return start if start in ("alone", "pair") else "other"
