"""Everything on a GPU that belongs to one loaded plan, given back in the right order."""

from __future__ import annotations

from typing import Protocol

from .driver import Device
from .kernels import KernelSet
from .session import CudaSession

__all__ = ["Resources"]


class _Closes(Protocol):
    def close(self) -> None: ...


class Resources:
    """Holds the device, the engines, the kernels and the session.

    Attributes:
        device: where.
        session: None once it was closed.
    """

    def __init__(self, device: Device, *, engines: _Closes, kernels: KernelSet, session: CudaSession) -> None:
        self.device = device
        self.session: CudaSession | None = session
        self._engines = engines
        self._kernels = kernels

    def close(self) -> None:
        """Give everything back; safe twice."""
        session, self.session = self.session, None
        if session is None:
            return
        with self.device.current():
            session.drain()
            session.close()
            self._engines.close()
            self._kernels.close()
            self.device.free_buried()
        self.device.release()
