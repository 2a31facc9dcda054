"""What was measured, drawn: latency, throughput, and where the time of a tile goes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .benchmark import Measured
from .errors import BackendError

__all__ = ["draw_benchmark", "empty_figure"]

_SIZE_IN = (12.0, 4.8)
_DPI = 120
_BELOW: dict[str, Any] = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.16), "ncols": 3, "frameon": False}


def draw_benchmark(found: Sequence[Measured], path: Path) -> None:
    """Draw a panel each for latency, throughput and stages.

    Args:
        found: what was measured, at least one.
        path: the PNG.

    Raises:
        BackendError: matplotlib is not installed.
    """
    figure = empty_figure()
    latency, throughput, stages = figure.subplots(1, 3)
    _draw_latency(latency, found)
    _draw_throughput(throughput, found)
    _draw_stages(stages, found)
    figure.suptitle(found[0].machine, fontsize=9)
    figure.savefig(path)


def empty_figure() -> Any:
    """A figure of matplotlib.

    Raises:
        BackendError: matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise BackendError("a picture needs matplotlib; install uperfuse[plot]") from None
    figure = Figure(figsize=_SIZE_IN, dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _names(found: Sequence[Measured]) -> list[str]:
    return [f"{each.device}\n{each.precision}" for each in found]


def _draw_latency(axes: Any, found: Sequence[Measured]) -> None:
    """One tile and a primed frame; the line goes up to the 99th percentile."""
    places = np.arange(len(found))
    for offset, label, times in (
        (-0.2, "one tile", [each.tile for each in found]),
        (0.2, "a primed frame", [each.primed for each in found]),
    ):
        known = [(place, each) for place, each in zip(places, times, strict=True) if each is not None]
        if known:
            middle = [each.p50_ms for _, each in known]
            above = [each.p99_ms - each.p50_ms for _, each in known]
            at = [place + offset for place, _ in known]
            axes.bar(at, middle, 0.36, yerr=[[0.0] * len(known), above], label=label, capsize=3)
    axes.set_xticks(places, _names(found))
    axes.set(title="latency, median to 99 %", ylabel="ms", ylim=(0, None))
    axes.legend(**_BELOW)


def _draw_throughput(axes: Any, found: Sequence[Measured]) -> None:
    for each in found:
        batches = sorted(each.tiles_per_s)
        rates = [each.tiles_per_s[batch] for batch in batches]
        axes.plot(batches, rates, marker="o", label=f"{each.device}, {each.precision}")
    axes.set_xscale("log", base=2)
    axes.set_xticks(sorted({batch for each in found for batch in each.tiles_per_s}))
    axes.get_xaxis().set_major_formatter("{x:g}")
    highest = max(rate for each in found for rate in each.tiles_per_s.values())
    axes.set(title="throughput", xlabel="tiles at a time", ylabel="tiles/s", ylim=(0, 1.1 * highest))
    axes.legend(**_BELOW)


def _draw_stages(axes: Any, found: Sequence[Measured]) -> None:
    places = np.arange(len(found))
    below = np.zeros(len(found))
    for stage in dict.fromkeys(name for each in found for name in each.stages_ms):
        spent = np.array([each.stages_ms.get(stage, 0.0) for each in found])
        axes.bar(places, spent, 0.6, bottom=below, label=stage)
        below += spent
    axes.set_xticks(places, _names(found))
    axes.set(title="one tile, by stage", ylabel="ms", ylim=(0, None))
    if below.any():
        axes.legend(**_BELOW)
