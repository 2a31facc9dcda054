"""Calls on their way to the workers: a few more than there are workers, so that none of them waits.

A call that takes seconds costs nothing to send. One that takes milliseconds waits for messages, which Dask keeps back
for some milliseconds each way; so as many are on their way as come back in a moment, many in one message.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Generic, TypeVar

from ..errors import BackendError, UPerFuseError

__all__ = ["MOST_AHEAD", "Answer", "Window", "answering"]

MOST_AHEAD = 256
"""Calls for each worker that are on their way at most."""

_LEAST_AHEAD = 3
_MOMENT_S = 0.25
_COUNT_AGAIN_S = 2.0

_T = TypeVar("_T")


@dataclass(frozen=True)
class Answer(Generic[_T]):
    """What became of a call.

    Attributes:
        argument: what the function was called with.
        result: what it gave, where there is no error.
        error: what stopped it.
    """

    argument: _T
    result: Any
    error: BaseException | None


@contextmanager
def answering() -> Iterator[None]:
    """Where a cluster is asked.

    Raises:
        BackendError: it does not answer.
    """
    try:
        yield
    except UPerFuseError:
        raise
    except Exception as error:
        words = " ".join(str(error).split()) or type(error).__name__
        raise BackendError(
            f"the cluster does not answer any more: {words}; mend it, and go on with --resume"
        ) from error


class Window(Generic[_T]):
    """Sends calls as workers become free; a scheduler never has more of them than some for each worker.

    Args:
        client: Dask's.
        function: of a module, with one argument.
        arguments: in the order in which they are sent; they travel.

    Raises:
        BackendError: while it is iterated over: the cluster does not answer.
    """

    def __init__(self, client: Any, function: Callable[[_T], Any], arguments: Iterable[_T]) -> None:
        from distributed import as_completed

        self._client = client
        self._function = function
        self._again: deque[_T] = deque()
        self._waiting = iter(arguments)
        self._pending: dict[Any, _T] = {}
        self._arriving = as_completed()
        self._workers, self._ahead = 1, _LEAST_AHEAD
        self._counted, self._looked, self._arrived = -math.inf, time.monotonic(), 0

    def __enter__(self) -> Window[_T]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.cancel([*self._pending])

    def __iter__(self) -> Iterator[Answer[_T]]:
        """Answers, as calls end."""
        self._fill()
        for futures in self._arriving.batches():
            self._arrived += len(futures)
            with answering():
                answers = self._answers(futures)
            del futures  # one that is held here is kept by the scheduler
            self._fill()
            yield from answers
            self._fill()

    def again(self, argument: _T) -> None:
        """Call with this argument once more, ahead of those that wait."""
        self._again.append(argument)

    def _answers(self, futures: Sequence[Any]) -> list[Answer[_T]]:
        """What became of calls that ended; results are fetched together, what else there is one by one."""
        finished = [future for future in futures if future.status == "finished"]
        results = self._client.gather({future.key: future for future in finished}, errors="skip") if finished else {}
        return [self._answer(future, results.get(future.key)) for future in futures]

    def _answer(self, future: Any, result: Any) -> Answer[_T]:
        argument, error = self._pending.pop(future), None
        if result is None:  # it gave nothing, failed, was cancelled, or its worker died before the result was fetched
            try:
                result = future.result()
            except Exception as raised:  # noqa: BLE001  whatever stopped it is the answer
                error = raised.with_traceback(None)  # its frames would keep the future
        return Answer(argument, result, error)

    def _fill(self) -> None:
        """Send what there is room for, many at a time."""
        with answering():
            self._look()
        room = self._ahead - len(self._pending)
        if room < max(1, self._ahead // 4):
            return
        arguments = [*self._next(room)]
        if arguments:
            with answering():
                futures = self._client.map(self._function, arguments, pure=False)
            self._pending.update(zip(futures, arguments, strict=True))
            self._arriving.update(futures)

    def _next(self, room: int) -> Iterator[_T]:
        while room and self._again:
            yield self._again.popleft()
            room -= 1
        for _, argument in zip(range(room), self._waiting, strict=False):
            yield argument

    def _look(self) -> None:
        """See how many workers there are, who come and go, and how fast calls come back."""
        now = time.monotonic()
        if now - self._counted > _COUNT_AGAIN_S:
            self._counted, self._workers = now, max(1, len(self._client.nthreads()))
        if now - self._looked > _MOMENT_S:
            in_a_moment = math.ceil(self._arrived / (now - self._looked) * _MOMENT_S)
            self._ahead = min(max(in_a_moment, _LEAST_AHEAD * self._workers), MOST_AHEAD * self._workers)
            self._looked, self._arrived = now, 0
