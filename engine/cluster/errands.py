"""How workers hear of an errand: those that are there at once, those that come later as they come."""

from __future__ import annotations

from typing import Any

from distributed import WorkerPlugin

from . import worker as here
from .job import Errand

__all__ = ["Messenger"]


class Messenger(WorkerPlugin):  # type: ignore[misc]  # distributed says no types
    """Tells a worker of an errand.

    Args:
        errand: that is told.
    """

    def __init__(self, errand: Errand) -> None:
        self.name = errand.job.name
        self._errand = errand

    def setup(self, worker: Any) -> None:  # noqa: ARG002  Dask's name
        """The worker is there."""
        here.learn(self._errand)

    def teardown(self, worker: Any) -> None:  # noqa: ARG002  Dask's name
        """The run is over, or the worker ends."""
        here.forget(self.name)
