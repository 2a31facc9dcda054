"""Roofs and other things with straight sides."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .canvas import Canvas, Window

__all__ = ["Box", "Frame", "block", "roof"]

_Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Box:
    """A rectangle on the ground: centre in metres, direction of its length in radians, length and width in metres."""

    x: float
    y: float
    angle: float
    length: float
    width: float


@dataclass(frozen=True)
class Frame:
    """A point and a direction, from which the things of one plot are laid out."""

    x: float
    y: float
    angle: float

    def box(self, along: float, across: float, length: float, width: float, *, turned: bool = False) -> Box:
        """Return a rectangle `along` and `across` from the frame's point; its length lies across if `turned`."""
        x, y = self.point(along, across)
        return Box(x, y, self.angle + (np.pi / 2 if turned else 0.0), length, width)

    def point(self, along: float, across: float) -> tuple[float, float]:
        """Return the point (x, y) `along` and `across` from the frame's."""
        cos, sin = float(np.cos(self.angle)), float(np.sin(self.angle))
        return self.x + along * cos - across * sin, self.y + along * sin + across * cos


def _window(canvas: Canvas, box: Box) -> Window | None:
    return canvas.window((box.x, box.y), 0.5 * float(np.hypot(box.length, box.width)) + 0.5, box.angle)


def block(
    canvas: Canvas,
    box: Box,
    surface: int,
    *,
    height_m: float = 0.0,
    tint: float = 1.0,
    rounding_m: float = 0.0,
    allowed: Callable[[Window], _Mask] | None = None,
) -> None:
    """Paint a rectangle with `surface`; its corners are rounded by `rounding_m`, and it stays where `allowed` says."""
    window = _window(canvas, box)
    if window is None:
        return
    over = np.maximum(np.abs(window.along) - box.length / 2 + rounding_m, 0)
    aside = np.maximum(np.abs(window.across) - box.width / 2 + rounding_m, 0)
    mask = np.hypot(over, aside) <= max(rounding_m, 1e-6)
    if allowed is not None:
        mask &= allowed(window)
    canvas.paint(window, mask, surface, height=height_m, tint=tint)


def roof(
    canvas: Canvas,
    rng: np.random.Generator,
    box: Box,
    surface: int,
    *,
    eaves_m: float,
    pitch: float,
    hipped: bool = False,
) -> None:
    """Paint a roof: gabled or hipped for a `pitch` above 0, else flat with a parapet.

    Where two roofs meet, the higher one wins.
    """
    window = _window(canvas, box)
    if window is None:
        return
    inward = box.width / 2 - np.abs(window.across)
    endward = box.length / 2 - np.abs(window.along)
    mask = (inward >= 0) & (endward >= 0)
    rise = np.minimum(inward, endward) if hipped else inward
    height = (eaves_m + pitch * np.maximum(rise, 0)).astype(np.float32)
    mask &= height > canvas.height[window.rows, window.columns]
    # Weathering runs down the slope; ridge and parapet catch the light.
    streaks = rng.normal(0, 0.035, (64,)).astype(np.float32)
    tint = 1 + streaks[(np.abs(window.along * 1.7).astype(int) + (window.across > 0)) % 64]
    tint = tint * (1 + 0.03 * rng.standard_normal(mask.shape, dtype=np.float32))
    edge = np.minimum(inward, endward) < 0.3 if pitch == 0 else np.abs(window.across) < 0.22
    tint = np.where(edge, tint * np.float32(1.16), tint).astype(np.float32)
    canvas.paint(window, mask, surface, height=height, tint=tint)
    _furnish(canvas, rng, window, mask, height, box, flat=pitch == 0)


def _furnish(
    canvas: Canvas,
    rng: np.random.Generator,
    window: Window,
    mask: _Mask,
    height: NDArray[np.float32],
    box: Box,
    *,
    flat: bool,
) -> None:
    """Put chimneys and skylights on a roof, or vents and light domes on a flat one."""
    count = int(rng.integers(1, 4)) + (int(box.length * box.width / 120) if flat else 0)
    area = window.rows, window.columns
    for _ in range(count):
        along, across = rng.uniform(-0.4, 0.4) * box.length, rng.uniform(-0.35, 0.35) * box.width
        size = rng.uniform(0.5, 1.2) if flat else rng.uniform(0.35, 0.6)
        spot = mask & (np.abs(window.along - along) < size) & (np.abs(window.across - across) < size)
        raised = rng.random() < 0.55
        shade = rng.uniform(0.75, 1.25) if raised else rng.uniform(0.35, 0.6)
        np.multiply(canvas.tint[area], np.float32(shade), out=canvas.tint[area], where=spot)
        if raised:
            np.copyto(canvas.height[area], height + np.float32(0.9), where=spot)
