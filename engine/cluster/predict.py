"""A scene mapped by a cluster: tiles in groups that lie together, each group a task; what is finished is kept here."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from ..errors import BackendError
from ..plan.plan import Plan
from ..rasters.predict import map_scene
from ..rasters.progress import Advance
from ..rasters.run import Begin, Run
from ..rasters.scene import Scene
from ..rasters.summary import MapSummary
from ..rasters.tiling import Tiling
from ..rasters.work import MapOptions, Work
from ..stopwatch import Stopwatch
from . import worker
from .connect import Cluster
from .job import Errand, Group, Job, MissingPlanError, Planned, Share
from .window import Window, answering

if TYPE_CHECKING:
    from .errands import Messenger

__all__ = ["GROUP_BATCHES", "groups", "predict_on_cluster"]

GROUP_BATCHES = 2
"""Batches of tiles in a task."""

_ATTEMPTS = 5
_SHARES = "shares"


def predict_on_cluster(
    cluster: Cluster,
    plan: Path,
    scene: Scene,
    out: Path,
    options: MapOptions | None = None,
    *,
    device: str = "auto",
    precision: str = "auto",
    tile_px: int | None = None,
    prime_cache: Path | None = None,
    overwrite: bool = False,
    begin: Begin = "new",
    progress: bool = True,
    report: Callable[[str], None] | None = None,
) -> MapSummary:
    """Map the rasters of a scene by all workers of a cluster; see `predict_raster`.

    The maps are those of one process, byte for byte where all processors are of one kind. Rasters and maps lie where
    every worker sees them; a plan that a worker does not see is sent, once to each machine. Workers may come, go and
    die meanwhile.

    Args:
        cluster: that is connected.
        plan: the plan file.
        scene: which rasters.
        out: folder of the maps.
        options: how they are mapped.
        device: for `Engine.load` of every worker.
        precision: for `Engine.load` of every worker.
        tile_px: for `Engine.load` of every worker.
        prime_cache: for `Engine.load` of every worker; a folder that all of them see.
        overwrite: replace maps that exist.
        begin: what to do where an interrupted run is kept.
        progress: show a progress bar where standard error is a terminal.
        report: called with each sentence about the rasters and tiles as it is known.

    Raises:
        PlanError: the plan breaks a rule of the format.
        BackendError: the cluster is gone, its workers cannot load the plan, or see other rasters than this process.
        RasterError: as `predict_raster`.
    """
    say = report or _nobody
    options = options or MapOptions()
    if options.readers is None:  # a worker's tasks are too short to choose by
        options = replace(options, readers=1)
    with Plan.open(plan, tile_px=tile_px) as opened:
        manifest, plan_hash = opened.manifest, opened.hash
    job = Job(
        name=uuid4().hex,
        plan=plan.absolute(),
        plan_hash=plan_hash,
        device=device,
        precision=precision,
        threads=cluster.threads,
        tile_px=tile_px,
        prime_cache=prime_cache.absolute() if prime_cache else None,
        scene=scene.absolute(),
        out=out.absolute(),
        options=options,
    )
    tasks = _Tasks(cluster.client, job, plan)
    try:
        device, precision, words = tasks.describe()
        say(words)
        planned = Planned(manifest, plan_hash, device, precision)
        return map_scene(
            planned,
            job.scene,
            job.out,
            options,
            map_tiles=tasks.map,
            overwrite=overwrite,
            begin=begin,
            progress=progress,
            report=say,
        )
    finally:
        tasks.close()


def groups(tiling: Tiling, tiles: Sequence[int], *, size: int) -> Iterator[list[int]]:
    """Tiles in squares of about `size` of them, so that one worker reads what lies together.

    The tiles are in ascending order; a band of squares is held at a time, however many there are.

    Example:
        >>> [*groups(Tiling((100, 200), tile_px=50, halo_px=0), range(8), size=4)]
        [[0, 1, 4, 5], [2, 3, 6, 7]]
    """
    side = max(1, round(math.sqrt(size)))
    for _, band in groupby(tiles, key=lambda tile: tile // tiling.columns // side):
        squares: dict[int, list[int]] = {}
        for tile in band:
            squares.setdefault(tile % tiling.columns // side, []).append(tile)
        yield from squares.values()


class _Tasks:
    """Groups of tiles on their way to workers and back."""

    def __init__(self, client: Any, job: Job, plan: Path) -> None:
        self._client = client
        self._job = job
        self._plan = plan
        self._told = False

    def describe(self) -> tuple[str, str, str]:
        """What a worker says of its engine."""
        for _ in range(_ATTEMPTS):
            with Window(self._client, worker.describe, [self._job]) as window:
                (answer,) = window
            if answer.error is None:
                described: tuple[str, str, str] = answer.result
                return described
            self._mend(answer.error)
        raise BackendError(f"no worker loaded the plan in {_ATTEMPTS} attempts; look at the workers' logs and disks")

    def map(self, work: Work, run: Run, tiles: Sequence[int], watch: Stopwatch, advance: Advance) -> None:
        """Map tiles, and keep every share that comes back."""
        from .errands import Messenger  # imports Dask, which a run without a cluster does without

        shares = run.folder / _SHARES
        shares.mkdir(exist_ok=True)
        self._tell(Messenger(Errand(self._job, work.settings, shares)))
        made = groups(work.tiling, tiles, size=work.batch * GROUP_BATCHES)
        attempts: Counter[Group] = Counter()
        with Window(self._client, worker.map_tiles, (Group(self._job.name, tuple(group)) for group in made)) as window:
            for answer in window:
                if answer.error is not None:
                    self._mend(answer.error)
                    self._count(attempts, answer.argument)
                    window.again(answer.argument)
                    continue
                share: Share = answer.result
                run.absorb(share.path)
                watch.add(share.seconds)
                advance(sum(work.tiling[tile].core_pixels for tile in share.tiles))

    def _tell(self, messenger: Messenger) -> None:
        """Tell every worker, those that come later too; one that dies while it is told is no reason to stop."""
        with answering():
            for pause_s in (0.1, 0.5, 2.0):
                try:
                    self._client.register_plugin(messenger)
                    break
                except OSError:  # Dask's of a broken connection
                    if self._client.status != "running":
                        raise
                    time.sleep(pause_s)
            else:
                self._client.register_plugin(messenger)
        self._told = True

    def close(self) -> None:
        """Close what the workers have open; a cluster that is gone has nothing open."""
        if self._client.status == "running":
            with suppress(OSError):
                if self._told:
                    self._client.unregister_worker_plugin(self._job.name)
                self._client.run(worker.release, on_error="ignore")

    def _count(self, attempts: Counter[Group], group: Group) -> None:
        """Count another attempt at a group of tiles; some are enough."""
        attempts[group] += 1
        if attempts[group] == _ATTEMPTS:
            raise BackendError(
                f"tiles {group.tiles[0]} to {group.tiles[-1]} were not mapped in {_ATTEMPTS} attempts; look at the "
                "workers' logs and memory"
            )

    def _mend(self, error: BaseException) -> None:
        """Do what is needed before a call is made once more; what cannot be mended is raised."""
        from distributed import KilledWorker

        if isinstance(error, MissingPlanError):
            self._send_plan(str(error))
        elif not isinstance(error, KilledWorker):
            with answering():
                raise error

    def _send_plan(self, host: str) -> None:
        """Send the plan to one worker of a machine that does not have it, once for all calls that missed it."""
        hosts = self._client.run(worker.host)
        there = [address for address, name in hosts.items() if name == host]
        if there and not self._client.run(worker.has_plan, self._job, workers=there[:1])[there[0]]:
            (content,) = self._client.scatter([self._plan.read_bytes()], workers=there[:1])
            sent = self._client.submit(worker.store_plan, content, self._job.plan_hash, workers=there[:1], pure=False)
            sent.result()


def _nobody(sentence: str) -> None:
    """Is told a sentence."""
