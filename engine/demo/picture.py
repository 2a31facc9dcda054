"""The picture of the demonstration: a row per task of what was seen, the map, its confidence and its legend."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from ..plan.network import Task
from ..simulation import SimulatedScene
from .agreement import Agreement
from .legend import LEGEND_HEAD_PX, LEGEND_WIDTH_PX, draw_legend
from .lettering import FAINT, SMALL_PX, TITLE_PX, width_px, write
from .panels import CONFIDENCE_FROM, confidence_colours, confidence_panel, labels_panel
from .views import GSD_M, View, aerial_view, seasons_view

__all__ = ["Row", "draw_picture"]

_MARGIN_PX, _GAP_PX, _ROW_GAP_PX = 36, 24, 34
_HEAD_PX, _FOOT_PX, _RAMP_PX = 70, 44, 14
_LARGEST_PANEL_WH_PX = (460, 520)
_SMALLEST_CELL_WH_PX = (330, 330)  # room for a title, a ramp and a legend beside panels that are narrow or flat


@dataclass(frozen=True)
class Row:
    """One task.

    Attributes:
        task: classes and colours.
        title: its name in words.
        labels: the map on the pixels of the aerial image, [Y, X].
        confidence: percent, [Y, X].
        agreement: areas, and agreement with the truth.
    """

    task: Task
    title: str
    labels: NDArray[np.uint8]
    confidence: NDArray[np.uint8]
    agreement: Agreement


def draw_picture(place: SimulatedScene, rows: Sequence[Row], *, line: str, origin: str) -> Image.Image:
    """Draw image, map, confidence and legend side by side, a row for each task.

    The first row shows the aerial image, the next the seasons that Sentinel-2 saw.

    Args:
        place: what was mapped.
        rows: the maps.
        line: what they are made of, in words.
        origin: what made them, in words.

    Returns:
        An RGB picture, about 1900 px wide.
    """
    panel = _panel_size(place.shape_yx_px)
    cell = max(panel[0], _SMALLEST_CELL_WH_PX[0]), max(panel[1], _SMALLEST_CELL_WH_PX[1])
    width = 2 * _MARGIN_PX + 3 * (cell[0] + _GAP_PX) + LEGEND_WIDTH_PX
    pitch = _HEAD_PX + cell[1] + _ROW_GAP_PX
    picture = Image.new("RGB", (width, _MARGIN_PX + len(rows) * pitch + _FOOT_PX), "white")
    for number, row in enumerate(rows):
        top = _MARGIN_PX + number * pitch
        seen = aerial_view(place, size_wh_px=panel) if number == 0 else seasons_view(place, size_wh_px=panel)
        _draw_row(picture, top, seen, row, line=line, cell_wh_px=cell)
    _write_foot(picture, place, origin)
    return picture


def _panel_size(shape_yx_px: tuple[int, int]) -> tuple[int, int]:
    """Width and height of a panel with the shape of the scene."""
    height, width = shape_yx_px
    scale = min(_LARGEST_PANEL_WH_PX[0] / width, _LARGEST_PANEL_WH_PX[1] / height)
    return max(8, round(scale * width)), max(8, round(scale * height))


def _draw_row(picture: Image.Image, top: int, seen: View, row: Row, *, line: str, cell_wh_px: tuple[int, int]) -> None:
    draw = ImageDraw.Draw(picture)
    width, height = cell_wh_px
    lefts = [_MARGIN_PX + number * (width + _GAP_PX) for number in range(4)]
    size = seen.image.size
    panels = (
        seen,
        View(labels_panel(row.labels, task=row.task, size_wh_px=size), row.title, line),
        View(confidence_panel(row.confidence, size_wh_px=size), "Confidence", ""),
    )
    for left, panel in zip(lefts, panels, strict=False):
        write(draw, (left, top + 28), panel.title, size_px=TITLE_PX)
        write(draw, (left, top + 56), panel.line, size_px=SMALL_PX, colour=FAINT)
        picture.paste(panel.image, (left, top + _HEAD_PX))
    _draw_ramp(picture, lefts[2], top + 56, width)
    write(draw, (lefts[3], top + 28), "Legend", size_px=TITLE_PX)
    legend = draw_legend(row.agreement, height_px=height + LEGEND_HEAD_PX)
    picture.paste(legend, (lefts[3], top + _HEAD_PX - LEGEND_HEAD_PX))


def _draw_ramp(picture: Image.Image, left: int, base: int, width: int) -> None:
    """What the colours of confidence stand for, on the line below its title."""
    draw = ImageDraw.Draw(picture)
    low, high = f"{CONFIDENCE_FROM} % or less", "100 %"
    start = left + width_px(low, SMALL_PX) + 12
    length = left + width - width_px(high, SMALL_PX) - 12 - start
    colours = confidence_colours(np.linspace(CONFIDENCE_FROM, 100, length))
    picture.paste(Image.fromarray(np.tile(colours, (_RAMP_PX, 1, 1))), (start, base - _RAMP_PX))
    write(draw, (left, base), low, size_px=SMALL_PX, colour=FAINT)
    write(draw, (left + width, base), high, size_px=SMALL_PX, colour=FAINT, align="right")


def _write_foot(picture: Image.Image, place: SimulatedScene, origin: str) -> None:
    height, width = (side * GSD_M for side in place.shape_yx_px)
    line = f"Simulated place: {place.domain}, seed {place.seed}, {width:.0f} x {height:.0f} m. Mapped by {origin}."
    at = (_MARGIN_PX, picture.height - _MARGIN_PX)
    write(ImageDraw.Draw(picture), at, line, size_px=SMALL_PX, colour=FAINT)
