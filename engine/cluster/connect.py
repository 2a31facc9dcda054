"""Clusters by name: one that runs already, one that Slurm starts, or processes of this machine."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ..cores import usable_cores
from ..errors import BackendError
from .window import MOST_AHEAD

__all__ = ["Cluster", "open_cluster"]

_LOCAL = "local:"
_PATIENCE_S = 60
_LOG_LENGTH = 100


@dataclass(frozen=True)
class Cluster:
    """A cluster that is connected.

    Attributes:
        client: Dask's.
        threads: processor threads for each worker; None leaves it to the worker.
    """

    client: Any
    threads: int | None

    @property
    def dashboard(self) -> str:
        """Address of the page that shows what the workers do."""
        return str(self.client.dashboard_link)


@contextmanager
def open_cluster(where: str, *, threads: int | None = None) -> Iterator[Cluster]:
    """Connect to a cluster, or start one that ends with the context.

    Args:
        where: "local:4" for four processes of this machine, a YAML file of settings for Slurm (those of
            `dask_jobqueue.SLURMCluster`, and `jobs`: how many of them), or the address of a scheduler, "tcp://node1:8786".
        threads: processor threads for each worker; None shares those of this machine among local ones, and lets others
            take all that they may use.

    Raises:
        BackendError: there is none, or what is needed is not installed.
    """
    try:
        import distributed
    except ImportError:
        raise BackendError("a cluster needs distributed; install uperfuse[cluster]") from None
    if where.startswith(_LOCAL):
        count = _count(where.removeprefix(_LOCAL), where)
        threads = threads or max(1, usable_cores() // count)
        with (
            _quick_calls(),
            distributed.LocalCluster(
                n_workers=count, threads_per_worker=1, dashboard_address=":0", silence_logs=logging.CRITICAL
            ) as cluster,
            distributed.Client(cluster) as client,
        ):
            yield Cluster(client, threads)
    elif Path(where).suffix in (".yaml", ".yml"):
        with _quick_calls(), _slurm(Path(where)) as cluster, distributed.Client(cluster) as client:
            yield Cluster(client, threads)
    else:
        try:
            client = distributed.Client(where, timeout=_PATIENCE_S)
        except (OSError, ValueError) as error:
            raise BackendError(
                f"no scheduler answers at {where}: {error}; start one with `dask scheduler`, and workers with "
                "`dask worker ADDRESS --nthreads 1`"
            ) from error
        with client:
            yield Cluster(client, threads)


def _quick_calls() -> AbstractContextManager[object]:
    """Settings of a scheduler that is started here.

    Dask's own keeps all but one or two of a worker's calls back, and between quick ones a worker waits for messages;
    here a window leaves it few anyway. And it keeps its last thousand messages, of many calls each.
    """
    import dask

    return dask.config.set(
        {"distributed.scheduler.worker-saturation": MOST_AHEAD, "distributed.admin.low-level-log-length": _LOG_LENGTH}
    )


def _count(text: str, where: str) -> int:
    if not text.isdecimal() or not int(text):
        raise BackendError(f"cluster is {where!r}, expected a number of processes; write local:4")
    return int(text)


def _slurm(path: Path) -> Any:
    try:
        import dask_jobqueue
    except ImportError:
        raise BackendError("a cluster of Slurm needs dask-jobqueue; install uperfuse[cluster]") from None
    try:
        settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise BackendError(f"{path} cannot be read: {' '.join(str(error).split())}; mend the file") from None
    if not isinstance(settings, dict):
        raise BackendError(f"{path} holds no settings, expected those of dask_jobqueue.SLURMCluster, such as queue")
    jobs = settings.pop("jobs", 1)
    try:
        cluster = dask_jobqueue.SLURMCluster(**settings)
    except (TypeError, ValueError) as error:
        raise BackendError(f"{path}: {error}; see the settings of dask_jobqueue.SLURMCluster") from error
    cluster.scale(jobs=jobs)
    return cluster
