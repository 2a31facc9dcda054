"""How wide a rim of a tile must be: agreement with a map of very wide rims, against the rim and against its cost.

    python -m benchmarks.halo PLAN [--scenes 3] [--raster AERIAL_RGBI=image.tif] -o docs/halo

On simulated places, and on rasters that are given. A rim gives the network context that a tile's edge lacks; what it
costs is that tiles overlap. Nothing is timed: the cost is the number of tiles.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from uperfuse.engine import Engine
from uperfuse.engine.rasters import Scene, predict_raster
from uperfuse.engine.simulation import simulate, write_scene

HALOS_PX = (0, 16, 32, 48, 64, 96, 128)
REFERENCE_PX = 208
"""Rim of the map that others are compared with: of a tile of 512 px, 96 px are kept."""

_SHAPE_YX_PX = (1280, 1408)
_FIRST_SEED = 300


@dataclass(frozen=True)
class Agreement:
    """A map beside that of the widest rims.

    Attributes:
        place: what was mapped.
        task: which map.
        halo_px: of the map.
        tiles: that it took.
        equal: fraction of pixels with the same class.
        confidence: mean difference of the confidence, in percent.
    """

    place: str
    task: str
    halo_px: int
    tiles: int
    equal: float
    confidence: float


def study(engine: Engine, scene: Scene, place: str) -> Iterator[Agreement]:
    """Agreement of a scene's maps, for every rim and task."""
    with _maps(engine, scene, REFERENCE_PX) as (reference, _):
        for halo_px in HALOS_PX:
            with _maps(engine, scene, halo_px) as (maps, tiles):
                for task, (labels, confidence) in maps.items():
                    truth, certain = reference[task]
                    seen = truth != 255
                    equal = float((labels == truth)[seen].mean())
                    apart = np.abs(confidence.astype(int) - certain.astype(int))[seen]
                    yield Agreement(place, task, halo_px, tiles, equal, float(apart.mean()))


@contextmanager
def _maps(
    engine: Engine, scene: Scene, halo_px: int
) -> Iterator[tuple[dict[str, tuple[NDArray[np.uint8], NDArray[np.uint8]]], int]]:
    """Labels and confidence of every task, and the number of tiles."""
    with tempfile.TemporaryDirectory() as folder:
        summary = predict_raster(
            engine, scene, folder, halo_px=halo_px, progress=False, allow_ungeoreferenced=True, begin="restart"
        )
        maps = {}
        for task, files in summary.files.items():
            assert files.confidence is not None, "it is asked for"
            maps[task] = (_read(files.labels), _read(files.confidence))
        yield maps, summary.tiles


def _read(path: Path) -> NDArray[np.uint8]:
    with rasterio.open(path) as dataset:
        values: NDArray[np.uint8] = dataset.read(1)
    return values


def table(found: Sequence[Agreement], *, tile_px: int) -> list[str]:
    """Markdown: a row for each rim, a column for each place and task."""
    columns = list(dict.fromkeys((each.place, each.task) for each in found))
    by_key = {(each.place, each.task, each.halo_px): each for each in found}
    lines = [
        "| rim (px) | pixels computed per pixel | " + " | ".join(f"{place}, {task}" for place, task in columns) + " |",
        "| ---: | ---: |" + " ---: |" * len(columns),
    ]
    for halo_px in HALOS_PX:
        cost = (tile_px / (tile_px - 2 * halo_px)) ** 2
        cells = [by_key[place, task, halo_px] for place, task in columns]
        words = " | ".join(f"{each.equal:.3%}, {each.confidence:.2f}" for each in cells)
        lines.append(f"| {halo_px} | {cost:.2f} | {words} |")
    return lines


def draw(found: Sequence[Agreement], path: Path, *, tile_px: int) -> None:
    """Disagreement against the rim."""
    figure = Figure(figsize=(8, 4.5), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for place, task in dict.fromkeys((each.place, each.task) for each in found):
        line = [each for each in found if (each.place, each.task) == (place, task)]
        axes.plot(
            [each.halo_px for each in line],
            [100 * (1 - each.equal) for each in line],
            marker="o",
            label=f"{place}, {task}",
        )
    axes.axvline(tile_px / 8, color="grey", linestyle=":", label="default")
    axes.set_ylim(0, None)
    axes.set(xlabel="rim (px)", ylabel=f"pixels of another class than with {REFERENCE_PX} px (%)")
    axes.legend(fontsize=8)
    figure.savefig(path)


def main() -> None:
    """Map, compare, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("plan", type=Path)
    parser.add_argument("--scenes", type=int, default=3, help="simulated places")
    parser.add_argument("--raster", action="append", default=[], metavar="MODALITY=FILE")
    parser.add_argument("--bands", action="append", default=[], metavar="MODALITY=NAMES")
    parser.add_argument("-o", "--out", type=Path, required=True, help="without ending; .md and .png are written")
    asked = parser.parse_args()
    found: list[Agreement] = []
    with Engine.load(asked.plan, device="cpu") as engine:
        print(engine.describe())
        for seed in range(_FIRST_SEED, _FIRST_SEED + asked.scenes):
            with tempfile.TemporaryDirectory() as folder:
                written = Scene.from_yaml(write_scene(simulate(seed, shape_yx_px=_SHAPE_YX_PX), Path(folder)))
                known = {modality.name for modality in engine.manifest.modalities}
                scene = Scene(inputs={name: source for name, source in written.inputs.items() if name in known})
                found += study(engine, scene, f"simulated {seed}")
        if asked.raster:
            scene = Scene.from_options(asked.raster, bands=asked.bands)
            found += study(engine, scene, Path(asked.raster[0].partition("=")[2]).stem)
        tile_px, words = engine.manifest.base_px, engine.describe().splitlines()[0]
    lines = table(found, tile_px=tile_px)
    print("\n".join(lines))
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    asked.out.with_suffix(".md").write_text("\n".join([words, "", *lines]) + "\n", encoding="utf-8")
    draw(found, asked.out.with_suffix(".png"), tile_px=tile_px)


if __name__ == "__main__":
    main()
