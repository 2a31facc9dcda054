"""A raster of 10,000 x 10,000 px: Swin-B + UPerNet over a file, against PyTorch in the manner of the zonal tool.

    python -m benchmarks.raster [--side 1024] [--rounds 3] [--quick] [--json FILE]

Both sides read a GeoTIFF and write one. Against the tool as shipped our user has a plan for tiles of several sides and
lets `uperfuse predict` choose; at equal overlap both sides have the same tiles. Both are measured in 8 bits, too, in a
plan for tiles of that side. Time grows with the number of tiles. Unless `--side 10000` is asked for, smaller rasters
are mapped, ours of so many tiles that opening and closing a map do not count a hundred times, and times are multiplied
by tiles of 10,000 px over tiles of the small one; the record says by how much. Networks are compared on a tile before
anything is timed, and maps must be complete.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
import torch
from numpy.typing import NDArray

from benchmarks.eight_bits import eight_bit_engine
from benchmarks.networks import SWIN_BASE, TASK, TINY, plan_of, random_network, spec_of
from benchmarks.product_rate import most_of
from benchmarks.published import inputs_of
from benchmarks.rasters import FULL_PX, aerial_raster, scene_of
from benchmarks.records import Record, hand_over, options, record
from benchmarks.timing import interleaved, ratios, report
from benchmarks.zonal import EQUAL, SHIPPED, Network, Squares, map_zonally
from uperfuse.engine import Engine, Plan
from uperfuse.engine.benchmark import tiles_for
from uperfuse.engine.rasters import MapOptions, Scene
from uperfuse.engine.rasters.tile_choice import choose_tile, work_gflop
from uperfuse.engine.rasters.tiling import Tiling, default_halo_px
from uperfuse.trainer.network import BackboneSpec, UPerFuse

__all__ = ["compare_tile", "complete_labels", "in_this_manner", "measure", "our_tiles", "predict_map", "scaled"]

_BASE = "AERIAL_RGBI"
_SIDES_PX = (512, 768, 1152)
"""Of the plan's tiles: as trained, and two that Swin-B's windows of 12 divide."""
_PER_SIDE = {"raster-equal": 6, "raster-shipped": 4}
"""Tiles along a side of our raster."""
_EQUAL = {"float32": 0.9999, "bf16": 0.98}


def our_tiles(side_px: int, *, tile_px: int) -> int:
    """Tiles that we cut a raster into."""
    return len(Tiling((side_px, side_px), tile_px=tile_px, halo_px=default_halo_px(tile_px)))


def scaled(times: list[float], *, small: int, full: int) -> list[float]:
    """Times of a raster of `small` tiles, as those of one of `full` tiles."""
    return [each * full / small for each in times]


def compare_tile(engine: Engine, network: Network) -> None:
    """Refuse to time two networks that are not the same.

    Raises:
        AssertionError: their labels of a tile differ by more than rounding.
    """
    tiles = tiles_for(engine.manifest, count=1)
    inputs, _ = inputs_of(engine.manifest, tiles)
    with torch.inference_mode():
        theirs = network(inputs[_BASE])[0].argmax(0).numpy()
    equal = float((engine.predict(tiles).labels[TASK][0] == theirs).mean())
    print(f"{equal:.4%} of a tile's labels are equal")
    assert equal >= _EQUAL[engine.precision], f"not the same network, expected {_EQUAL[engine.precision]:.2%}"


def predict_map(engine: Engine, scene: Scene, out: Path) -> Path:
    """Map a scene as our user does; gives the labels' file."""
    summary = engine.predict_raster(scene, out, overwrite=True, begin="restart", progress=False)
    return summary.files[TASK].labels


Zonal = Callable[[UPerFuse, Path, Path, Squares], Callable[[], object]]
"""From a network, a raster, the map's file and squares to a call that writes the map."""


def in_this_manner(network: UPerFuse, given: Path, out: Path, squares: Squares) -> Callable[[], object]:
    """The zonal tool's manner in plain PyTorch."""
    return lambda: map_zonally(_in_torch(network), given, out, squares=squares)


