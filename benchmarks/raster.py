"""A raster of 10,000 x 10,000 px: Swin-B + UPerNet over a file, against PyTorch in the manner of the zonal tool.

    python -m benchmarks.raster [--side 1024] [--rounds 3] [--quick] [--json FILE]

Both sides read a GeoTIFF and write one. Time grows with the number of tiles. Unless `--side 10000` is asked for, a
smaller raster is mapped and each side's time is multiplied by its tiles of 10,000 px over its tiles of the small one;
the record says by how much. Networks are compared on a tile before anything is timed, and maps must be complete.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import rasterio
import torch
from numpy.typing import NDArray

from benchmarks.networks import SWIN_BASE, TASK, TINY, plan_of, random_network, spec_of
from benchmarks.published import inputs_of
from benchmarks.rasters import FULL_PX, aerial_raster, scene_of
from benchmarks.records import Record, hand_over, options, record
from benchmarks.timing import interleaved, ratios, report
from benchmarks.zonal import EQUAL, SHIPPED, Network, Squares, map_zonally
from uperfuse.engine import Engine
from uperfuse.engine.benchmark import tiles_for
from uperfuse.engine.rasters import Scene
from uperfuse.engine.rasters.tiling import Tiling, default_halo_px
from uperfuse.trainer.network import BackboneSpec, UPerFuse

__all__ = ["compare_tile", "complete_labels", "in_this_manner", "measure", "our_tiles", "predict_map", "scaled"]

_BASE = "AERIAL_RGBI"
_OURS = "UPerFuse"
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
        zonal: makes the other side.
        name: of the other side.
    """
    network = random_network(spec_of(_BASE, encoder=encoder))
    with (
        tempfile.TemporaryDirectory() as folder,
        plan_of(network) as plan,
        Engine.load(plan, device="cpu") as engine,
    ):
        print(engine.describe())
        given = aerial_raster(Path(folder) / "aerial.tif", side_px=side_px)
        scene = scene_of(given)
        compare_tile(engine, _in_torch(network))
        maps: list[Path] = []
        sides: dict[str, Callable[[], object]] = {
            _OURS: lambda: maps.append(predict_map(engine, scene, Path(folder) / "maps"))
        }
        for key, squares in peers.items():
            sides[key] = zonal(network, given, Path(folder) / f"{key}.tif", squares)
        seconds = interleaved(sides, rounds=rounds, warm_up=0)
        found = complete_labels(maps[-1], side_px)
        for key in peers:
            theirs = complete_labels(Path(folder) / f"{key}.tif", side_px)
            print(f"{key}: {np.mean(theirs == found):.2%} of labels are ours; tiles see different surroundings")
        print("\n".join(report(seconds, against=_OURS)))
        tile_px = engine.manifest.base_px
        ours = f"UPerFuse {engine.precision}, tiles of {tile_px} px, halo {default_halo_px(tile_px)} px"
        return [
            _record(
                key,
                squares,
                seconds,
                peer=f"{name}, {squares}",
                side_px=side_px,
                tile_px=tile_px,
                ours=ours,
                quick=quick,
            )
            for key, squares in peers.items()
        ]


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
    seconds: dict[str, list[float]],
    *,
    peer: str,
    side_px: int,
    tile_px: int,
    ours: str,
    quick: bool,
) -> Record:
    small, full = (our_tiles(side, tile_px=tile_px) for side in (side_px, FULL_PX))
    few, many = (squares.count(side) for side in (side_px, FULL_PX))
    of_full = {
        _OURS: scaled(seconds[_OURS], small=small, full=full),
        key: scaled(seconds[key], small=few, full=many),
    }
    note = (
        ""
        if side_px == FULL_PX
        else f"measured on {side_px} px; times multiplied by tiles: ours {full}/{small}, the peer's {many}/{few}"
    )
    return record(
        key,
        ratios(of_full, of=key, over=_OURS),
        ours=ours,
        peer=peer,
        note=note,
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
    found = measure(encoder=encoder, side_px=side_px, peers=peers, rounds=rounds, quick=asked.quick)
    hand_over(found, asked.json)


if __name__ == "__main__":
    main()
