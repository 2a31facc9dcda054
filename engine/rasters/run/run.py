"""The folder of a run, and the thread that keeps what is finished."""

from __future__ import annotations

import queue
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ...errors import RasterError
from .journal import DamagedJournalError, Journal, Outcome, State
from .settings import differences

__all__ = ["Begin", "Run"]

Begin = Literal["new", "resume", "restart"]
"""What to do with a run that was interrupted: refuse to begin another, go on with it, or throw it away."""

_JOURNAL = "journal.sqlite"
_WORK = "work"
_SHARE = ".share"
_PUBLISHING = "publishing"
_WAITING = 16
_COMMIT_SECONDS = 1.0


class Run:
    """A run that is kept in a folder while it lasts, and gone when its maps have their names.

    Args:
        folder: of the run; its parent is made where it does not exist.
        settings: what the maps depend on.
        begin: what to do with an interrupted run in the folder.
        tiles: how many the run has.
        report: is told what is kept when the run is interrupted.

    Raises:
        RasterError: another process works on the run, it was begun with other settings, or `begin` is "new" and there
            is an interrupted run.
    """

    def __init__(
        self,
        folder: Path,
        settings: Mapping[str, str],
        *,
        begin: Begin,
        tiles: int,
        report: Callable[[str], None],
    ) -> None:
        self.folder = folder
        self._tiles = tiles
        self._report = report
        self._parents = [parent for parent in folder.parents if not parent.exists()]
        new = not folder.exists()
        folder.mkdir(parents=True, exist_ok=True)
        try:
            self._journal = self._opened(settings, begin)
        except BaseException:  # nor does Ctrl-C leave an empty folder behind
            if new:
                self._remove()
            raise
        self._keeper = _Keeper(self._journal)
        self._published = False

    @property
    def work(self) -> Path:
        """Folder for files of which nothing is needed after an interruption; empty at first."""
        folder = self.folder / _WORK
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        return folder

    @property
    def finished(self) -> Mapping[int, State]:
        """Tiles that were kept before this process began, but for those that could not be read."""
        return self._finished

    @property
    def publishing(self) -> bool:
        """Whether maps may have got their names already."""
        return self._journal.noted(_PUBLISHING)

    def keep(self, outcome: Outcome) -> None:
        """Keep a tile, within a second or so.

        Raises:
            RasterError: an earlier one could not be kept.
        """
        self._keeper.put(outcome)

    def absorb(self, share: Path) -> None:
        """Keep all tiles of a journal that another process made, within a second or so; its file goes then.

        Raises:
            RasterError: an earlier one could not be kept.
        """
        self._keeper.put(share)

    def outcomes(self) -> Iterator[Outcome]:
        """Every tile of the run, by its number, without its maps; all are on the disk before the first is given."""
        self._keeper.finish()
        return self._journal.outcomes()

    def map(self, tile: int, name: str) -> NDArray[np.uint8] | None:
        """What a tile gives of a map, flat; None of a tile that is not mapped. To be asked for after `outcomes`.

        Raises:
            RasterError: what the disk gives back is not what was kept.
        """
        return self._journal.map(tile, name)

    def begin_publishing(self) -> None:
        """From here on, maps get their names."""
        self._journal.note(_PUBLISHING)

    def end_publishing(self) -> None:
        """The maps have their names; the folder goes when the context ends."""
        self._published = True

    @property
    def write_seconds(self) -> float:
        """Time spent on compressing and writing, beside everything else."""
        return self._keeper.seconds

    def __enter__(self) -> Run:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._keeper.close()
            if not self._published:
                self._absorb_shares(self._journal)
        finally:
            kept = 0 if self._published else len(self._journal.tiles())
            self._journal.close()
            if kept:
                shutil.rmtree(self.folder / _WORK, ignore_errors=True)
                self._report(f"{kept} of {self._tiles} tiles are kept in {self.folder}; go on from there with --resume")
            else:
                self._remove()

    def _opened(self, settings: Mapping[str, str], begin: Begin) -> Journal:
        path = self.folder / _JOURNAL
        if begin == "restart":
            _throw_away(path)
        journal = Journal(path)
        try:
            before = journal.settings()
            if before:
                self._check(journal, before, settings, begin)
            else:
                journal.begin(settings)
            self._absorb_shares(journal)
            self._finished = {tile: state for tile, state in journal.tiles().items() if state != "unreadable"}
        except BaseException:
            journal.close()
            raise
        return journal

    def _check(self, journal: Journal, before: Mapping[str, str], settings: Mapping[str, str], begin: Begin) -> None:
        if begin == "new":
            raise RasterError(
                f"an interrupted run is kept in {self.folder}, with {len(journal.tiles())} of {self._tiles} tiles; go "
                "on with --resume, or throw it away with --restart"
            )
        changed = differences(before, settings)
        if changed:
            raise RasterError(
                f"the run in {self.folder} was begun otherwise: {'; '.join(changed)}; go on with what it was begun "
                "with, or throw it away with --restart"
            )

    def _absorb_shares(self, journal: Journal) -> None:
        """Keep what other processes have left of this run; what they left of another goes."""
        for share in self.folder.glob(f"*/*{_SHARE}"):
            journal.absorb(share)
            share.unlink()

    def _remove(self) -> None:
        """Take the folder away; the journal last, for whatever is left without it is nobody's."""
        shutil.rmtree(self.folder / _WORK, ignore_errors=True)
        shutil.rmtree(self.folder, ignore_errors=True)
        for parent in self._parents:
            if any(parent.iterdir()):
                break
            parent.rmdir()