def measure(
    *,
    encoder: str | BackboneSpec,
    side_px: int,
    peers: dict[str, Squares],
    rounds: int,
    quick: bool,
    sides_px: Sequence[int] = _SIDES_PX,
    zonal: Zonal = in_this_manner,
    name: str = "PyTorch eager float32 in the zonal tool's manner",
) -> list[Record]:
    """Check that all sides map, then time them in turns.

    Args:
        encoder: of the network.
        side_px: of the raster.
        peers: row -> how the other side cuts the raster.
        rounds: that count.
        quick: whether settings are tiny.
        sides_px: of the plan's tiles.
        zonal: makes the other side.
        name: of the other side.
    """
    network = random_network(spec_of(_BASE, encoder=encoder))
    with (
        tempfile.TemporaryDirectory() as folder,
        plan_of(network, tile_px=sides_px) as plan,
        Engine.load(plan, device="cpu") as own,
    ):
        print(own.describe())
        given = aerial_raster(Path(folder) / "aerial.tif", side_px=side_px)
        compare_tile(own, _in_torch(network))
        with Plan.open(plan) as opened:
            choice = choose_tile(opened, scene_of(_empty(Path(folder) / "empty.tif", given)), MapOptions())
        print(choice.why)
        with ExitStack() as stack:
            large = stack.enter_context(Engine.load(plan, device="cpu", tile_px=choice.tile_px))
            ours = {
                key: _Ours(
                    engine,
                    given if side_px == FULL_PX else _filled(Path(folder) / f"for-{key}.tif", engine, _PER_SIDE[key]),
                    Path(folder) / f"maps-{key}",
                )
                for key, engine in (("raster-equal", own), ("raster-shipped", large))
            }
            short: dict[str, _Ours] = {}
            for key in peers:
                tile_px = ours[key].engine.manifest.base_px
                calibrated = aerial_raster(Path(folder) / f"calibrated-{key}.tif", side_px=2 * tile_px)
                alone = stack.enter_context(plan_of(network, tile_px=tile_px))
                engine = stack.enter_context(eight_bit_engine(alone, scene=scene_of(calibrated), quick=quick))
                if engine is not None:
                    short[key] = _Ours(engine, ours[key].raster, Path(folder) / f"{key}-short")
            sides: dict[str, Callable[[], object]] = {}
            for key, squares in peers.items():
                sides[_name(key)] = ours[key].map
                if key in short:
                    sides[_name(key, short=True)] = short[key].map
                sides[key] = zonal(network, given, Path(folder) / f"{key}.tif", squares)
            seconds = interleaved(sides, rounds=rounds, warm_up=0)
            for key in peers:
                found = complete_labels(ours[key].labels, ours[key].side_px)
                if key in short:
                    equal = np.mean(complete_labels(short[key].labels, short[key].side_px) == found)
                    print(f"{key}: {equal:.2%} of labels in 8 bits are those in {own.precision}")
                theirs = complete_labels(Path(folder) / f"{key}.tif", side_px)
                if theirs.shape == found.shape:
                    print(f"{key}: {np.mean(theirs == found):.2%} of labels are ours; tiles see different surroundings")
            print("\n".join(report(seconds, against=next(iter(sides)))))
            return [
                _record(key, squares, ours[key], seconds, peer=f"{name}, {squares}", side_px=side_px, quick=quick)
                for key, squares in peers.items()
            ]


def _name(key: str, *, short: bool = False) -> str:
    """Of our side of a row."""
    return f"UPerFuse for {key}{', in 8 bits' if short else ''}"


