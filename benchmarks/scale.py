"""How a map scales over processes, and what all of France would take: measured here where it can be, else arithmetic.

    python -m benchmarks.scale PLAN [--side 3072] [--processes 1,2,4] [--tasks 1000,10000,100000] -o docs/scale

1. The same scene by one engine and by clusters of processes of this machine, in turns; more processes than cores are
   said to be so.
2. What a task costs the scheduler and the process that publishes, with tasks of no tiles, by the very loop that maps.
3. On paper: 550,000 km2 at 0.2 m on 1 to 256 workers, from the costs of stages that were measured in 1 and 2.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks.timing import interleaved
from uperfuse.engine import Engine
from uperfuse.engine.benchmark import machine
from uperfuse.engine.cluster import open_cluster, predict_on_cluster
from uperfuse.engine.cluster.connect import Cluster
from uperfuse.engine.cluster.predict import GROUP_BATCHES
from uperfuse.engine.cluster.window import Call, Window
from uperfuse.engine.cores import usable_cores
from uperfuse.engine.rasters import MapOptions, MapSummary, Scene, predict_raster
from uperfuse.engine.simulation import simulate, write_scene

FRANCE_PX = 550_000e6 / 0.2**2
WORKERS = (1, 4, 16, 64, 256)
_ONE = "one engine"
_SEED = 400


@dataclass(frozen=True)
class Costs:
    """Seconds of one worker and of the process that publishes, per tile and per task.

    Attributes:
        read: of a worker, per tile; beside the network.
        network: of a worker, per tile: prepare to classify, stack and cut.
        task: of the scheduler and the publishing process together, per task.
        publish: of the publishing process, per tile, when all are mapped.
        core_px: pixels that a tile gives.
        tiles_per_task: that travel together.
    """

    read: float
    network: float
    task: float
    publish: float
    core_px: float
    tiles_per_task: int


def throughput(plan: Path, scene: Scene, processes: Sequence[int], *, rounds: int) -> dict[str, list[float]]:
    """Seconds of whole maps, by one engine and by clusters that are all there, in turns."""
    with ExitStack() as opened:
        out = Path(opened.enter_context(tempfile.TemporaryDirectory()))
        engine = opened.enter_context(Engine.load(plan, device="cpu"))
        sides: dict[str, Callable[[], object]] = {_ONE: lambda: _alone(engine, scene, out)}
        for count in processes:
            name = f"{count} processes" + (" (more than cores)" if count > usable_cores() else "")
            cluster = opened.enter_context(open_cluster(f"local:{count}"))
            sides[name] = partial(_together, cluster, plan, scene, out)
        return interleaved(sides, rounds=rounds, warm_up=1)


def _together(cluster: Cluster, plan: Path, scene: Scene, out: Path) -> MapSummary:
    return predict_on_cluster(cluster, plan, scene, out, device="cpu", overwrite=True, begin="restart", progress=False)


def _alone(engine: Engine, scene: Scene, out: Path) -> MapSummary:
    return predict_raster(engine, scene, out, overwrite=True, begin="restart", progress=False)


def scheduling(counts: Sequence[int]) -> dict[int, float]:
    """Seconds per task of tasks that do nothing, by the loop that maps."""
    found = {}
    with open_cluster("local:1") as cluster:
        for count in counts:
            start = time.perf_counter()
            with Window(cluster.client, (Call(_nothing, (place,)) for place in range(count))) as window:
                done = sum(future.result() is not None for _, future in window)
            assert done == count, "every task comes back"
            found[count] = (time.perf_counter() - start) / count
    return found


def _nothing(place: int) -> int:
    return place


def costs_of(summary: MapSummary, task_s: float, *, batch: int) -> Costs:
    """Costs per tile from the stages of a map in one process."""
    tiles = summary.tiles - summary.void_tiles
    pixels = sum(next(iter(summary.pixels.values())).values())
    seconds = dict(summary.seconds)
    read, publish = seconds.pop("read"), seconds.pop("publish")
    for stage in ("mapping", "keep"):
        seconds.pop(stage)
    return Costs(
        read=read / tiles,
        network=sum(seconds.values()) / tiles,
        task=task_s,
        publish=publish / tiles,
        core_px=pixels / tiles,
        tiles_per_task=batch * GROUP_BATCHES,
    )


def days(costs: Costs, workers: int, *, speedup: float = 1.0) -> tuple[float, str]:
    """Days for all of France, and what sets the pace.

    Args:
        costs: measured.
        workers: that map.
        speedup: of the network on each worker, over what was measured.
    """
    tiles = FRANCE_PX / costs.core_px
    paces = {
        "network": tiles * costs.network / speedup / workers,
        "reading": tiles * costs.read / workers,
        "scheduling": tiles / costs.tiles_per_task * costs.task,
    }
    slowest = max(paces, key=lambda name: paces[name])
    return (paces[slowest] + tiles * costs.publish) / 86400, slowest


def report(seconds: Mapping[str, list[float]], tasks: Mapping[int, float], costs: Costs) -> list[str]:
    """Markdown of everything."""
    one = statistics.median(seconds[_ONE])
    lines = [
        f"On {machine()}.",
        "",
        "| who | seconds of a map, median (least to most) | over one engine |",
        "| --- | ---: | ---: |",
    ]
    for name, times in seconds.items():
        middle = statistics.median(times)
        lines.append(f"| {name} | {middle:.2f} ({min(times):.2f} to {max(times):.2f}) | {one / middle:.2f} x |")
    lines += ["", "| tasks without tiles | milliseconds each |", "| ---: | ---: |"]
    lines += [f"| {count:,} | {1e3 * spent:.2f} |" for count, spent in tasks.items()]
    lines += [
        "",
        f"Per tile of {costs.core_px:,.0f} px: network {1e3 * costs.network:.1f} ms, reading {1e3 * costs.read:.1f} "
        f"ms, publishing {1e3 * costs.publish:.2f} ms; {costs.tiles_per_task} tiles in a task.",
        "",
        "| workers | days, network as measured here | days, network 20 x as fast | days, network 200 x as fast |",
        "| ---: | ---: | ---: | ---: |",
    ]
    for workers in WORKERS:
        cells = [days(costs, workers, speedup=speedup) for speedup in (1, 20, 200)]
        lines.append(f"| {workers} | " + " | ".join(f"{spent:,.2f} ({slowest})" for spent, slowest in cells) + " |")
    return lines


def main() -> None:
    """Measure, compute, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("plan", type=Path)
    parser.add_argument("--side", type=int, default=3072, help="pixels of the simulated place")
    parser.add_argument("--processes", default="1,2,4")
    parser.add_argument("--tasks", default="1000,10000,100000")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("-o", "--out", type=Path, help="Markdown")
    asked = parser.parse_args()
    processes, counts = ([int(part) for part in text.split(",")] for text in (asked.processes, asked.tasks))
    tasks = scheduling(counts)
    with tempfile.TemporaryDirectory() as folder, Engine.load(asked.plan, device="cpu") as engine:
        place = simulate(_SEED, shape_yx_px=(asked.side, asked.side))
        written = Scene.from_yaml(write_scene(place, Path(folder) / "scene"))
        known = {modality.name for modality in engine.manifest.modalities}
        scene = Scene(inputs={name: source for name, source in written.inputs.items() if name in known})
        seconds = throughput(asked.plan, scene, processes, rounds=asked.rounds)
        summary = _alone(engine, scene, Path(folder))
        batch = MapOptions().batch_of(engine.manifest.base_px)
    lines = report(seconds, tasks, costs_of(summary, tasks[max(tasks)], batch=batch))
    print("\n".join(lines))
    if asked.out is not None:
        asked.out.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
