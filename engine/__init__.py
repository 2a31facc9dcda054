"""The runtime: a plan in, maps out. No PyTorch here.

Example:
    >>> with Engine.load(plan_path) as engine:
    ...     prediction = engine.predict(tiles)
"""

from .engine import Engine, Primed
from .errors import (
    BackendError,
    CheckpointError,
    KeyringError,
    PlanError,
    RasterError,
    TileError,
    UPerFuseError,
)
from .plan import Plan
from .prediction import Prediction

__all__ = [
    "BackendError",
    "CheckpointError",
    "Engine",
    "KeyringError",
    "Plan",
    "PlanError",
    "Prediction",
    "Primed",
    "RasterError",
    "TileError",
    "UPerFuseError",
]
