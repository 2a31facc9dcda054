"""Calls on their way to the workers: a few more than there are workers, so that none of them waits."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any

__all__ = ["Call", "Window"]

_AHEAD = 3
_COUNT_AGAIN_S = 2.0


@dataclass(frozen=True)
class Call:
    """A function of a module, and what it is called with; both travel."""

    function: Callable[..., Any]
    arguments: tuple[Any, ...]


class Window:
    """Sends calls as workers become free; a scheduler never has more of them than a few for each worker.

    Args:
        client: Dask's.
        calls: in the order in which they are sent.
    """

    def __init__(self, client: Any, calls: Iterable[Call]) -> None:
        from distributed import as_completed

        self._client = client
        self._calls = iter(calls)
        self._pending: dict[Any, Call] = {}
        self._arriving = as_completed()
        self._counted, self._workers = -math.inf, 1

    def __enter__(self) -> Window:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.cancel([*self._pending])

    def __iter__(self) -> Iterator[tuple[Call, Any]]:
        """Calls with their futures, as they end."""
        self._fill()
        for future in self._arriving:
            yield self._pending.pop(future), future
            self._fill()

    def send(self, call: Call) -> None:
        """Send a call now, ahead of those that wait."""
        future = self._client.submit(call.function, *call.arguments, pure=False)
        self._pending[future] = call
        self._arriving.add(future)

    def _fill(self) -> None:
        now = time.monotonic()
        if now - self._counted > _COUNT_AGAIN_S:  # workers come and go
            self._counted, self._workers = now, max(1, len(self._client.nthreads()))
        while len(self._pending) < _AHEAD * self._workers:
            call = next(self._calls, None)
            if call is None:
                return
            self.send(call)
