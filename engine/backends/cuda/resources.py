"""Everything on a GPU that belongs to one loaded plan, given back in the right order."""

from __future__ import annotations

from .driver import Device
from .kernels import KernelSet
from .parts import Parts
from .session import CudaSession

__all__ = ["Resources"]


class Resources:
    """Holds the device, the parts, the kernels and the session.

    Attributes:
        device: where.
        session: None once it was closed.
    """

    def __init__(self, device: Device, *, parts: Parts, kernels: KernelSet, session: CudaSession) -> None:
        self.device = device
        self.session: CudaSession | None = session
        self._parts = parts
        self._kernels = kernels

    def close(self) -> None:
        """Give everything back; safe twice."""
        session, self.session = self.session, None
        if session is None:
            return
        with self.device.current():
            session.drain()
            session.close()
            self._parts.close()
            self._kernels.close()
            self.device.free_buried()
        self.device.release()
