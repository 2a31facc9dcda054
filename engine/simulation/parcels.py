"""How the land is divided: by splitting it again and again, which makes roads, field borders and garden fences alike.

The first cut is the main road, the next ones are lanes and tracks, the last ones hedges, margins and fences. Every
region is cut across its longer side, along its parent's directions, into parts that will hold equally many parcels;
where a village wants small plots the same cutting simply goes on for longer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from .noise import Floats

__all__ = ["Border", "Division", "divide"]

_ROWS_AT_ONCE = 64  # a band of rows stays in the processor's cache through all levels


class Border(IntEnum):
    """What runs along a cut."""

    FENCE = 0
    MARGIN = 1
    HEDGE = 2
    TRACK = 3
    LANE = 4
    ROAD = 5


_HALF_WIDTH_M = (0.3, 0.9, 1.3, 1.6, 2.4, 3.3)
_SKELETON_DEPTH = 2


@dataclass(frozen=True)
class Division:
    """A tree of cuts: node i is a cut with two children, or a leaf that is its own child.

    Attributes:
        normal_xy: unit normal of each cut, float32 [N, 2]; 0 for leaves.
        offset: distance of each cut from the origin along its normal, float32 [N].
        half_width: half the width of what runs along it in metres, float32 [N].
        border: `Border` of each cut, uint8 [N].
        child: the node on the negative and on the positive side, int16 [N, 2].
        parcel: number of the parcel of each leaf, int16 [N]; -1 for cuts.
        centre_xy: centre of each parcel, float32 [P, 2].
        area_m2: float32 [P].
        angle: direction of the longer side of each parcel in radians, float32 [P].
        town: how much of a village each parcel is, 0 to 1, float32 [P].
    """

    normal_xy: Floats
    offset: Floats
    half_width: Floats
    border: NDArray[np.uint8]
    child: NDArray[np.int16]
    parcel: NDArray[np.int16]
    centre_xy: Floats
    area_m2: Floats
    angle: Floats
    town: Floats

    def locate(self, y: Floats, x: Floats) -> tuple[NDArray[np.int16], Floats, NDArray[np.int16]]:
        """Find the parcel of every point, its nearest border strip, and how far away that strip is.

        Args:
            y: float32 [Y, X], metres.
            x: likewise.

        Returns:
            parcel int16 [Y, X]; distance in metres to the strip's side, negative inside it, float32 [Y, X];
            the node whose cut the strip follows, int16 [Y, X].
        """
        parcel, cut = np.empty(y.shape, np.int16), np.empty(y.shape, np.int16)
        distance = np.empty(y.shape, np.float32)
        for top in range(0, y.shape[0], _ROWS_AT_ONCE):
            rows = slice(top, top + _ROWS_AT_ONCE)
            parcel[rows], distance[rows], cut[rows] = self._locate_rows(y[rows], x[rows])
        return parcel, distance, cut

    def _locate_rows(self, y: Floats, x: Floats) -> tuple[NDArray[np.int16], Floats, NDArray[np.int16]]:
        node = np.zeros(y.shape, np.int16)
        cut = np.zeros(y.shape, np.int16)
        nearest = np.full(y.shape, 1e6, np.float32)
        while True:
            side = self.normal_xy[node, 0] * x + self.normal_xy[node, 1] * y - self.offset[node]
            gap = np.abs(side) - self.half_width[node]
            closer = gap < nearest
            np.copyto(nearest, gap, where=closer)
            np.copyto(cut, node, where=closer)
            below = self.child[node, (side > 0).astype(np.intp)]
            if np.array_equal(below, node):
                return self.parcel[node], nearest, cut
            node = below

    def along(self, cut: NDArray[np.int16], y: Floats, x: Floats) -> Floats:
        """Return the coordinate along the cut `cut` of every point, in metres."""
        along: Floats = self.normal_xy[cut, 0] * y - self.normal_xy[cut, 1] * x
        return along


class _Cutter:
    """The growing tree."""

    def __init__(self, skeleton: np.random.Generator, detail: np.random.Generator, hedges: float) -> None:
        self._skeleton, self._detail, self._hedges = skeleton, detail, hedges
        self.cuts: list[tuple[float, float, float, float, int]] = []
        self.children: list[list[int]] = []
        self.parcels: list[tuple[int, float, float, float, float, float]] = []

    def grow(self, points: Floats, want: Floats, town: Floats, cell_m2: float, angle: float, depth: int) -> int:
        """Cut the region of `points` [N, 2] until `want` [N], parcels per point, is met; return its node."""
        node = len(self.children)
        self.children.append([node, node])
        self.cuts.append((0.0, 0.0, -1e6, 0.0, 0))
        rng = self._skeleton if depth < _SKELETON_DEPTH else self._detail
        if want.sum() < rng.uniform(1.2, 1.9) or len(points) < 12:
            self._leaf(node, points, town, cell_m2, angle)
            return node
        angle = self._turn(rng, points, angle)
        normal = np.array([np.cos(angle), np.sin(angle)], np.float32)
        position = points @ normal
        offset = _quantile(position, np.ones_like(want) if depth < _SKELETON_DEPTH else want, rng.uniform(0.38, 0.62))
        border = self._border(rng, float(want.sum()), float(town.mean()), depth)
        self.cuts[node] = (float(normal[0]), float(normal[1]), offset, _HALF_WIDTH_M[border], int(border))
        for side, part in enumerate((position <= offset, position > offset)):
            self.children[node][side] = self.grow(points[part], want[part], town[part], cell_m2, angle, depth + 1)
        return node

    @staticmethod
    def _turn(rng: np.random.Generator, points: Floats, angle: float) -> float:
        """Choose the normal of the next cut: along the region's longer side, a little off its parent's directions."""
        jitter = rng.normal(0, 0.05) + (rng.normal(0, 0.45) if rng.random() < 0.06 else 0.0)
        choices = [angle + jitter, angle + jitter + np.pi / 2]
        extents = [np.ptp(points @ np.array([np.cos(a), np.sin(a)], np.float32)) for a in choices]
        return float(choices[int(np.argmax(extents))])

    def _border(self, rng: np.random.Generator, parcels: float, town: float, depth: int) -> Border:
        if depth == 0:
            return Border.ROAD
        chance = rng.random()
        if town > 0.5:
            return Border.LANE if parcels > 7 else Border.FENCE
        if depth == 1 and chance < 0.5:
            return Border.LANE
        if chance < (0.3 if depth < 5 else 0.12):
            return Border.TRACK
        return Border.HEDGE if rng.random() < self._hedges else Border.MARGIN

    def _leaf(self, node: int, points: Floats, town: Floats, cell_m2: float, angle: float) -> None:
        centre = points.mean(0) if len(points) else np.zeros(2)
        axis = np.array([np.cos(angle), np.sin(angle)], np.float32)
        across = np.array([-axis[1], axis[0]], np.float32)
        if len(points) and np.ptp(points @ across) > np.ptp(points @ axis):
            angle += np.pi / 2
        share = float(town.mean()) if len(points) else 0.0
        self.parcels.append((node, float(centre[0]), float(centre[1]), len(points) * cell_m2, angle, share))


def _quantile(values: Floats, weights: Floats, share: float) -> float:
    order = np.argsort(values)
    total = np.cumsum(weights[order])
    return float(values[order[int(np.searchsorted(total, share * total[-1]))]])


def divide(
    extent_yx_m: tuple[float, float],
    *,
    skeleton: np.random.Generator,
    detail: np.random.Generator,
    town: Callable[[Floats], Floats],
    field_area_m2: float,
    plot_area_m2: float,
    hedges: float,
) -> Division:
    """Divide the ground into parcels.

    Args:
        extent_yx_m: height and width of the ground.
        skeleton: chance of the first cuts, which two ages of one place share.
        detail: chance of all others.
        town: how much of a village a point (x, y) is, 0 to 1: float32 [N, 2] -> [N].
        field_area_m2: wanted area outside villages.
        plot_area_m2: wanted area inside them.
        hedges: share of field borders that are hedges.
    """
    step = 3.0
    margin = 12.0  # the warp of coordinates may look a little beyond the scene
    y, x = (np.arange(-margin, extent + margin, step, dtype=np.float32) for extent in extent_yx_m)
    points = np.stack(np.meshgrid(x, y), -1).reshape(-1, 2)
    share = town(points)
    want = np.float32(step * step) / (field_area_m2 * (1 - share) + plot_area_m2 * share)
    cutter = _Cutter(skeleton, detail, hedges)
    cutter.grow(points, want, share, step * step, float(skeleton.uniform(0.15, 1.4)), 0)
    cuts = np.array(cutter.cuts, np.float32)
    leaves = np.array(cutter.parcels, np.float32)
    parcel = np.full(len(cuts), -1, np.int16)
    parcel[leaves[:, 0].astype(int)] = np.arange(len(leaves))
    return Division(
        normal_xy=cuts[:, :2],
        offset=cuts[:, 2],
        half_width=cuts[:, 3],
        border=cuts[:, 4].astype(np.uint8),
        child=np.array(cutter.children, np.int16),
        parcel=parcel,
        centre_xy=leaves[:, 1:3],
        area_m2=leaves[:, 3],
        angle=leaves[:, 4],
        town=leaves[:, 5],
    )
