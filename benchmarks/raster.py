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

__all__ = ["compare_tile", "our_tiles", "predict_map", "scaled"]

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


def measure(
    *, encoder: str | BackboneSpec, side_px: int, peers: dict[str, Squares], rounds: int, quick: bool
) -> list[Record]:
    """Check that all sides map, then time them in turns."""
    network = random_network(spec_of(_BASE, encoder=encoder))
    with (
        tempfile.TemporaryDirectory() as folder,
        plan_of(network) as plan,
        Engine.load(plan, device="cpu") as engine,
    ):
        print(engine.describe())
        given = aerial_raster(Path(folder) / "aerial.tif", side_px=side_px)
        scene = scene_of(given)
        in_torch = _in_torch(network)
        compare_tile(engine, in_torch)
        sides: dict[str, Callable[[], Path]] = {_OURS: lambda: predict_map(engine, scene, Path(folder) / "maps")}
        for key, squares in peers.items():
            sides[key] = _zonal(in_torch, given, Path(folder) / f"{key}.tif", squares)
        seconds = interleaved(sides, rounds=rounds, warm_up=0)
        for side in (_OURS, *peers):
            path = Path(folder) / "maps" if side == _OURS else Path(folder) / f"{side}.tif"
            _check_complete(next(path.glob("*.tif")) if path.is_dir() else path, side_px)
        print("\n".join(report(seconds, against=_OURS)))
        tile_px = engine.manifest.base_px
        ours = f"UPerFuse {engine.precision}, tiles of {tile_px} px, halo {default_halo_px(tile_px)} px"
        return [
            _record(key, squares, seconds, side_px=side_px, tile_px=tile_px, ours=ours, quick=quick)
            for key, squares in peers.items()
        ]


def _in_torch(network: UPerFuse) -> Network:
    return lambda pixels: network({_BASE: pixels})[TASK]


def _zonal(network: Network, given: Path, out: Path, squares: Squares) -> Callable[[], Path]:
    return lambda: map_zonally(network, given, out, squares=squares)


def _check_complete(path: Path, side_px: int) -> None:
    with rasterio.open(path) as raster:
        assert raster.shape == (side_px, side_px), f"{path.name} is a map of {raster.shape}"
        assert np.all(raster.read(1) < 255), f"{path.name} has void pixels, and the raster has none"


def _record(
    key: str,
    squares: Squares,
    seconds: dict[str, list[float]],
    *,
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
        peer=f"PyTorch eager float32 in the zonal tool's manner, squares of {squares.side_px} px, margin "
        f"{squares.margin_px} px",
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