def _throw_away(path: Path) -> None:
    """Remove a journal, unless another process has it open."""
    with suppress(DamagedJournalError):
        Journal(path).close()
    path.unlink()


class _Keeper:
    """Writes outcomes to the journal in a thread of its own, many in one transaction."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._waiting: queue.Queue[Outcome | Path | None] = queue.Queue(_WAITING)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name="keep")
        self._thread.start()
        self.seconds = 0.0

    def put(self, outcome: Outcome | Path) -> None:
        self._raise()
        self._waiting.put(outcome)

    def finish(self) -> None:
        """Wait until everything is on the disk; nothing may be put afterwards."""
        self.close()
        self._raise()

    def close(self) -> None:
        if self._thread.is_alive():
            self._waiting.put(None)
            self._thread.join()

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

    def _work(self) -> None:
        ended = False
        while not ended:
            outcomes, shares, ended = self._collected()
            start = time.perf_counter()
            if self._error is None:  # after an error only the queue is emptied
                try:
                    self._keep(outcomes, shares)
                except BaseException as error:  # noqa: BLE001  raised again in the thread that puts
                    self._error = error
            self.seconds += time.perf_counter() - start

    def _keep(self, outcomes: list[Outcome], shares: list[Path]) -> None:
        if outcomes:
            self._journal.keep(outcomes)
        for share in shares:
            self._journal.absorb(share)
            share.unlink()

    def _collected(self) -> tuple[list[Outcome], list[Path], bool]:
        """What arrives within a second or so, and whether that was all."""
        outcomes: list[Outcome] = []
        shares: list[Path] = []
        until = time.monotonic() + _COMMIT_SECONDS
        while len(outcomes) + len(shares) < _WAITING:
            some = outcomes or shares
            try:
                arrived = self._waiting.get(timeout=max(0.0, until - time.monotonic()) if some else None)
            except queue.Empty:
                break
            if arrived is None:
                return outcomes, shares, True
            if not some:
                until = time.monotonic() + _COMMIT_SECONDS
            if isinstance(arrived, Path):
                shares.append(arrived)
            else:
                outcomes.append(arrived)
        return outcomes, shares, False
