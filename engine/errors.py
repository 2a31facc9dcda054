"""The one tree of errors; every message says what, got, expected, and what to do."""

__all__ = ["BackendError", "CheckpointError", "KeyringError", "PlanError", "RasterError", "TileError", "UPerFuseError"]


class UPerFuseError(Exception):
    """Anything this project refuses, in one sentence."""


class PlanError(UPerFuseError):
    """A plan file that breaks a rule of its format."""


class RasterError(UPerFuseError):
    """A raster, scene or output that cannot be read, aligned or written."""


class TileError(UPerFuseError):
    """A tile whose modality, axes, type or values do not fit the plan."""


class BackendError(UPerFuseError):
    """A device or precision that cannot serve the plan."""


class CheckpointError(UPerFuseError):
    """Weights whose keys or shapes do not make one of the networks."""


class KeyringError(UPerFuseError):
    """Keys that are missing, damaged, or open to others."""
