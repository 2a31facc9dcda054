"""What is finished of a run, in one SQLite file.

A transaction is on the disk or it is not, whatever happens: `kill -9`, a power cut, a full disk. SQLite has this from
long practice, needs no server, and is a part of Python. Every map is stored compressed with a checksum (zlib's), so
that a disk that gives back something else is noticed.
"""

from __future__ import annotations

import json
import sqlite3
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, cast, get_args

import numpy as np
from numpy.typing import NDArray

from ...errors import RasterError

__all__ = ["DamagedJournalError", "Journal", "Outcome", "State"]

State = Literal["mapped", "void", "unreadable"]
"""Of a tile: its maps are known; nothing of it was seen or asked for; or its rasters could not be read."""

_FORMAT = 1
_SCHEMA = """
CREATE TABLE settings (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE tiles (tile INTEGER PRIMARY KEY, state TEXT NOT NULL, remarks TEXT NOT NULL);
CREATE TABLE maps (tile INTEGER NOT NULL, map TEXT NOT NULL, data BLOB NOT NULL, PRIMARY KEY (tile, map));
CREATE TABLE notes (name TEXT PRIMARY KEY);
"""
_ONE_MAP = """
SELECT state, data FROM tiles LEFT JOIN maps ON maps.tile = tiles.tile AND maps.map = ? WHERE tiles.tile = ?
"""


class DamagedJournalError(RasterError):
    """The file is no journal, or not all of it is what was written."""

    @classmethod
    def of(cls, path: Path, reason: object) -> DamagedJournalError:
        """The error, in words."""
        return cls(f"{path} is damaged: {reason}; begin anew with --restart")


@dataclass(frozen=True)
class Outcome:
    """What became of one tile.

    Attributes:
        tile: its number in the tiling.
        state: see `State`.
        remarks: modality -> what the user should know of it in this tile; why it is unreadable under "".
        maps: name -> what the tile gives of a map, uint8 in any shape; none unless it is mapped.
    """

    tile: int
    state: State
    remarks: Mapping[str, str] = field(default_factory=dict)
    maps: Mapping[str, NDArray[np.uint8]] = field(default_factory=dict)


