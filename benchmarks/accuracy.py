"""What a plan loses by its fast precision: mIoU against that of float32, in points, over simulated land.

    python -m benchmarks.accuracy [PLAN] [--places 12] [--quick] [--json FILE]

Places come from seeds that the small plan was not trained on; each gives two tiles, with all sensors that the plan
takes. Pixels of all tiles are counted together. Beside the row stands what the plan's 8-bit form scores, which has a
limit of its own. How near float32 is to PyTorch is no row: every export refuses to write
a plan that misses it.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.eight_bits import eight_bit_engine
from benchmarks.load import SMALL_PLAN
from benchmarks.rasters import simulated_scene
from benchmarks.records import Record, hand_over, options, record
from uperfuse.engine import Engine
from uperfuse.engine.demo.agreement import compare
from uperfuse.engine.flairhub import dates_key
from uperfuse.engine.simulation import SimulatedScene, simulate

__all__ = ["loss_points", "mean_iou_percent"]

_FIRST_SEED = 90_000
_TILE_PX = 512
_PIXEL_M2 = 0.04

Maps = dict[str, list[NDArray[np.uint8]]]


def predict(engine: Engine, places: list[SimulatedScene]) -> Maps:
    """Task -> labels of every tile of every place."""
    found: Maps = {task.name: [] for task in engine.manifest.tasks}
    for place in places:
        for column in range(0, place.shape_yx_px[1], _TILE_PX):
            labels = engine.predict(_known(engine, place.tile(0, column, _TILE_PX))).labels
            for task, maps in found.items():
                maps.append(np.asarray(labels[task][0]))
    return found


def _known(engine: Engine, tile: Mapping[str, Any]) -> dict[str, Any]:
    names = {modality.name for modality in engine.manifest.modalities}
    return {name: tile[name] for name in tile if name in names | {dates_key(each) for each in names}}


def mean_iou_percent(engine: Engine, maps: Maps, places: list[SimulatedScene]) -> dict[str, float]:
    """Task -> mean over classes of intersection over union, in percent."""
    scores = {}
    for task in engine.manifest.tasks:
        truth = [
            place.labels[task.name][:, column : column + _TILE_PX]
            for place in places
            for column in range(0, place.shape_yx_px[1], _TILE_PX)
        ]
        agreement = compare(np.stack(maps[task.name]), task=task, pixel_m2=_PIXEL_M2, truth=np.stack(truth))
        assert agreement.mean_iou is not None, f"{task.name} has no truth"
        scores[task.name] = 100 * agreement.mean_iou
    return scores


def loss_points(exact: Mapping[str, float], fast: Mapping[str, float]) -> float:
    """The largest difference of any task, either way."""
    return max(abs(exact[task] - fast[task]) for task in exact)


def measure(plan: Path, *, count: int, quick: bool) -> list[Record]:
    """Map the same places in all precisions."""
    places = [simulate(_FIRST_SEED + place, shape_yx_px=(_TILE_PX, 2 * _TILE_PX)) for place in range(count)]
    with (
        tempfile.TemporaryDirectory() as folder,
        Engine.load(plan, device="cpu") as engine,
        Engine.load(plan, device="cpu", precision="float32") as exact,
        eight_bit_engine(
            Path(shutil.copy(plan, Path(folder) / "8-bit.plan")),
            scene=simulated_scene(Path(folder), exact.manifest),
            quick=quick,
        ) as short,
    ):
        engines = [exact, engine, *([] if short is None else [short])]
        scores = {each: mean_iou_percent(each, predict(each, places), places) for each in engines}
        said = [
            f"{task}: " + ", ".join(f"{scores[each][task]:.2f} % in {each.precision}" for each in engines)
            for task in scores[exact]
        ]
        print("\n".join(said))
        return [
            record(
                "accuracy",
                [loss_points(scores[exact], scores[engine])],
                ours=f"{plan.name} in {engine.precision}, {2 * count} tiles of simulated land",
                peer="the same plan in float32",
                note="; ".join(said),
                quick=quick,
            )
        ]


def main() -> None:
    """Measure and hand over."""
    parser = options(__doc__, rounds=1)
    parser.add_argument("plan", type=Path, nargs="?", default=SMALL_PLAN)
    parser.add_argument("--places", type=int, default=12)
    asked = parser.parse_args()
    hand_over(measure(asked.plan, count=1 if asked.quick else asked.places, quick=asked.quick), asked.json)


if __name__ == "__main__":
    main()
