"""Where the segments of a plan run."""

from .base import Backend, Grid, Known, Residence
from .select import select_backend

__all__ = ["Backend", "Grid", "Known", "Residence", "select_backend"]
