"""Segments on the processor, through OpenVINO."""

from .backend import CpuBackend

__all__ = ["CpuBackend"]
