"""How wide a rim of a tile must be: agreement with a map of very wide rims, against the rim and against its cost.

    python -m benchmarks.halo PLAN [--scenes 3] [--images a.tif b.tif --image-tile-px 256] -o docs/halo

On simulated places with all sensors, and on aerial images that are given, by tiles of another side where those are no
larger than a tile. Rims are fractions of a tile's side, so that both can be read beside each other. A rim gives the
network context that a tile's edge lacks; what it costs is that tiles overlap. Nothing is timed: the cost is the pixels
that are computed for each pixel of the map.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import rasterio
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from benchmarks.rasters import scene_of, simulated_scene
from uperfuse.engine import Engine
from uperfuse.engine.rasters import Scene, predict_raster
from uperfuse.engine.rasters.tiling import default_halo_px

HALOS = (0.0, 1 / 32, 1 / 16, 3 / 32, 1 / 8, 3 / 16, 1 / 4)
"""Rims, in sides of a tile."""

REFERENCE = 13 / 32
"""Rim of the map that others are compared with: of a tile of 512 px, 96 px are kept."""

_SHAPE_YX_PX = (1280, 1408)
_FIRST_SEED = 300
_TILE_PX = 512


@dataclass(frozen=True)
class Agreement:
    """Maps beside those of the widest rims.

    Attributes:
        place: what was mapped.
        task: which map.
        halo: rim, in sides of a tile.
        equal: fraction of pixels with the same class.
        confidence: mean difference of the confidence, in percent.
    """

    place: str
    task: str
    halo: float
    equal: float
    confidence: float


def study(engine: Engine, scenes: Sequence[Scene], place: str) -> Iterator[Agreement]:
    """Agreement of the maps of some scenes, taken together, for every rim and task."""
    found: dict[tuple[str, float], list[tuple[float, float]]] = {}
    for scene in scenes:
        with _maps(engine, scene, REFERENCE) as reference:
            for halo in HALOS:
                with _maps(engine, scene, halo) as maps:
                    for task, (labels, confidence) in maps.items():
                        truth, certain = reference[task]
                        seen = truth != 255
                        equal = float((labels == truth)[seen].mean())
                        apart = np.abs(confidence.astype(int) - certain.astype(int))[seen]
                        found.setdefault((task, halo), []).append((equal, float(apart.mean())))
    for (task, halo), pairs in found.items():
        equal, apart = np.mean(pairs, axis=0)
        yield Agreement(place, task, halo, float(equal), float(apart))


@contextmanager
def _maps(
    engine: Engine, scene: Scene, halo: float
) -> Iterator[dict[str, tuple[NDArray[np.uint8], NDArray[np.uint8]]]]:
    """Labels and confidence of every task."""
    halo_px = round(halo * engine.manifest.base_px)
    with tempfile.TemporaryDirectory() as folder:
        summary = predict_raster(
            engine, scene, folder, halo_px=halo_px, progress=False, allow_ungeoreferenced=True, begin="restart"
        )
        maps = {}
        for task, files in summary.files.items():
            assert files.confidence is not None, "it is asked for"
            maps[task] = (_read(files.labels), _read(files.confidence))
        yield maps


def _read(path: Path) -> NDArray[np.uint8]:
    with rasterio.open(path) as dataset:
        values: NDArray[np.uint8] = dataset.read(1)
    return values


def table(found: Sequence[Agreement]) -> list[str]:
    """Markdown: a row for each rim, a column for each place and task."""
    columns = list(dict.fromkeys((each.place, each.task) for each in found))
    by_key = {(each.place, each.task, each.halo): each for each in found}
    lines = [
        "| rim (sides of a tile) | pixels computed per pixel | "
        + " | ".join(f"{place}, {task}" for place, task in columns)
        + " |",
        "| ---: | ---: |" + " ---: |" * len(columns),
    ]
    for halo in HALOS:
        cells = [by_key[place, task, halo] for place, task in columns]
        words = " | ".join(f"{each.equal:.3%}, {each.confidence:.2f}" for each in cells)
        lines.append(f"| {Fraction(halo)} | {1 / (1 - 2 * halo) ** 2:.2f} | {words} |")
    return lines


def draw(found: Sequence[Agreement], path: Path) -> None:
    """Disagreement against the rim."""
    figure = Figure(figsize=(8, 5.5), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for place, task in dict.fromkeys((each.place, each.task) for each in found):
        line = [each for each in found if (each.place, each.task) == (place, task)]
        axes.plot(
            [each.halo for each in line],
            [100 * (1 - each.equal) for each in line],
            marker="o",
            label=f"{place}, {task}",
        )
    axes.axvline(default_halo_px(_TILE_PX) / _TILE_PX, color="grey", linestyle=":", label="default")
    axes.set_ylim(0, None)
    axes.set_xticks(HALOS, [str(Fraction(halo)) for halo in HALOS])
    axes.set(
        xlabel="rim (sides of a tile)", ylabel=f"pixels of another class than with a rim of {Fraction(REFERENCE)} (%)"
    )
    figure.legend(fontsize=8, loc="outside lower center", ncols=2)
    figure.savefig(path)


def main() -> None:
    """Map, compare, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("plan", type=Path)
    parser.add_argument("--scenes", type=int, default=3, help="simulated places")
    parser.add_argument("--images", type=Path, nargs="+", default=[], help="aerial images, shown together")
    parser.add_argument("--image-tile-px", type=int, help="side of the tiles of images; the plan's first if left out")
    parser.add_argument("-o", "--out", type=Path, required=True, help="without ending; .md and .png are written")
    asked = parser.parse_args()
    found: list[Agreement] = []
    with Engine.load(asked.plan, device="cpu") as engine:
        print(engine.describe())
        words = engine.describe().splitlines()[0]
        for seed in range(_FIRST_SEED, _FIRST_SEED + asked.scenes):
            with tempfile.TemporaryDirectory() as folder:
                scene = simulated_scene(Path(folder), engine.manifest, seed=seed, shape_yx_px=_SHAPE_YX_PX)
                found += study(engine, [scene], f"simulated {seed}")
    if asked.images:
        with Engine.load(asked.plan, device="cpu", tile_px=asked.image_tile_px) as engine:
            place = f"{len(asked.images)} images by tiles of {engine.manifest.base_px} px"
            found += study(engine, [scene_of(image) for image in asked.images], place)
    lines = table(found)
    print("\n".join(lines))
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    asked.out.with_suffix(".md").write_text("\n".join([words, "", *lines]) + "\n", encoding="utf-8")
    draw(found, asked.out.with_suffix(".png"))


if __name__ == "__main__":
    main()
