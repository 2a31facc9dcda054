"""Where the segments of a plan run."""

from .base import Backend, Pyramid, Session
from .cpu import CpuBackend
from .select import select_backend

__all__ = ["Backend", "CpuBackend", "Pyramid", "Session", "select_backend"]
