"""How a map scales over processes, and what all of France would take: measured here where it can be, else arithmetic.

    python -m benchmarks.scale PLAN [--side 3072] [--processes 1,2,4] [--tasks 1000,10000,100000] -o docs/scale.md

1. The same scene by one engine and by clusters of processes of this machine, in turns; more processes than cores are
   said to be so.
2. What a task costs the scheduler and the process that publishes, with tasks of no tiles, by the very loop that maps,
   and whether their memory grows meanwhile. A million of them takes a quarter of an hour.
3. On paper: 550,000 km2 at 0.2 m on 1 to 256 workers, as one run and by department, from costs measured in 1 and 2.
"""

from __future__ import annotations

import argparse
import os
import shlex
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import date
from functools import partial
from pathlib import Path

from benchmarks.marks import between
from benchmarks.rasters import simulated_scene
from benchmarks.timing import interleaved
from uperfuse.engine import Engine
from uperfuse.engine.benchmark import machine
from uperfuse.engine.cluster import open_cluster, predict_on_cluster
from uperfuse.engine.cluster.connect import Cluster
from uperfuse.engine.cluster.predict import GROUP_BATCHES
from uperfuse.engine.cluster.window import Window
from uperfuse.engine.cores import usable_cores
from uperfuse.engine.rasters import MapOptions, MapSummary, Scene, predict_raster
from uperfuse.engine.rasters.work import open_work
from uperfuse.engine.stopwatch import Stopwatch

BEGIN = "<!-- scale: written by `python -m benchmarks.scale`, from here -->"
END = "<!-- scale: to here -->"

FRANCE_PX = 550_000e6 / 0.2**2
DEPARTMENTS = 96
CREWS = ((1, 1), (4, 1), (16, 1), (64, 1), (256, 1), (16, 4), (64, 16), (256, 16), (256, 64))
"""Workers, and how many departments they map at a time; one is a run over all of France."""

SPEEDUPS = ((1, 1), (20, 1), (200, 1), (200, 8))
"""How many times as fast as here the network is, and how many readers each worker has."""

_ONE = "one engine"
_SEED = 400
_STATM = Path("/proc/self/statm")


@dataclass(frozen=True)
class Scheduled:
    """What tasks that do nothing cost.

    Attributes:
        tasks: how many.
        seconds: of the wall clock, for each.
        processor_seconds: of the scheduler and the process that sends, for each.
        here_mb: resident memory of that process after a tenth of the tasks, and after all.
        worker_mb: the same of a worker.
    """

    tasks: int
    seconds: float
    processor_seconds: float
    here_mb: tuple[float, float]
    worker_mb: tuple[float, float]


