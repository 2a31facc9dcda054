"""What a process does that reads tiles for the one that maps; `readers.py` starts it.

    standard input: a Reading and bytes of cache, then numbers of tiles -> standard output: an Answer for each number

It ends when its input does, at once and in the middle of a tile: so it does when the mapping process is gone, however
that went.
"""

from __future__ import annotations

import os
import queue
import threading
import time
from io import FileIO

from ..errors import BackendError, UPerFuseError
from .frames import receive, send
from .tile_reader import Answer, Reading, TileReader

__all__ = ["main"]


def main() -> None:
    """Read what is asked for until nobody asks any more."""
    requests, answers = FileIO(os.dup(0), "r"), FileIO(os.dup(1), "w")
    os.dup2(2, 1)  # whatever prints goes where it disturbs no answer
    reading, cache_bytes = receive(requests)
    asked: queue.SimpleQueue[int] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(requests, asked), daemon=True).start()
    try:
        _answer(reading, cache_bytes, asked, answers)
    except BrokenPipeError:
        os._exit(0)


def _listen(requests: FileIO, asked: queue.SimpleQueue[int]) -> None:
    try:
        while True:
            asked.put(receive(requests))
    except (EOFError, OSError):
        os._exit(0)


def _answer(reading: Reading, cache_bytes: int, asked: queue.SimpleQueue[int], answers: FileIO) -> None:
    try:
        with reading.opened(cache_bytes=cache_bytes) as reader:
            while True:
                send(answers, _read(reader, asked.get()))
    except UPerFuseError as error:  # of the opening; that is the answer to whatever is asked
        send(answers, Answer(error, 0.0))


def _read(reader: TileReader, tile: int) -> Answer:
    start = time.perf_counter()
    try:
        return Answer(reader.read(tile), time.perf_counter() - start)
    except UPerFuseError as error:
        return Answer(error, 0.0)
    except Exception as error:  # noqa: BLE001  not every error travels; in words, each does
        words = " ".join(f"{type(error).__name__}: {error}".split())
        return Answer(BackendError(f"a reader failed at tile {tile}: {words}; read with --readers 1 to see where"), 0.0)