@dataclass(frozen=True)
class _Ours:
    """Our side of a row: an engine for tiles of some side, and the raster that it maps."""

    engine: Engine
    raster: Path
    out: Path

    @property
    def side_px(self) -> int:
        """Of the raster."""
        with rasterio.open(self.raster) as opened:
            return int(opened.width)

    @property
    def words(self) -> str:
        """What it is."""
        px = self.engine.manifest.base_px
        return f"UPerFuse {self.engine.precision}, tiles of {px} px, halo {default_halo_px(px)} px"

    def tiles(self, side_px: int) -> int:
        """Of a raster of this side."""
        return our_tiles(side_px, tile_px=self.engine.manifest.base_px)

    @property
    def labels(self) -> Path:
        """The map's file."""
        return self.out / f"{self.raster.stem}_{TASK}.tif"

    def map(self) -> object:
        """Map the raster as our user does."""
        return predict_map(self.engine, scene_of(self.raster), self.out)


def _empty(path: Path, like: Path) -> Path:
    """A raster of the full size without any pixels: tiles are chosen by its shape."""
    with rasterio.open(like) as raster:
        profile = {**raster.profile, "width": FULL_PX, "height": FULL_PX, "SPARSE_OK": True}
        with rasterio.open(path, "w", **profile) as empty:
            empty.descriptions = raster.descriptions
    return path


def _filled(path: Path, engine: Engine, per_side: int) -> Path:
    """A raster that so many tiles of the engine along each side fill."""
    tile_px = engine.manifest.base_px
    halo_px = default_halo_px(tile_px)
    return aerial_raster(path, side_px=per_side * (tile_px - 2 * halo_px) + 2 * halo_px)


def _in_torch(network: UPerFuse) -> Network:
    return lambda pixels: network({_BASE: pixels})[TASK]


def complete_labels(path: Path, side_px: int) -> NDArray[np.uint8]:
    """The labels of a map.

    Raises:
        AssertionError: the map has another size, or void pixels.
    """
    with rasterio.open(path) as raster:
        assert raster.shape == (side_px, side_px), f"{path.name} is a map of {raster.shape}"
        pixels: NDArray[np.uint8] = raster.read(1)
    assert np.all(pixels < 255), f"{path.name} has void pixels, and the raster has none"
    return pixels


def _record(
    key: str,
    squares: Squares,
    ours: _Ours,
    seconds: dict[str, list[float]],
    *,
    peer: str,
    side_px: int,
    quick: bool,
) -> Record:
    small, full = ours.tiles(ours.side_px), ours.tiles(FULL_PX)
    few, many = squares.count(side_px), squares.count(FULL_PX)
    own, short = _name(key), _name(key, short=True)
    of_full = {each: scaled(seconds[each], small=small, full=full) for each in (own, short) if each in seconds}
    of_full[key] = scaled(seconds[key], small=few, full=many)
    factors = f"ours of {ours.side_px} px {full}/{small}, the peer's of {side_px} px {many}/{few}"
    note = "" if side_px == FULL_PX else f"times multiplied by tiles: {factors}"
    gflop = work_gflop(ours.engine.manifest, (FULL_PX, FULL_PX), options=MapOptions())
    most = most_of(of_full[key], gflop=gflop, precision=ours.engine.precision)
    return record(
        key,
        ratios(of_full, of=key, over=own),
        ours=ours.words,
        peer=peer,
        note=note,
        most=most,
        eight_bits=ratios(of_full, of=key, over=short) if short in seconds else None,
        quick=quick,
    )


def main() -> None:
    """Measure and hand over."""
    parser = options(__doc__, rounds=3)
    parser.add_argument(
        "--side", type=int, default=1024, help=f"pixels; {FULL_PX} is the whole promise, and takes long"
    )
    asked = parser.parse_args()
    peers = {"raster-shipped": SHIPPED, "raster-equal": EQUAL}
    encoder, side_px, rounds = (TINY, 600, 1) if asked.quick else (SWIN_BASE, asked.side, asked.rounds)
    if asked.quick:
        peers["raster-shipped"] = Squares(1024, 256)
    sides_px = (512, 576) if asked.quick else _SIDES_PX
    found = measure(encoder=encoder, side_px=side_px, peers=peers, rounds=rounds, quick=asked.quick, sides_px=sides_px)
    hand_over(found, asked.json)


if __name__ == "__main__":
    main()
