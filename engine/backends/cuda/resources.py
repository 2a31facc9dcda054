"""Everything on a GPU that belongs to one loaded plan, given back in the right order."""

from __future__ import annotations

from contextlib import suppress

from ...errors import BackendError
from .driver import Device, keep_for_good
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
        try:
            with self.device.current():
                with suppress(self.device.cuda.Error):
                    session.drain()
                session.close()
                self._parts.close()
                self._kernels.close()
                self.device.free_buried()
        except BackendError:  # the context is lost, and all that was in it went along
            keep_for_good(session, self._parts, self._kernels)
        finally:
            self.device.release()