class Journal:
    """The finished tiles of one run; one process at a time has it open.

    Args:
        path: the file; made where there is none.

    Raises:
        RasterError: another process has it open, it is damaged, or was written by another version.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with self._guarded():
            self._base = sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)
        try:
            with self._guarded():
                # one file and no helper process; so it also serves on shares, where locks of readers are not to be had
                self._base.execute("PRAGMA locking_mode = EXCLUSIVE")
                self._base.execute("PRAGMA journal_mode = TRUNCATE")
                self._base.execute("PRAGMA synchronous = FULL")
                with self._transaction():
                    # asked within: what a process left half made that was killed is undone when this begins
                    if self._is_empty():
                        self._create()
                ((version,),) = self._base.execute("PRAGMA user_version").fetchall()
            if version != _FORMAT:
                raise RasterError(
                    f"{path} has format {version}, expected {_FORMAT}; go on with the version of uperfuse that began "
                    "the run, or begin anew with --restart"
                )
        except BaseException:  # Ctrl-C, too, leaves the file to others
            self._base.close()
            raise

    def close(self) -> None:
        """Close the file; another process may open it."""
        self._base.close()

    def settings(self) -> dict[str, str]:
        """What the run was begun with; empty before `begin`."""
        with self._guarded():
            return dict(self._base.execute("SELECT name, value FROM main.settings").fetchall())

    def begin(self, settings: Mapping[str, str]) -> None:
        """Keep what the run is begun with."""
        with self._guarded(), self._transaction():
            self._base.executemany("INSERT INTO settings VALUES (?, ?)", settings.items())

    def note(self, name: str) -> None:
        """Keep that the run has come to a point."""
        with self._guarded(), self._transaction():
            self._base.execute("INSERT OR IGNORE INTO notes VALUES (?)", (name,))

    def noted(self, name: str) -> bool:
        """Whether the run has come to a point."""
        with self._guarded():
            return bool(self._base.execute("SELECT 1 FROM notes WHERE name = ?", (name,)).fetchall())

    def keep(self, outcomes: Iterable[Outcome]) -> None:
        """Keep some tiles: all of them or, with an error, none.

        Raises:
            RasterError: the disk does not take them.
        """
        with self._guarded(), self._transaction():
            for outcome in outcomes:
                remarks = json.dumps(dict(outcome.remarks))
                self._base.execute(
                    "INSERT OR REPLACE INTO tiles VALUES (?, ?, ?)", (outcome.tile, outcome.state, remarks)
                )
                self._base.executemany(
                    "INSERT OR REPLACE INTO maps VALUES (?, ?, ?)",
                    ((outcome.tile, name, _packed(values)) for name, values in outcome.maps.items()),
                )

    def absorb(self, path: Path) -> None:
        """Keep all tiles of another journal, which nobody has open; none of one that was begun with other settings.

        Raises:
            RasterError: the disk does not take them, or gives back something else.
        """
        with self._guarded():
            self._base.execute("ATTACH ? AS other", (str(path),))
            try:
                theirs = dict(self._base.execute("SELECT name, value FROM other.settings").fetchall())
                if theirs == self.settings():
                    with self._transaction():
                        self._base.execute("INSERT OR REPLACE INTO tiles SELECT * FROM other.tiles")
                        self._base.execute("INSERT OR REPLACE INTO maps SELECT * FROM other.maps")
            finally:
                self._base.execute("DETACH other")

    def tiles(self) -> dict[int, State]:
        """State of every tile that was kept."""
        with self._guarded():
            rows = self._base.execute("SELECT tile, state FROM tiles").fetchall()
        return {tile: self._known(state) for tile, state in rows}

    def outcome(self, tile: int) -> Outcome:
        """A tile that was kept, without its maps; see `map`."""
        with self._guarded():
            rows = self._base.execute("SELECT state, remarks FROM tiles WHERE tile = ?", (tile,))
            ((state, remarks),) = rows.fetchall()
            return Outcome(tile, self._known(state), json.loads(remarks))

    def outcomes(self) -> Iterator[Outcome]:
        """Every tile that was kept, by its number, without its maps; see `map`."""
        return (self.outcome(tile) for tile in sorted(self.tiles()))

    def map(self, tile: int, name: str) -> NDArray[np.uint8] | None:
        """What a tile gives of a map, flat; None of a tile that is not mapped.

        Raises:
            RasterError: what the disk gives back is not what was kept.
        """
        with self._guarded():
            ((state, packed),) = self._base.execute(_ONE_MAP, (name, tile)).fetchall()
            if self._known(state) != "mapped":
                return None
            if packed is None:
                raise DamagedJournalError.of(self.path, f"a tile was kept without its part of {name}")
            return _unpacked(packed)

    def _is_empty(self) -> bool:
        return not self._base.execute("SELECT name FROM sqlite_master LIMIT 1").fetchall()

    def _create(self) -> None:
        for statement in _SCHEMA.strip().split(";\n"):
            self._base.execute(statement)
        self._base.execute(f"PRAGMA user_version = {_FORMAT}")

    def _known(self, state: str) -> State:
        if state not in get_args(State):
            raise DamagedJournalError.of(self.path, f"a tile is {state!r}")
        return cast(State, state)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._base.execute("BEGIN EXCLUSIVE")
        try:
            yield
            self._base.execute("COMMIT")
        except BaseException:  # a transaction is not left open, whatever ends it
            if self._base.in_transaction:
                self._base.execute("ROLLBACK")
            raise

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        """What SQLite and zlib report, as a RasterError."""
        try:
            yield
        except sqlite3.OperationalError as error:
            said = str(error)
            if "locked" in said:
                raise RasterError(f"another process works on {self.path.parent}; wait for it, or stop it") from None
            raise RasterError(
                f"{self.path} cannot be written: {said}; mend the disk, make room, and go on with --resume"
            ) from error
        except (sqlite3.DatabaseError, zlib.error, ValueError) as error:
            raise DamagedJournalError.of(self.path, error) from error


def _packed(values: NDArray[np.uint8]) -> bytes:
    return zlib.compress(values.tobytes(), 1)


def _unpacked(data: bytes) -> NDArray[np.uint8]:
    return np.frombuffer(zlib.decompress(data), np.uint8)
