"""Reading ahead: by one thread of this process or, where that does not keep up, by processes.

    tiles -> lanes, one for each reader -> read, each lane in its order -> tiles, of all lanes in turn

A process is started when the first tile is asked of it, and ends with the mapping process, whatever ends that. One that
dies is replaced, and its tile is read again.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from io import RawIOBase
from types import TracebackType
from typing import cast

from ..cores import usable_cores
from ..errors import RasterError, UPerFuseError
from ..own_process import python_command
from ..stopwatch import Stopwatch
from .files import UnreadableError
from .frames import receive, send
from .lanes import bytes_of_row, columns_that_fit, lanes
from .pace import readers_needed
from .run import Outcome
from .tile_reader import Answer, Reading, ReadTile, TileReader, unreadable

__all__ = ["Readers"]

_ATTEMPTS = 3
_LEAST_CACHE_BYTES = 64 * 2**20

_Read = Callable[[int], "Outcome | ReadTile"]


class Readers:
    """Read tiles while others are mapped.

    Args:
        count: how many; one is a thread of this process, more are processes. None begins with one, and may `grow`.
        reader: of this process.
        reading: what processes are to read.
        cache_bytes: of blocks that GDAL keeps, for all of them together.

    Attributes:
        messages: what the user should know of the reading.
        undecided: whether their number is still to be chosen, by `grow`.

    Raises:
        RasterError: there is none.
    """

    def __init__(self, count: int | None, *, reader: TileReader, reading: Reading, cache_bytes: int) -> None:
        if count is not None and count < 1:
            raise RasterError(f"{count} readers, expected at least 1; leave it out for as many as are needed")
        self._reader = reader
        self._reading = reading
        self._cache_bytes = cache_bytes
        self.undecided = count is None
        self._grown = 0
        self._by_rows = reader.layouts[0].in_strips
        own_bytes = self._equip(count or 1)
        self.messages = tuple(
            f"{layout.grid.file.name}: a tile needs blocks of {needed // 2**20} MB and {own_bytes // 2**20} MB are "
            "kept between tiles; written anew in smaller blocks, it is read faster"
            for layout in reader.layouts
            if (needed := bytes_of_row(layout, 1, tiling=reading.tiling, base=reader.grid)) > own_bytes
        )

    def _equip(self, count: int) -> int:
        """Have so many readers from now on; the bytes of blocks that each keeps."""
        own_bytes = self._cache_bytes if count == 1 else max(_LEAST_CACHE_BYTES, self._cache_bytes // count)
        self._count = count
        self._processes = [_Process(self._reading, own_bytes) for _ in range(count)] if count > 1 else []
        self._columns = columns_that_fit(
            self._reader.layouts, tiling=self._reading.tiling, base=self._reader.grid, cache_bytes=own_bytes
        )
        return own_bytes

    def grow(self, *, read_s: float, rest_s: float, tiles: int) -> None:
        """Choose how many read from now on; called between two readings.

        Args:
            read_s: that one reader takes for a tile.
            rest_s: that everything else takes for a tile.
            tiles: that are left.
        """
        self.undecided = False
        count = readers_needed(read_s=read_s, rest_s=rest_s, tiles=tiles, cores=usable_cores())
        if count > 1:
            self._grown = count
            self._equip(count)

    def __enter__(self) -> Readers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._processes:
            process.end()

    def read(self, tiles: Sequence[int], *, ahead: int, watch: Stopwatch) -> Generator[Outcome | ReadTile, None, None]:
        """Read tiles by their numbers.

        Args:
            tiles: which.
            ahead: how many are read before they are asked for, at most; more where there are more readers.
            watch: times the stage "read"; of several readers the mean.

        Yields:
            What is to be mapped of each tile, or what became of it; in an order that does not depend on their speed.

        Raises:
            UnreadableError: a tile cannot be read, and is not to be left void.
            RasterError: a file is gone, or another than when the run began.
            BackendError: a reader failed otherwise.
        """
        split = lanes(self._reading.tiling, tiles, count=self._count, by_rows=self._by_rows, columns=self._columns)
        if not self._processes:
            return _in_turn(split, [partial(self._read_here, watch=watch)], ahead=ahead, stop=_nothing)
        used = self._processes[: len(split)]
        for process in used:
            process.begin()
        reads = [partial(process.read, watch=watch, share=1 / len(split)) for process in used]
        return _in_turn(split, reads, ahead=max(ahead, 2 * len(split)), stop=self._stop)

    def remarks(self) -> list[str]:
        """What was remarkable of the reading, in words."""
        found = []
        if self._grown:
            found.append(f"reading set the pace of the first tiles; {self._grown} processes read the others")
        died = sum(process.died for process in self._processes)
        times = "once" if died == 1 else f"{died} times"
        if died:
            found.append(f"a reader died and was replaced, {times}; look at the memory of this machine")
        return found

    def _stop(self) -> None:
        """End all processes, in the middle of a tile if need be; there will be others."""
        for process in self._processes:
            process.stop()

    def _read_here(self, tile: int, *, watch: Stopwatch) -> Outcome | ReadTile:
        with watch.stage("read"):
            return self._reader.read(tile)


def _in_turn(
    split: Sequence[Sequence[int]], reads: Sequence[_Read], *, ahead: int, stop: Callable[[], None]
) -> Generator[Outcome | ReadTile, None, None]:
    """The first tile of each lane, then the second of each, and so on; each lane is read by a thread of its own.

    Where nobody asks for the rest, because of an error or Ctrl-C, `stop` is called so that no tile is waited for.
    """
    pools = [ThreadPoolExecutor(1, thread_name_prefix="read") for _ in split]
    pending: deque[Future[Outcome | ReadTile]] = deque()
    try:
        for lane, tile in _lane_and_tile(split):
            pending.append(pools[lane].submit(reads[lane], tile))
            if len(pending) > ahead:
                yield _taken(pending)
        while pending:
            yield _taken(pending)
    finally:
        for pool in pools:
            pool.shutdown(wait=False, cancel_futures=True)
        if pending:
            stop()
        for pool in pools:
            pool.shutdown(wait=True)


def _taken(pending: deque[Future[Outcome | ReadTile]]) -> Outcome | ReadTile:
    """The first that was asked for; it is pending until it is there."""
    found = pending[0].result()
    pending.popleft()
    return found


def _lane_and_tile(split: Sequence[Sequence[int]]) -> Iterator[tuple[int, int]]:
    for step in range(max(map(len, split), default=0)):
        for number, lane in enumerate(split):
            if step < len(lane):
                yield number, lane[step]


class _StoppedError(Exception):
    """Nobody waits for the tile any more."""


class _Process:
    """A process that reads; one that has died is replaced.

    Args:
        reading: what it is to read.
        cache_bytes: of blocks that it keeps.

    Attributes:
        died: how often it did, of itself.
    """

    def __init__(self, reading: Reading, cache_bytes: int) -> None:
        self._reading = reading
        self._cache_bytes = cache_bytes
        self._process: subprocess.Popen[bytes] | None = None
        self._starting = threading.Lock()
        self._stopped = False
        self.died = 0

    def begin(self) -> None:
        """Tiles are going to be asked for."""
        if self._stopped:
            self.end()
            self._stopped = False

    def read(self, tile: int, *, watch: Stopwatch, share: float) -> Outcome | ReadTile:
        """Read a tile; one thread at a time calls. Of the time that it takes, its share is counted."""
        status = 0
        for _ in range(_ATTEMPTS):
            process = self._running()
            try:
                answer = _asked(process, tile)
            except (EOFError, OSError):
                status = self.end()
                self.died += not self._stopped
                continue
            watch.add({"read": answer.seconds * share})
            if isinstance(answer.said, UPerFuseError):
                raise answer.said
            return answer.said
        place = self._reading.tiling[tile]
        error = UnreadableError(
            f"{place.core_words}: {_ATTEMPTS} readers died of it one after the other, the last {_words(status)}; look "
            "at the memory of this machine and at the rasters, or use --readers 1"
        )
        return unreadable(self._reading, tile, error)

    def stop(self) -> None:
        """Kill the process, from another thread than the one that reads."""
        with self._starting:
            self._stopped = True
            if self._process is not None:
                self._process.kill()

    def end(self) -> int:
        """End the process, if there is one; its exit status."""
        process, self._process = self._process, None
        if process is None:
            return 0
        process.kill()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()
        return process.wait()

    def _running(self) -> subprocess.Popen[bytes]:
        with self._starting:
            if self._stopped:
                raise _StoppedError
            if self._process is not None and self._process.poll() is not None:
                self.end()
                self.died += 1
            if self._process is not None:
                return self._process
            # In a session of its own Ctrl-C does not reach it, but the mapping process, which ends it.
            self._process = process = subprocess.Popen(  # noqa: S603  nothing in it comes from outside
                python_command("uperfuse.engine.rasters.reader_process"),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                bufsize=0,
                start_new_session=True,
            )
        with suppress(OSError):  # it has died already, which is noticed when it is asked
            send(cast(RawIOBase, process.stdin), (self._reading, self._cache_bytes))
        return process


def _asked(process: subprocess.Popen[bytes], tile: int) -> Answer:
    send(cast(RawIOBase, process.stdin), tile)
    answer = receive(cast(RawIOBase, process.stdout))
    assert isinstance(answer, Answer), "a reader answers so"
    return answer


def _words(status: int) -> str:
    """How a process ended."""
    return f"by {signal.Signals(-status).name}" if status < 0 and os.name != "nt" else f"with exit status {status}"


def _nothing() -> None:
    """A thread of this process cannot be stopped; its tile is waited for."""