@dataclass(frozen=True)
class Costs:
    """Seconds of one worker and of the process that publishes, per tile and per task.

    Attributes:
        read: of one reader with a core of its own, per tile.
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


def scheduling(counts: Sequence[int]) -> list[Scheduled]:
    """Costs of tasks that do nothing, by the loop that maps."""
    with open_cluster("local:1") as cluster:
        return [_scheduled(cluster, count) for count in counts]


def _scheduled(cluster: Cluster, count: int) -> Scheduled:
    memory: list[tuple[float, float]] = []
    start, busy = time.perf_counter(), time.process_time()
    with Window(cluster.client, _nothing, range(count)) as window:
        for done, answer in enumerate(window, 1):
            assert answer.result == answer.argument, "every task does what it was asked"
            if done in (max(1, count // 10), count):
                (worker_mb,) = cluster.client.run(_resident_mb).values()
                memory.append((_resident_mb(), worker_mb))
    spent, busy = time.perf_counter() - start, time.process_time() - busy
    assert done == count, "every task comes back"
    (here_first, worker_first), (here_last, worker_last) = memory[0], memory[-1]
    return Scheduled(count, spent / count, busy / count, (here_first, here_last), (worker_first, worker_last))


def _resident_mb() -> float:
    """Memory of this process; Linux alone tells it so."""
    return int(_STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def _nothing(place: int) -> int:
    return place


def reading(engine: Engine, scene: Scene, out: Path) -> float:
    """Seconds that one reader takes for a tile, with nothing beside it."""
    watch = Stopwatch()
    with open_work(engine, scene, out, MapOptions(), report=_unheard) as work:
        tiles = range(len(work.tiling))
        for _ in work.readers.read(tiles, ahead=1, watch=watch):
            pass
    return watch.seconds["read"] / len(tiles)


def _unheard(sentence: str) -> None:
    """Is told how the rasters are understood, which nobody wants to know here."""


def costs_of(summary: MapSummary, *, read_s: float, task_s: float, batch: int) -> Costs:
    """Costs per tile from the stages of a map in one process, and from what was measured apart."""
    tiles = summary.tiles - summary.void_tiles
    pixels = sum(next(iter(summary.pixels.values())).values())
    seconds = dict(summary.seconds)
    publish = seconds.pop("publish")
    for stage in ("mapping", "keep", "read"):
        seconds.pop(stage)
    return Costs(
        read=read_s,
        network=sum(seconds.values()) / tiles,
        task=task_s,
        publish=publish / tiles,
        core_px=pixels / tiles,
        tiles_per_task=batch * GROUP_BATCHES,
    )


def days(costs: Costs, workers: int, *, runs: int = 1, speedup: float = 1.0, readers: int = 1) -> tuple[float, str]:
    """Days for all of France, and what sets the pace of mapping.

    Runs that go on at a time share the workers; each has a scheduler and publishes in a process of its own when its
    tiles are mapped, while its workers wait.

    Args:
        costs: measured.
        workers: that map, of all runs together.
        runs: that go on at a time.
        speedup: of the network on each worker, over what was measured.
        readers: of each worker, each with a core of its own.
    """
    tiles = FRANCE_PX / costs.core_px
    paces = {
        "network": tiles * costs.network / speedup / workers,
        "reading": tiles * costs.read / readers / workers,
        "scheduling": tiles / costs.tiles_per_task * costs.task / runs,
    }
    slowest = max(paces, key=lambda name: paces[name])
    return (paces[slowest] + tiles * costs.publish / runs) / 86400, slowest


def throughput_table(seconds: Mapping[str, list[float]]) -> list[str]:
    """Markdown of who took how long."""
    one = statistics.median(seconds[_ONE])
    lines = ["| who | seconds of a map, median (least to most) | over one engine |", "| --- | ---: | ---: |"]
    for name, times in seconds.items():
        middle = statistics.median(times)
        lines.append(f"| {name} | {middle:.2f} ({min(times):.2f} to {max(times):.2f}) | {one / middle:.2f} x |")
    return lines


def scheduling_table(found: Sequence[Scheduled], *, tiles_per_task: int) -> list[str]:
    """Markdown of what tasks cost."""
    lines = [
        "| tasks without tiles | ms each | ms of processor | ms per tile | MB here | MB of the worker |",
        "| ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for each in found:
        spent, busy = 1e3 * each.seconds, 1e3 * each.processor_seconds
        memory = " | ".join(f"{first:.0f} to {last:.0f}" for first, last in (each.here_mb, each.worker_mb))
        lines.append(f"| {each.tasks:,} | {spent:.2f} | {busy:.2f} | {spent / tiles_per_task:.3f} | {memory} |")
    return [
        *lines,
        "",
        "Here: the scheduler and the process that publishes, which are one. Memory after a tenth of the tasks, and "
        f"after all. {tiles_per_task} tiles are in a task.",
    ]


def france_table(costs: Costs) -> list[str]:
    """Markdown of what all of France would take."""
    heads = [
        f"network {speedup} x as fast" + (f", {readers} readers" if readers > 1 else "")
        for speedup, readers in SPEEDUPS
    ]
    lines = [
        f"Per tile of {costs.core_px:,.0f} px: network {1e3 * costs.network:.1f} ms, reading {1e3 * costs.read:.1f} "
        f"ms, publishing {1e3 * costs.publish:.2f} ms, scheduling {1e3 * costs.task / costs.tiles_per_task:.3f} ms.",
        "",
        "| workers | runs at a time | days, " + " | days, ".join(heads) + " |",
        "| ---: | ---: |" + " ---: |" * len(heads),
    ]
    for workers, runs in CREWS:
        found = [days(costs, workers, runs=runs, speedup=speedup, readers=readers) for speedup, readers in SPEEDUPS]
        cells = " | ".join(f"{spent:,.2f} ({slowest})" for spent, slowest in found)
        lines.append(f"| {workers} | {f'{runs} of {DEPARTMENTS}' if runs > 1 else 'all of France'} | {cells} |")
    return lines


def report(
    seconds: Mapping[str, list[float]], found: Sequence[Scheduled], costs: Costs, *, side_px: int, command: str
) -> list[str]:
    """Markdown of everything."""
    return [
        f"On {machine()}. Measured on {date.today()} by",
        "",
        f"    {command}",
        "",
        f"Who maps takes turns; the simulated place has {side_px} x {side_px} px.",
        "",
        *throughput_table(seconds),
        "",
        *scheduling_table(found, tiles_per_task=costs.tiles_per_task),
        "",
        *france_table(costs),
    ]


def with_section(text: str, lines: Sequence[str]) -> str:
    """A document with these lines between its marks.

    Raises:
        ValueError: a mark is missing, or there twice.
    """
    return between(text, lines, begin=BEGIN, end=END)


def main() -> None:
    """Measure, compute, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("plan", type=Path)
    parser.add_argument("--side", type=int, default=3072, help="pixels of the simulated place")
    parser.add_argument("--processes", default="1,2,4")
    parser.add_argument("--tasks", default="1000,10000,100000")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("-o", "--out", type=Path, help="Markdown; what stands between its marks is written anew")
    asked = parser.parse_args()
    processes, counts = ([int(part) for part in text.split(",")] for text in (asked.processes, asked.tasks))
    if asked.out is not None:
        with_section(asked.out.read_text(encoding="utf-8"), [])  # marks that are missing are noticed before the work
    found = scheduling(counts)
    with tempfile.TemporaryDirectory() as folder, Engine.load(asked.plan, device="cpu") as engine:
        shape_yx_px = (asked.side, asked.side)
        scene = simulated_scene(Path(folder) / "scene", engine.manifest, seed=_SEED, shape_yx_px=shape_yx_px)
        seconds = throughput(asked.plan, scene, processes, rounds=asked.rounds)
        summary = _alone(engine, scene, Path(folder))
        read_s = reading(engine, scene, Path(folder) / "unread")
        batch = MapOptions().batch_of(engine.manifest.base_px)
    largest = max(found, key=lambda each: each.tasks)
    costs = costs_of(summary, read_s=read_s, task_s=largest.seconds, batch=batch)
    command = shlex.join(["python", "-m", "benchmarks.scale", *sys.argv[1:]])
    lines = report(seconds, found, costs, side_px=asked.side, command=command)
    print("\n".join(lines))
    if asked.out is not None:
        text = asked.out.read_text(encoding="utf-8")
        asked.out.write_text(with_section(text, ["", *lines, ""]), encoding="utf-8")


if __name__ == "__main__":
    main()
