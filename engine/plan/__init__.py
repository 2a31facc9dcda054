"""Plans: one file that holds a network, ready to run; see `manifest` for what it says and `container` for its bytes."""

from .manifest import Manifest
from .plan import Plan, write_plan

__all__ = ["Manifest", "Plan", "write_plan"]
