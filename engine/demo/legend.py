"""The legend of a map: the classes that occur on it, their areas, and how far they agree with the truth."""

from __future__ import annotations

from dataclasses import dataclass

from PIL import Image, ImageDraw

from .agreement import Agreement
from .lettering import FAINT, SMALL_PX, TEXT_PX, write
from .panels import VOID_COLOUR

__all__ = ["LEGEND_HEAD_PX", "LEGEND_WIDTH_PX", "draw_legend"]

LEGEND_WIDTH_PX = 420
LEGEND_HEAD_PX = 30

_NARROWEST_LINE_PX, _WIDEST_LINE_PX = 26, 36
_SWATCH_PX = 34
_NAME_X, _AREA_X, _IOU_X = 46, 346, LEGEND_WIDTH_PX
_AREA_ROOM_PX = 62
_RULE = (205, 211, 217)


@dataclass(frozen=True)
class _Line:
    colour: tuple[int, int, int] | None
    name: str
    area: str
    iou: str


def draw_legend(agreement: Agreement, *, height_px: int) -> Image.Image:
    """Draw the legend of one map.

    Args:
        agreement: of the map. Classes that do not fit are gathered in one line.
        height_px: of the picture, with `LEGEND_HEAD_PX` for the headings.

    Returns:
        RGB picture, `LEGEND_WIDTH_PX` wide.
    """
    legend = Image.new("RGB", (LEGEND_WIDTH_PX, height_px), "white")
    draw = ImageDraw.Draw(legend)
    _write_head(draw, agreement)
    room = height_px - LEGEND_HEAD_PX
    lines = _lines(agreement, most=room // _NARROWEST_LINE_PX - 1)
    pitch = min(room // (len(lines) + 1), _WIDEST_LINE_PX)
    base = round(0.5 * pitch + 0.36 * TEXT_PX)  # capitals stand in the middle of the line
    for number, line in enumerate(lines):
        top = LEGEND_HEAD_PX + number * pitch
        if line.colour is not None:
            draw.rectangle((0, top + 4, _SWATCH_PX, top + pitch - 5), fill=line.colour, outline=_edge(line.colour))
        _write_line(draw, top + base, line)
    top = LEGEND_HEAD_PX + len(lines) * pitch
    draw.line((0, top, LEGEND_WIDTH_PX, top), fill=_RULE, width=1)
    _write_line(draw, top + base + 1, _total(agreement))
    return legend


def _write_head(draw: ImageDraw.ImageDraw, agreement: Agreement) -> None:
    base = LEGEND_HEAD_PX - 14
    write(draw, (_AREA_X, base), "area (ha)", size_px=SMALL_PX, colour=FAINT, align="right")
    if agreement.accuracy is not None:
        right = f"{agreement.accuracy:.1%} in the true class"
        write(draw, (0, base), right, size_px=SMALL_PX, colour=FAINT)
        write(draw, (_IOU_X, base), "IoU", size_px=SMALL_PX, colour=FAINT, align="right")


def _lines(agreement: Agreement, *, most: int) -> list[_Line]:
    mapped = [entry for entry in agreement.classes if entry.mapped_ha > 0]
    void = [_Line(VOID_COLOUR, "void", "", "")] if agreement.void_share > 0 else []
    room = most - len(void)
    shown = mapped if len(mapped) <= room else mapped[: max(room - 1, 0)]
    lines = [_Line(_rgb(entry.colour), entry.name, _hectares(entry.mapped_ha), _score(entry.iou)) for entry in shown]
    rest = mapped[len(shown) :]
    if rest:
        lines.append(_Line(None, f"{len(rest)} smaller classes", _hectares(sum(e.mapped_ha for e in rest)), ""))
    return lines + void


def _total(agreement: Agreement) -> _Line:
    return _Line(None, "all, mean IoU", _hectares(agreement.mapped_ha), _score(agreement.mean_iou))


def _write_line(draw: ImageDraw.ImageDraw, base: int, line: _Line) -> None:
    left = _NAME_X if line.colour is not None else 0
    write(draw, (left, base), line.name, room_px=_AREA_X - _AREA_ROOM_PX - left, size_px=TEXT_PX)
    write(draw, (_AREA_X, base), line.area, align="right")
    write(draw, (_IOU_X, base), line.iou, align="right")


def _hectares(area_ha: float) -> str:
    return f"{area_ha:.2f}" if area_ha >= 0.005 else "<0.01"


def _score(iou: float | None) -> str:
    return "" if iou is None else f"{iou:.2f}"


def _rgb(colour: str) -> tuple[int, int, int]:
    red, green, blue = bytes.fromhex(colour.removeprefix("#"))
    return red, green, blue


def _edge(colour: tuple[int, int, int]) -> tuple[int, int, int]:
    """A rim that sets pale swatches off from the paper."""
    red, green, blue = (value * 3 // 4 for value in colour)
    return red, green, blue
