"""Memory of a process that maps a raster, beyond what the loaded model holds.

    python -m benchmarks.memory [--side 10000] [--rounds 1] [--quick] [--json FILE]

A process of its own loads Swin-B + UPerNet, tells its resident memory, resets the kernel's high-water mark, maps the
raster, and tells the mark: what the network computes with, what is read ahead, the map and its overviews. What the
model itself still takes into memory as it runs counts as well, against us. A raster of a quarter of the side is mapped
first, by another process, and shown beside. Linux alone has such a mark.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.networks import SWIN_BASE, TINY, plan_of, random_network, spec_of
from benchmarks.rasters import FULL_PX, aerial_raster
from benchmarks.records import Record, hand_over, options, record
from uperfuse.trainer.network import BackboneSpec

__all__ = ["beyond_model"]

_STATUS = Path("/proc/self/status")
_CHILD = """
import sys
from pathlib import Path
from uperfuse.engine import Engine
from uperfuse.engine.rasters import Scene

def kilobytes(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(name)).split()[1])

plan, raster, out = sys.argv[1:]
with Engine.load(plan, device="cpu") as engine:
    before = kilobytes("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    scene = Scene.model_validate({"inputs": {"AERIAL_RGBI": {"path": raster}}})
    summary = engine.predict_raster(scene, out, overwrite=True, begin="restart", progress=False)
    print(before, kilobytes("VmHWM"), summary.tiles)
"""


def beyond_model(plan: Path, raster: Path, out: Path) -> float:
    """Gigabytes that a process holds beyond its loaded model, at most, while it maps a raster.

    Raises:
        RuntimeError: this system keeps no high-water mark, or the process failed.
    """
    if not _STATUS.exists():
        raise RuntimeError("this system has no /proc/self/status; memory is measured on Linux")
    command = [sys.executable, "-c", _CHILD, *map(str, (plan, raster, out))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(
            f"{raster.name} was not mapped in a process of its own: {done.stderr.strip().splitlines()[-1]}"
        )
    before, most, tiles = map(int, done.stdout.split())
    print(f"{raster.name}, {tiles} tiles: {before / 1e6:.2f} GB with the model, {most / 1e6:.2f} GB at most")
    return (most - before) * 1024 / 1e9


def measure(*, encoder: str | BackboneSpec, side_px: int, rounds: int, quick: bool) -> list[Record]:
    """Map a small raster, then the large one, each in a process of its own."""
    with (
        tempfile.TemporaryDirectory() as folder,
        plan_of(random_network(spec_of("AERIAL_RGBI", encoder=encoder))) as plan,
    ):
        sides = (max(side_px // 4, 512), side_px)
        small, large = (aerial_raster(Path(folder) / f"{side}px.tif", side_px=side) for side in sides)
        out = Path(folder) / "maps"
        less = beyond_model(plan, small, out)
        found = [beyond_model(plan, large, out) for _ in range(rounds)]
    note = f"{side_px} x {side_px} px; a raster of {sides[0]} x {sides[0]} px took {less:.2f} GB"
    return [record("memory", found, ours="UPerFuse, aerial-only network, a process of its own", note=note, quick=quick)]


def main() -> None:
    """Measure and hand over."""
    parser = options(__doc__, rounds=1)
    parser.add_argument("--side", type=int, default=FULL_PX)
    asked = parser.parse_args()
    encoder, side_px, rounds = (TINY, 1024, 1) if asked.quick else (SWIN_BASE, asked.side, asked.rounds)
    hand_over(measure(encoder=encoder, side_px=side_px, rounds=rounds, quick=asked.quick), asked.json)


if __name__ == "__main__":
    main()
