"""Text in a picture, in the one typeface that Pillow brings along."""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

from PIL import ImageDraw, ImageFont

__all__ = ["FAINT", "INK", "SMALL_PX", "TEXT_PX", "TITLE_PX", "width_px", "write"]

INK, FAINT = (23, 32, 42), (98, 110, 122)
TITLE_PX, TEXT_PX, SMALL_PX = 32, 22, 20


@lru_cache
def _font(size_px: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size=size_px)


def width_px(text: str, size_px: int) -> int:
    """Width of a line of text."""
    return round(_font(size_px).getlength(text))


def write(
    draw: ImageDraw.ImageDraw,
    xy: tuple[float, float],
    text: str,
    *,
    size_px: int = TEXT_PX,
    colour: tuple[int, int, int] = INK,
    align: Literal["left", "right", "middle"] = "left",
    room_px: int | None = None,
    rim: bool = False,
) -> None:
    """Write one line.

    Args:
        draw: where to.
        xy: left, right or middle end of the line's base.
        text: the line.
        size_px: height of the type.
        colour: of the letters.
        align: which end `xy` is.
        room_px: cut the text, with dots, where it is wider.
        rim: dark rim, for letters on a photograph.
    """
    if room_px is not None:
        text = _cut(text, size_px, room_px)
    anchor = {"left": "ls", "right": "rs", "middle": "ms"}[align]
    stroke_px = 2 if rim else 0
    draw.text(xy, text, fill=colour, font=_font(size_px), anchor=anchor, stroke_width=stroke_px, stroke_fill=(0, 0, 0))


def _cut(text: str, size_px: int, room_px: int) -> str:
    if width_px(text, size_px) <= room_px:
        return text
    while text and width_px(f"{text}...", size_px) > room_px:
        text = text[:-1]
    return f"{text.rstrip()}..."
