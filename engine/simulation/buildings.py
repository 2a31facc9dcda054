"""Roofs and other things with straight sides."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from .canvas import Canvas, Window

__all__ = ["block", "roof"]

_Mask = NDArray[np.bool_]


def block(
    canvas: Canvas,
    centre_xy: tuple[float, float],
    angle: float,
    length_m: float,
    width_m: float,
    surface: int,
    *,
    height_m: float = 0.0,
    tint: float = 1.0,
    rounding_m: float = 0.0,
    allowed: Callable[[Window], _Mask] | None = None,
) -> None:
    """Paint a rectangle with `surface`; its corners are rounded by `rounding_m`, and it stays where `allowed` says."""
    window = canvas.window(centre_xy, 0.5 * float(np.hypot(length_m, width_m)) + 0.5, angle)
    if window is None:
        return
    over = np.maximum(np.abs(window.along) - length_m / 2 + rounding_m, 0)
    aside = np.maximum(np.abs(window.across) - width_m / 2 + rounding_m, 0)
    mask = np.hypot(over, aside) <= max(rounding_m, 1e-6)
    if allowed is not None:
        mask &= allowed(window)
    canvas.paint(window, mask, surface, height=height_m, tint=tint)


def roof(
    canvas: Canvas,
    rng: np.random.Generator,
    centre_xy: tuple[float, float],
    angle: float,
    length_m: float,
    width_m: float,
    surface: int,
    *,
    eaves_m: float,
    pitch: float,
    hipped: bool = False,
) -> None:
    """Paint a roof: gabled or hipped for a `pitch` above 0, else flat with a parapet; the higher roof wins where two meet."""
    window = canvas.window(centre_xy, 0.5 * float(np.hypot(length_m, width_m)) + 0.5, angle)
    if window is None:
        return
    inward = width_m / 2 - np.abs(window.across)
    endward = length_m / 2 - np.abs(window.along)
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
    _furnish(canvas, rng, window, mask, height, length_m, width_m, flat=pitch == 0)


def _furnish(
    canvas: Canvas,
    rng: np.random.Generator,
    window: Window,
    mask: _Mask,
    height: NDArray[np.float32],
    length_m: float,
    width_m: float,
    *,
    flat: bool,
) -> None:
    """Put chimneys and skylights on a roof, or vents and light domes on a flat one."""
    count = int(rng.integers(1, 4)) + (int(length_m * width_m / 120) if flat else 0)
    area = window.rows, window.columns
    for _ in range(count):
        along, across = rng.uniform(-0.4, 0.4) * length_m, rng.uniform(-0.35, 0.35) * width_m
        size = rng.uniform(0.35, 0.6) if not flat else rng.uniform(0.5, 1.2)
        spot = mask & (np.abs(window.along - along) < size) & (np.abs(window.across - across) < size)
        raised = rng.random() < 0.55
        shade = rng.uniform(0.75, 1.25) if raised else rng.uniform(0.35, 0.6)
        np.multiply(canvas.tint[area], np.float32(shade), out=canvas.tint[area], where=spot)
        if raised:
            np.copyto(canvas.height[area], height + np.float32(0.9), where=spot)
