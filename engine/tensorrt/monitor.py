"""How far a build has come, and how it is stopped.

TensorRT asks after each step whether to go on. An exception must not pass through its C++ code, so what the caller's
function raises, and Ctrl-C, are kept until TensorRT has returned. While it builds, Python runs no signal handler; the
number of a signal is written to a socket at once all the same, by whichever thread receives it.
"""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, cast

from .api import IProgressMonitor
from .flavour import Flavour

__all__ = ["Interruption", "Progress", "interruptible", "make_monitor"]

Progress = Callable[[str, int, int], None]
"""Called with the name of a phase, how many of its steps are done, and how many it has."""


class Interruption:
    """Whether the work is to stop, and why."""

    def __init__(self) -> None:
        self._woken: socket.socket | None = None
        self._lock = threading.Lock()
        self.by_signal = False
        self.error: BaseException | None = None

    def watch(self, woken: socket.socket | None) -> None:
        """Look for Ctrl-C at a socket that numbers of signals arrive at; None looks a last time."""
        _ = self.asked
        self._woken = woken

    @property
    def asked(self) -> bool:
        """Whether somebody asked to stop; from any thread."""
        with self._lock:
            if self._woken is not None and not self.by_signal:
                with suppress(BlockingIOError):
                    self.by_signal = signal.SIGINT in self._woken.recv(256)
            return self.by_signal or self.error is not None

    def raise_again(self) -> None:
        """Raise what stopped the work, if something did."""
        if self.error is not None:
            raise self.error
        if self.asked:
            raise KeyboardInterrupt


@contextmanager
def interruptible() -> Iterator[Interruption]:
    """Keep Ctrl-C from raising in the middle of TensorRT, and note it instead.

    Outside of the main thread, and where Ctrl-C is ignored or handled by somebody else, nothing is changed.
    """
    interruption = Interruption()
    ours = (
        threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    )
    if not ours:
        yield interruption
        return
    receiver, sender = socket.socketpair()
    with receiver, sender:
        receiver.setblocking(False)
        sender.setblocking(False)
        interruption.watch(receiver)
        handler = signal.signal(signal.SIGINT, _wait)
        woken = signal.set_wakeup_fd(sender.fileno(), warn_on_full_buffer=False)
        try:
            yield interruption
        finally:
            signal.set_wakeup_fd(woken)
            signal.signal(signal.SIGINT, handler)
            interruption.watch(None)


def make_monitor(flavour: Flavour, *, interruption: Interruption, progress: Progress | None) -> IProgressMonitor:
    """A monitor for TensorRT that tells `progress` of every step and stops the build when somebody asks."""
    base: Any = flavour.module.IProgressMonitor

    class Monitor(base):  # type: ignore[misc]  # the module is known only now
        def __init__(self) -> None:
            base.__init__(self)
            self._steps: dict[str, int] = {}
            self._lock = threading.Lock()

        def phase_start(self, phase: str, parent: str | None, steps: int) -> None:  # noqa: ARG002  TensorRT's signature
            with self._lock:
                self._steps[phase] = steps
            self._tell(phase, 0)

        def phase_finish(self, phase: str) -> None:
            with self._lock:
                self._steps.pop(phase, None)

        def step_complete(self, phase: str, step: int) -> bool:
            self._tell(phase, step + 1)
            return not interruption.asked

        def _tell(self, phase: str, done: int) -> None:
            with self._lock:
                steps = self._steps.get(phase, done)
            if progress is None or interruption.error is not None:
                return
            try:
                progress(phase, done, max(steps, done))
            except BaseException as error:  # noqa: BLE001  it is raised again when TensorRT has returned
                interruption.error = error

    return cast(IProgressMonitor, Monitor())


def _wait(signum: int, frame: FrameType | None) -> None:
    """Handler while TensorRT works: the socket has the signal's number."""
