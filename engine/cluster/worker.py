"""What a worker does: it loads the plan and opens the rasters once, maps tiles, and leaves their journals in a folder.

Everything runs in one thread of the process, whichever thread Dask calls from: GDAL's handles and settings belong to
the thread that made them, and an engine uses all its cores for one batch.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import TypeVar
from uuid import uuid4

from ..cache import cache_root
from ..engine import Engine
from ..errors import BackendError, PlanError, UPerFuseError
from ..plan.plan import Plan
from ..rasters.pipeline import Pipeline
from ..rasters.run import Journal, Outcome, differences
from ..rasters.work import Work, open_work
from ..stopwatch import Stopwatch
from .job import Errand, Group, Job, MissingPlanError, Share

__all__ = ["describe", "forget", "has_plan", "host", "learn", "map_tiles", "release", "store_plan"]

_T = TypeVar("_T")
_errands: dict[str, Errand] = {}


def host() -> str:
    """Name of the worker's machine."""
    return socket.gethostname()


def describe(job: Job) -> tuple[str, str, str]:
    """Device, precision and description of the engine of a job.

    Raises:
        MissingPlanError: the plan is not on this machine.
        BackendError: it cannot be loaded here.
    """

    def described() -> tuple[str, str, str]:
        engine = _Session.of(job).engine
        return engine.device, engine.precision, engine.describe()

    return _in_one_thread(described)


def learn(errand: Errand) -> None:
    """Hear of an errand, before its first group of tiles."""
    _errands[errand.job.name] = errand


def forget(job: str) -> None:
    """Forget the errand of the job of this name."""
    _errands.pop(job, None)


def map_tiles(group: Group) -> Share:
    """Map some tiles.

    Returns:
        Where the journal is; it has its name only when all of it is on the disk.

    Raises:
        MissingPlanError: the plan is not on this machine.
        BackendError: this machine sees other rasters, computes in another way, or never heard of the errand.
        RasterError: a tile cannot be read, or the journal cannot be written.
    """
    errand = _errands.get(group.job)
    if errand is None:
        raise BackendError(f"{host()} got tiles of an errand that it never heard of; start its worker again")

    def mapped() -> Share:
        session = _Session.of(errand.job)
        different = differences(errand.settings, session.work.settings)
        if different:
            raise BackendError(
                f"{host()} would make other maps: {'; '.join(different)}; give every worker the same rasters, device "
                "and precision"
            )
        return session.map(group.tiles, errand.shares)

    return _in_one_thread(mapped)


def has_plan(job: Job) -> bool:
    """Whether the plan of a job is on this machine."""
    return any(_is(path, job.plan_hash) for path in _places(job))


def store_plan(content: bytes, plan_hash: str) -> None:
    """Keep a plan for all workers of this machine.

    Raises:
        PlanError: it is another plan than it is said to be.
    """
    path = _stored(plan_hash)
    path.parent.mkdir(parents=True, exist_ok=True)
    working = path.with_suffix(f".{uuid4().hex}")
    try:
        working.write_bytes(content)
        if not _is(working, plan_hash):
            raise PlanError(f"the plan that {host()} was sent is not {plan_hash[:12]}; send it again")
        os.replace(working, path)
    finally:
        working.unlink(missing_ok=True)


def release() -> None:
    """Close what the worker has open."""
    _in_one_thread(_Session.close)


class _Session:
    """The plan and the rasters of one job, open; a worker has one at a time."""

    _now: _Session | None = None

    def __init__(self, job: Job) -> None:
        self.job = job
        with ExitStack() as opened:
            path = _plan_path(job)
            self.engine = opened.enter_context(
                Engine.load(
                    path,
                    device=job.device,
                    precision=job.precision,
                    threads=job.threads,
                    tile_px=job.tile_px,
                    prime_cache=job.prime_cache,
                )
            )
            self.work: Work = opened.enter_context(
                open_work(self.engine, job.scene, job.out, job.options, report=_unheard)
            )
            self._opened = opened.pop_all()

    @classmethod
    def of(cls, job: Job) -> _Session:
        """The session of a job; that of another job is closed."""
        if cls._now is None or cls._now.job.name != job.name:
            cls.close()
            cls._now = cls(job)
        return cls._now

    @classmethod
    def close(cls) -> None:
        """Close what is open."""
        session, cls._now = cls._now, None
        if session is not None:
            session._opened.close()

    def map(self, tiles: Sequence[int], shares: Path) -> Share:
        """Map tiles into a journal of their own."""
        outcomes: list[Outcome] = []
        watch = Stopwatch()
        Pipeline(self.engine, self.work, outcomes.append, watch, _nobody).map(tiles)
        working = shares / f"{uuid4().hex}.working"
        try:
            with watch.stage("keep"):
                journal = Journal(working)
                try:
                    journal.begin(self.work.settings)  # a share of another run is not taken for one of this
                    journal.keep(outcomes)
                finally:
                    journal.close()
            path = working.with_suffix(".share")
            os.replace(working, path)
        finally:
            working.unlink(missing_ok=True)
        return Share(path, tuple(tiles), watch.seconds)


def _unheard(sentence: str) -> None:
    """Is told how the rasters are understood, which the process that publishes the maps says."""


def _nobody(pixels: int) -> None:
    """Is told how many pixels are done."""


def _plan_path(job: Job) -> Path:
    """Where this machine has the plan."""
    for path in _places(job):
        if _is(path, job.plan_hash):
            return path
    raise MissingPlanError(host())


def _places(job: Job) -> tuple[Path, Path]:
    return job.plan, _stored(job.plan_hash)


def _stored(plan_hash: str) -> Path:
    return cache_root() / "plans" / f"{plan_hash}.plan"


def _is(path: Path, plan_hash: str) -> bool:
    """Whether a file is the plan that has this hash."""
    try:
        with Plan.open(path) as plan:
            return plan.hash == plan_hash
    except PlanError:
        return False


@cache
def _thread() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(1, thread_name_prefix="map")


def _in_one_thread(work: Callable[[], _T]) -> _T:
    try:
        return _thread().submit(work).result()
    except UPerFuseError as error:
        # what caused it may not travel, an error of GDAL for one, and would keep the error from travelling
        error.__cause__ = error.__context__ = None
        raise error.with_traceback(None) from None
